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
	handler := healthHandler(slog.New(slog.DiscardHandler), http.NotFoundHandler(), probes, func() map[string]int64 { return map[string]int64{"lag_ms": 7} })
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

func TestTheInternalAddressIsNoPublicOne(t *testing.T) {
	for address, fine := range map[string]bool{
		"": true, "127.0.0.1:8090": true, "[::1]:8090": true, "10.2.3.4:8090": true, "[fd00::1]:8090": true, "localhost:8090": true, "metrics.internal:8090": true,
		":8090": false, "0.0.0.0:8090": false, "[::]:8090": false, "203.0.113.7:8090": false, "[2001:db8::1]:8090": false, "8090": false,
	} {
		if mistakes := (HealthConfig{Address: address}).Check(); (len(mistakes) == 0) != fine {
			t.Errorf("of %q it says %q", address, mistakes)
		}
	}
}
