// Package telemetry carries what ties a request to its traces: the correlation id in the context, the log handler that writes
// it beside every line, and the spans. What goes out passes domain/secret first. It may import domain and OpenTelemetry.
package telemetry

import "context"

type correlationKey struct{}

// WithCorrelation returns a context that carries the correlation id of the request in hand.
func WithCorrelation(ctx context.Context, correlationID string) context.Context {
	return context.WithValue(ctx, correlationKey{}, correlationID)
}

// Correlation is the correlation id in hand, empty when there is none.
func Correlation(ctx context.Context) string {
	correlationID, _ := ctx.Value(correlationKey{}).(string)
	return correlationID
}
