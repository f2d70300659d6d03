package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/gpuaas/gpuaas/domain/secret"
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

// sanitizeAttr is what slog calls for every attribute, the message included, and for what is inside a group; the names of
// the groups around it count as much as its own.
func sanitizeAttr(groups []string, attr slog.Attr) slog.Attr {
	for _, group := range groups {
		if secret.Name(group) {
			return slog.String(attr.Key, secret.Redacted)
		}
	}
	switch attr.Value.Kind() {
	case slog.KindString:
		text := attr.Value.String()
		if text == "" {
			return attr
		}
		if secret.Name(attr.Key) {
			return slog.String(attr.Key, secret.Redacted)
		}
		if clean := secret.Text(text); len(clean) != len(text) || clean != text {
			return slog.String(attr.Key, clean)
		}
		return attr
	case slog.KindAny:
		return slog.Any(attr.Key, secret.Sanitize(attr.Key, attr.Value.Any()))
	case slog.KindBool, slog.KindGroup:
		return attr
	default:
		if secret.Name(attr.Key) {
			return slog.String(attr.Key, secret.Redacted)
		}
		return attr
	}
}
