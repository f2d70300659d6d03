package telemetry

import (
	"context"
	"io"
	"log/slog"
)

// NewLogger writes JSON lines at or above level, each with the correlation id in hand and without secrets.
func NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(correlated{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: sanitizeAttr})})
}

// correlated adds the correlation id of the context to every record.
type correlated struct{ slog.Handler }

// Handle writes the record with its correlation id.
func (h correlated) Handle(ctx context.Context, record slog.Record) error {
	if correlationID := Correlation(ctx); correlationID != "" {
		record = record.Clone()
		record.AddAttrs(slog.String("correlation_id", correlationID))
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs keeps the correlation id in derived loggers.
func (h correlated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return correlated{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the correlation id in derived loggers.
func (h correlated) WithGroup(name string) slog.Handler { return correlated{h.Handler.WithGroup(name)} }
