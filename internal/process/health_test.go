package process

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAProgramIsReadyWhenAllItNeedsIs(t *testing.T) {
	var trouble error
	probes := []probe{{"postgres", func(context.Context) error { return nil }}, {"nats", func(context.Context) error { return trouble }}}
	handler := healthHandler(slog.New(slog.DiscardHandler), probes, func() map[string]int64 { return map[string]int64{"lag_ms": 7} })
	ask := func(path string) (int, standing) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		var body standing
		if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		return recorder.Code, body
	}
	if status, body := ask("/readyz"); status != http.StatusOK || body.Status != "ready" || body.Figures["lag_ms"] != 7 {
		t.Errorf("with everything there it answers %d %+v", status, body)
	}
	trouble = errors.New("away")
	if status, body := ask("/readyz"); status != http.StatusServiceUnavailable || body.Status != "not_ready" || !body.Dependencies[0].Ready || body.Dependencies[1].Ready {
		t.Errorf("without NATS it answers %d %+v", status, body)
	}
	if status, _ := ask("/healthz"); status != http.StatusOK {
		t.Errorf("alive, it answers %d", status)
	}
}
