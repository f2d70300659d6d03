package temporal

import (
	"log/slog"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"

	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// MetricsHandler has the SDK measure its workers and its requests by a meter; nil where nothing is measured.
func MetricsHandler(meter *telemetry.Meter, log *slog.Logger) client.MetricsHandler {
	if meter == nil {
		return nil
	}
	return opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: meter.OpenTelemetry(telemetry.TemporalScope), UseMonotonicCounters: true,
		OnError: func(err error) { log.Warn("Temporal's SDK could not measure something", "error", err.Error()) },
	})
}
