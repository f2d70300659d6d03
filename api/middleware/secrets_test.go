package middleware

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

func TestAnEnvelopeCarriesNoSecret(t *testing.T) {
	envelope := NewEnvelope(fault.Newf(fault.ValidationError, "There is no policy key %q.", "Bearer hunter2345").With(map[string]any{
		"errors": []map[string]any{{"location": "body.password", "value": map[string]any{"password": "hunter2"}}}, "limit": 3,
	}), "corr-1")
	content, err := json.Marshal(envelope)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(content); strings.Contains(text, "hunter2") || !strings.Contains(text, `"body.password"`) || !strings.Contains(text, `"limit":3`) {
		t.Errorf("the envelope is %s", text)
	}
}

func TestAPanicIsReportedWithoutItsSecrets(t *testing.T) {
	type login struct{ Username, Password string }
	for name, panicked := range map[string]any{
		"text": "no token=hunter2", "error": errors.New("dial postgres://gpuaas:hunter2@db/x"), "struct": &login{"bob", "hunter2"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			answer := httptest.NewRecorder()
			Correlate(Log(telemetry.NewLogger(&out, slog.LevelInfo), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(panicked) }))).
				ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/x", nil))
			if answer.Code != http.StatusInternalServerError || strings.Contains(answer.Body.String(), "hunter2") {
				t.Errorf("the answer is %d %s", answer.Code, answer.Body)
			}
			if log := out.String(); strings.Contains(log, "hunter2") || !strings.Contains(log, secret.Redacted) || !strings.Contains(log, "secrets_test.go") {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

func TestEveryRequestIsOneSpan(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracing, err := telemetry.NewTracing(t.Context(), exporter, "test", "1")
	if err != nil {
		t.Fatal(err)
	}
	router := http.NewServeMux()
	log := slog.New(slog.DiscardHandler)
	router.HandleFunc("GET /things/{thing}", func(w http.ResponseWriter, r *http.Request) {
		WriteFault(w, r, log, fault.Wrap(errors.New("dial redis://:hunter2@cache"), fault.ServiceUnavailable, ""))
	})
	handler := Correlate(Trace(tracing, Log(log, router)))
	for _, path := range []string{"/things/gpuaas_api_abcdefgh12345678?token=hunter2", "/nothing"} {
		request := httptest.NewRequest(http.MethodGet, path, nil)
		request.Header.Set(HeaderCorrelationID, "corr-1")
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
	if err := tracing.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := exporter.GetSpans()
	if len(spans) != 2 || spans[0].Name != "GET /things/{thing}" || spans[1].Name != "GET" || len(spans[0].Events) != 1 {
		t.Fatalf("the spans are %+v", spans)
	}
	said := map[attribute.Key]attribute.Value{}
	for _, one := range spans[0].Attributes {
		said[one.Key] = one.Value
	}
	if said["http.response.status_code"].AsInt64() != 503 || said["gpuaas.correlation_id"].AsString() != "corr-1" || said["http.route"].AsString() != "GET /things/{thing}" {
		t.Errorf("the span says %v", said)
	}
	content, err := json.Marshal(spans)
	if err != nil || strings.Contains(string(content), "hunter2") || strings.Contains(string(content), "abcdefgh12345678") {
		t.Errorf("%s, %v", content, err)
	}
}

func TestTracingThatIsOffIsNotThere(t *testing.T) {
	next := http.NewServeMux()
	if Trace(nil, next) != http.Handler(next) {
		t.Error("something stands before the handler")
	}
}
