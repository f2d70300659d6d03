package middleware

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// Trace makes one span of every request, named by the pattern of its route: a path holds ids, and a query what somebody
// should not have put there. It stands inside Correlate and outside Log, so that a panic is a status by then. Tracing that
// is off costs nothing.
func Trace(tracing *telemetry.Tracing, next http.Handler) http.Handler {
	if tracing == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := tracing.Serve(r.Context(), r.Header, r.Method, attribute.String("http.request.method", r.Method),
			attribute.String("url.path", r.URL.Path), attribute.String("gpuaas.correlation_id", telemetry.Correlation(r.Context())))
		defer span.End()
		watched, r := &statusWriter{ResponseWriter: w}, r.WithContext(ctx)
		next.ServeHTTP(watched, r)
		if r.Pattern != "" { // the router wrote it into the request it was given
			span.SetName(r.Pattern)
			span.SetAttributes(attribute.String("http.route", r.Pattern))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", watched.status))
		if watched.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(watched.status))
		}
	})
}
