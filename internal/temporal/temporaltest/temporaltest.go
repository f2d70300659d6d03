// Package temporaltest gives a test a namespace of its own on a real Temporal server. It needs
// GPUAAS_TEST_TEMPORAL_ADDRESS, which `make test-integration` sets.
package temporaltest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/temporal"
)

const (
	patience = time.Minute
	interval = 100 * time.Millisecond
)

// New registers a namespace with these Keyword search attributes and answers how to reach it. The namespace stays
// behind with its retention: the server it lives on is a test's own.
func New(t testing.TB, keywords ...string) temporal.Config {
	t.Helper()
	address := os.Getenv("GPUAAS_TEST_TEMPORAL_ADDRESS")
	if address == "" {
		t.Fatal("GPUAAS_TEST_TEMPORAL_ADDRESS is not set: run `make test-integration`, which starts a real Temporal server")
	}
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails since Go 1.24
	config := temporal.Config{Address: address, Namespace: "test-" + hex.EncodeToString(random)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := temporal.RegisterNamespace(ctx, config, 24*time.Hour, keywords); err != nil {
		t.Fatal(err)
	}
	return config
}

// Eventually repeats a check until it passes; when it does not in time, its last error fails the test.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	timeout := time.After(within)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-timeout:
			t.Fatal(fmt.Errorf("not within %s: %w", within, err))
		case <-tick.C:
		}
	}
}
