package telemetry

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/gpuaas/gpuaas/domain/secret"
)

func TestNoSecretLeavesInASpan(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracing, err := NewTracing(t.Context(), exporter, "test", "1")
	if err != nil {
		t.Fatal(err)
	}
	other := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	ctx, span := tracing.Serve(t.Context(), http.Header{}, "GET /x?token=hunter2", attribute.String("url.path", "/x"))
	span.SetAttributes(attribute.String("password", "hunter2"), attribute.Int("api_token", 424242), attribute.Bool("secret", true),
		attribute.String("db.url", "postgres://gpuaas:hunter2@db/x"), attribute.StringSlice("lines", []string{"kept", "Authorization: Bearer hunter2"}),
		attribute.StringSlice("http.request.header.cookie", []string{"a=hunter2"}))
	span.AddEvent("said token=hunter2", trace.WithAttributes(attribute.String("body", `{"refresh_token":"hunter2"}`)))
	span.AddLink(trace.Link{SpanContext: other, Attributes: []attribute.KeyValue{attribute.String("note", "client_secret=hunter2")}})
	RecordError(ctx, errors.New("dial redis://:hunter2@cache: refused"))
	span.SetStatus(codes.Error, "password=hunter2")
	span.End()
	if err := tracing.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := exporter.GetSpans()
	if len(spans) != 1 {
		t.Fatalf("%d spans were exported", len(spans))
	}
	content, err := json.Marshal(spans)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	if strings.Contains(text, "hunter2") || strings.Contains(text, "424242") {
		t.Errorf("a secret is in %s", text)
	}
	if redactions := strings.Count(text, secret.Redacted); redactions != 11 {
		t.Errorf("%d redactions in %s", redactions, text)
	}
	for _, kept := range []string{"kept", "postgres://gpuaas:", "refused", "/x"} {
		if !strings.Contains(text, kept) {
			t.Errorf("%s is gone from %s", kept, text)
		}
	}
	if err := tracing.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestASpanContinuesTheCallersTrace(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracing, err := NewTracing(t.Context(), exporter, "test", "1")
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracing.Serve(t.Context(), http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}, "GET /x")
	span.End()
	if err := tracing.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := exporter.GetSpans()
	if len(spans) != 1 || spans[0].SpanContext.TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" || spans[0].Parent.SpanID().String() != "00f067aa0ba902b7" {
		t.Errorf("the spans are %+v", spans)
	}
}

func TestTracingIsOffWithoutAnEndpoint(t *testing.T) {
	tracing, err := StartTracing(t.Context(), "", "test", "1", nil)
	if tracing != nil || err != nil || tracing.Stop(t.Context()) != nil {
		t.Errorf("%v, %v", tracing, err)
	}
}
