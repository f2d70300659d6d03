//go:build integration

package redis_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
)

// eventually asks until the answer is as it should be.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

func TestCommandsPassAndTheirRefusalsAreNoOutage(t *testing.T) {
	client := redistest.Open(t, redistest.Config(t))
	if err := client.Set(t.Context(), client.Key("a", "b"), "v", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(t.Context(), client.Key("nothing")).Result(); !errors.Is(err, goredis.Nil) || errors.Is(err, redis.ErrAway) {
		t.Errorf("an absent key gives %v", err)
	}
	if err := client.LPush(t.Context(), client.Key("a", "b"), "v").Err(); err == nil || errors.Is(err, redis.ErrAway) {
		t.Errorf("a command on another type gives %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.Get(gone, client.Key("a", "b")).Err(); !errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrAway) {
		t.Errorf("a caller that left gets %v", err)
	}
	if err := client.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if value, err := client.Get(t.Context(), client.Key("a", "b")).Result(); err != nil || value != "v" {
		t.Errorf("after refusals the value is %q, %v", value, err)
	}
}

// What should expire expires by itself, on the embedded server too.
func TestTheClockOfTheServerRuns(t *testing.T) {
	client := redistest.Open(t, redistest.Config(t))
	if err := client.Set(t.Context(), client.Key("short"), "v", 50*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key expires", func() bool {
		return errors.Is(client.Get(t.Context(), client.Key("short")).Err(), goredis.Nil)
	})
}

// A Redis that is dead costs a request next to nothing, and is used again when it is back.
func TestADeadRedisIsNotWaitedFor(t *testing.T) {
	server := redistest.Server(t)
	client := redistest.Open(t, redis.Config{URL: server.URL(), Prefix: "t:"})
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.ErrAway) {
		t.Fatalf("a killed Redis gives %v", err)
	}
	const requests = 1000
	began := time.Now()
	for range requests {
		if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.ErrAway) {
			t.Fatalf("while Redis is away a command gives %v", err)
		}
	}
	if each := time.Since(began) / requests; each > 100*time.Microsecond {
		t.Errorf("while Redis is away a command costs %v", each)
	}
	if _, err := client.Pipelined(t.Context(), func(p goredis.Pipeliner) error { p.Get(t.Context(), "k"); return nil }); !errors.Is(err, redis.ErrAway) {
		t.Errorf("a pipeline gives %v", err)
	}
	if client.Ready(t.Context()) == nil {
		t.Error("a dead Redis is ready")
	}
	redistest.Start(t, server.Config())
	eventually(t, "Redis is used again", func() bool { return client.Set(t.Context(), "k", "new", 0).Err() == nil })
}

// One that hangs costs the first who ask a quarter of a second, once.
func TestAHangingRedisCostsOneTimeOut(t *testing.T) {
	server := redistest.Server(t)
	client := redistest.Open(t, redis.Config{URL: server.URL(), Prefix: "t:"})
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.ErrAway) {
		t.Fatalf("a hanging Redis gives %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a hanging Redis holds a command up for %v", took)
	}
	began = time.Now()
	for range 100 {
		_ = client.Get(t.Context(), "k").Err()
	}
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("100 more commands took %v", took)
	}
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Redis is used again", func() bool { return client.Get(t.Context(), "k").Val() == "v" })
}

// A server that takes connections and answers nothing, as a wrong address behind a firewall may, is no different.
func TestASilentPeerIsAway(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	client := redistest.Open(t, redis.Config{URL: "redis://" + silent.Addr().String(), Prefix: "t:"})
	began := time.Now()
	if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.ErrAway) {
		t.Fatalf("a silent peer gives %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a silent peer holds a command up for %v", took)
	}
}

func TestAWrongPasswordIsAway(t *testing.T) {
	config := redistest.Server(t).Config()
	client := redistest.Open(t, redis.Config{URL: "redis://default:wrong@127.0.0.1:" + strconv.Itoa(config.Port), Prefix: "t:"})
	if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.ErrAway) {
		t.Errorf("a wrong password gives %v", err)
	}
}
