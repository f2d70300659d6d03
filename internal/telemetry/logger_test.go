package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/secret"
)

func TestEveryLogLineIsSanitizedAndCorrelated(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo).With("password", "hunter1").WithGroup("http")
	ctx := WithCorrelation(context.Background(), "corr-1")
	log.InfoContext(ctx, "saw Bearer abcdef123456", "headers", map[string][]string{"Authorization": {"x"}}, slog.Group("inner", "refresh_token", "hunter2"),
		slog.Group("credentials", "header", "hunter3"), "pin", logged{"hunter4"}, "body", json.RawMessage(`{"id_token":"hunter5"}`),
		"error", errors.New("with sk_live_"+"51Habcdefghijkl"))
	line := out.String()
	for _, hidden := range []string{"hunter", "abcdef123456", "51Habc", `"x"`} {
		if strings.Contains(line, hidden) {
			t.Errorf("%s is in %s", hidden, line)
		}
	}
	var fields map[string]any
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil {
		t.Fatal(err)
	}
	if fields["password"] != secret.Redacted || !strings.Contains(line, `"correlation_id":"corr-1"`) || !strings.Contains(line, "with "+secret.Redacted) {
		t.Errorf("the line is %s", line)
	}
}

// logged renders itself for the log, with a secret in it.
type logged struct{ password string }

// LogValue is the group that stands for it.
func (l logged) LogValue() slog.Value { return slog.GroupValue(slog.String("password", l.password)) }

// BenchmarkLogLine is what a usual line costs, with slog alone beside it.
func BenchmarkLogLine(b *testing.B) {
	failure := errors.New("dial tcp 10.0.0.1:5432: connect: connection refused")
	for _, one := range []struct {
		name string
		log  *slog.Logger
	}{
		{"slog", slog.New(correlated{slog.NewJSONHandler(struct{ io.Writer }{io.Discard}, nil)})},
		{"sanitized", NewLogger(io.Discard, slog.LevelInfo)},
	} {
		b.Run(one.name, func(b *testing.B) {
			ctx := WithCorrelation(b.Context(), "K3JX7QK2M5TZ4V6W8Y9A2B3C4D")
			b.ReportAllocs()
			for b.Loop() {
				one.log.InfoContext(ctx, "request", "method", "POST", "path", "/api/v1/allocations/alloc_mfrggzdfmztwq2lknnwg23tpob/release",
					"status", 202, "duration_ms", 12, "error", failure)
			}
		})
	}
}
