package middleware

import (
	"net/http"
	"strconv"
	"time"

	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// unmatchedOperation stands for every address that the router knows nothing of.
const unmatchedOperation = "unmatched"

// Measure counts every request and how long its answer took, by the operation that operations names for the pattern of its route; a page that
// is none has its pattern. It stands inside Trace and outside Log, so that a panic is a status by then. A nil meter costs nothing.
func Measure(meter *telemetry.Meter, operations map[string]string, next http.Handler) http.Handler {
	if meter == nil {
		return next
	}
	requests, durations := meter.Counter(telemetry.HTTPRequests), meter.Histogram(telemetry.HTTPRequestDuration)
	inFlight := meter.Level(telemetry.HTTPRequestsInFlight)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began, watched := time.Now(), &statusWriter{ResponseWriter: w}
		ctx := r.Context()
		inFlight.Move(ctx, 1)
		defer func() {
			inFlight.Move(ctx, -1)
			operation := unmatchedOperation
			if r.Pattern != "" { // the router wrote it into the request it was given
				operation = r.Pattern
			}
			if named, known := operations[r.Pattern]; known {
				operation = named
			}
			requests.Add(ctx, 1, operation, strconv.Itoa(watched.status))
			if watched.status != http.StatusSwitchingProtocols { // how long a socket stays open says nothing about us
				durations.Record(ctx, time.Since(began).Seconds(), operation)
			}
		}()
		next.ServeHTTP(watched, r)
	})
}
