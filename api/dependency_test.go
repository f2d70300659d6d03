//go:build integration

package api_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/internal/temporal"
)

// Without the workflow engine the API reads, says what is missing, and refuses to start work as a dependency's fault.
func TestWithoutTheWorkflowEngine(t *testing.T) {
	w := &world{Database: storetest.New(t), t: t}
	w.publishKeys()
	w.exec(`INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
		VALUES ('h100-8x', 'h100', 'NVIDIA H100', 8, 1, 'cpu', 1, 1, 1, 'ubuntu', '12.8', 'here')`)
	ctx, cancel := context.WithCancel(context.Background())
	listening := make(chan string, 1)
	var running sync.WaitGroup
	running.Go(func() {
		err := process.RunAPI(ctx, process.APIConfig{
			Database: process.DatabaseConfig{URL: w.AppURL, MaxConnections: 4}, Temporal: temporal.Config{Address: "127.0.0.1:1", Namespace: "none"}, Redis: redistest.Away(),
			Log: process.LogConfig{Logger: slog.New(slog.DiscardHandler)}, Address: "127.0.0.1:0", IDSecret: strings.Repeat("i", 32),
			OIDC:      oidc.Config{Issuer: w.issuer, Audiences: []string{"gpuaas-api"}, Clients: []string{"gpuaas-api"}},
			Listening: func(address string) { listening <- address },
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the API ended: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	w.base = "http://" + <-listening

	if live := w.ask("GET", "/healthz", "", "", ""); live.status != 200 {
		t.Errorf("liveness is %d", live.status)
	}
	ready := w.ask("GET", "/readyz", "", "", "")
	if body := string(ready.body); ready.status != 503 || !strings.Contains(body, `{"name":"postgres","ready":true}`) || !strings.Contains(body, `{"name":"temporal","ready":false,`) ||
		!strings.Contains(body, `{"name":"redis","ready":false,`) {
		t.Errorf("readiness is %d %s", ready.status, body)
	}
	alice := w.token("alice")
	if listed := w.ask("GET", "/api/v1/skus", alice, "", ""); listed.status != 200 {
		t.Errorf("the catalogue answers %d %s", listed.status, listed.body)
	}
	before := w.rows()
	w.want(w.ask("POST", "/api/v1/allocations", alice, "k", create("train")), 503, "service_unavailable")
	if after := w.rows(); after["idempotency_records"] != before["idempotency_records"] || after["allocations"] != 0 {
		t.Errorf("rows were %v and are %v", before, after)
	}
}
