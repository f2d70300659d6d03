// Package telemetry carries what ties a request to its traces: the correlation id in the context, the log handler that writes
// it beside every line, the spans, and the metrics, all of which are listed in Catalogue. Logs and spans pass domain/secret first; a metric's
// labels are words of our own. It may import domain, OpenTelemetry and Prometheus's library.
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
