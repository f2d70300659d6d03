package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/gpuaas/gpuaas/domain/secret"
)

// Tracing makes spans and exports them. A nil Tracing is tracing that is off: whoever has one asks for nil and does nothing.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// scope names the code that makes the spans.
const scope = "github.com/gpuaas/gpuaas"

// StartTracing exports spans by OTLP over HTTP to an endpoint, of which /v1/traces is added, as OpenTelemetry specifies
// OTEL_EXPORTER_OTLP_ENDPOINT. An empty endpoint is tracing that is off, and nil. The exporter reads its other OTEL_…
// variables itself. A collector that is away costs spans and nothing else.
func StartTracing(ctx context.Context, endpoint, program, version string, log *slog.Logger) (*Tracing, error) {
	if endpoint == "" {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("trace to %s: %w", endpoint, err)
	}
	// OpenTelemetry keeps one handler for a process; the default one writes past our log.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.WarnContext(ctx, "tracing had trouble", "error", err) }))
	return NewTracing(ctx, exporter, program, version)
}

// NewTracing exports spans by an exporter, in batches and without secrets.
func NewTracing(ctx context.Context, exporter sdktrace.SpanExporter, program, version string) (*Tracing, error) {
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "gpuaas-"+program), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this program to the traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(sanitizing{exporter}))
	return &Tracing{provider: provider, tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(version))}, nil
}

// Stop exports what is left and ends tracing.
func (t *Tracing) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Flush exports what has ended so far.
func (t *Tracing) Flush(ctx context.Context) error { return t.provider.ForceFlush(ctx) }

// Serve begins the span of a request that came in with these headers, as a child of the caller's if they carry one (W3C
// Trace Context).
func (t *Tracing) Serve(ctx context.Context, headers map[string][]string, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(headers))
	return t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
}

// RecordError tells the span in hand, if there is one, what went wrong.
func RecordError(ctx context.Context, err error) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.RecordError(err)
	}
}

// sanitizing is what every span passes on its way out.
type sanitizing struct{ sdktrace.SpanExporter }

// ExportSpans exports the spans without secrets.
func (s sanitizing) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	clean := make([]sdktrace.ReadOnlySpan, 0, len(spans))
	for _, span := range spans {
		clean = append(clean, cleanSpan{span})
	}
	return s.SpanExporter.ExportSpans(ctx, clean)
}

// cleanSpan is a span whose texts have passed secret.Text, and whose attributes are judged by their names as well.
type cleanSpan struct{ sdktrace.ReadOnlySpan }

// Name is the span's.
func (s cleanSpan) Name() string { return secret.Text(s.ReadOnlySpan.Name()) }

// Attributes are the span's.
func (s cleanSpan) Attributes() []attribute.KeyValue {
	return cleanAttributes(s.ReadOnlySpan.Attributes())
}

// Status is the span's, with its description.
func (s cleanSpan) Status() sdktrace.Status {
	status := s.ReadOnlySpan.Status()
	status.Description = secret.Text(status.Description)
	return status
}

// Events are the span's, recorded errors among them.
func (s cleanSpan) Events() []sdktrace.Event {
	events := s.ReadOnlySpan.Events()
	clean := make([]sdktrace.Event, 0, len(events))
	for _, event := range events {
		event.Name, event.Attributes = secret.Text(event.Name), cleanAttributes(event.Attributes)
		clean = append(clean, event)
	}
	return clean
}

// Links are the span's.
func (s cleanSpan) Links() []sdktrace.Link {
	links := s.ReadOnlySpan.Links()
	clean := make([]sdktrace.Link, 0, len(links))
	for _, link := range links {
		link.Attributes = cleanAttributes(link.Attributes)
		clean = append(clean, link)
	}
	return clean
}

func cleanAttributes(attributes []attribute.KeyValue) []attribute.KeyValue {
	clean := make([]attribute.KeyValue, 0, len(attributes))
	for _, one := range attributes {
		switch {
		case one.Value.Type() == attribute.BOOL:
		case secret.Name(string(one.Key)):
			one.Value = attribute.StringValue(secret.Redacted)
		case one.Value.Type() == attribute.STRING:
			one.Value = attribute.StringValue(secret.Text(one.Value.AsString()))
		case one.Value.Type() == attribute.STRINGSLICE:
			texts := one.Value.AsStringSlice()
			for i := range texts { // AsStringSlice answers a copy
				texts[i] = secret.Text(texts[i])
			}
			one.Value = attribute.StringSliceValue(texts)
		}
		clean = append(clean, one)
	}
	return clean
}
