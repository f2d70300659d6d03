// Package redistest gives a test a place of its own in a Redis, or a whole server to stop and kill. It needs
// GPUAAS_TEST_REDIS_URL, which `make test-integration` sets, and GPUAAS_TEST_REDIS_SERVER for servers of its own.
package redistest

import (
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redisserver"
)

// Config is the Redis of all tests with a key prefix that nobody else has.
func Config(t testing.TB) redis.Config {
	t.Helper()
	url := os.Getenv("GPUAAS_TEST_REDIS_URL")
	if url == "" {
		t.Fatal("GPUAAS_TEST_REDIS_URL is not set: run `make test-integration`, or `bin/devstack run` with the part redis")
	}
	return redis.Config{URL: url, Prefix: Prefix()}
}

// Prefix is a key prefix that nobody else has.
func Prefix() string { return "test-" + strings.ToLower(rand.Text()) + ":" }

// Away is a Redis that nobody runs.
func Away() redis.Config { return redis.Config{URL: "redis://127.0.0.1:1/0", Prefix: "away:"} }

// Server starts a real redis-server for t alone. Where only the embedded server is at hand, the test is skipped and
// counted as skipped.
func Server(t testing.TB) *redisserver.Server {
	t.Helper()
	binary := os.Getenv("GPUAAS_TEST_REDIS_SERVER")
	if binary == "" {
		t.Skip("no real redis-server is at hand: install Redis 7, and run with GPUAAS_REDIS=real")
	}
	return Start(t, redisserver.Config{Binary: binary, Directory: t.TempDir()})
}

// Start runs a server until t ends, or until the test ends it.
func Start(t testing.TB, config redisserver.Config) *redisserver.Server {
	t.Helper()
	server, err := redisserver.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server
}

// Open makes a client until t ends.
func Open(t testing.TB, config redis.Config) *redis.Client {
	t.Helper()
	client, err := redis.Open(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
