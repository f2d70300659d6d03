//go:build integration

package ratelimit

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
)

func newLimiter(t testing.TB, config redis.Config) *Limiter {
	return New(redistest.Open(t, config), slog.New(slog.DiscardHandler))
}

// atOnce is how many ask at the same time: more than a busy machine's Redis answers within a limiter's patience would test
// what happens without it.
const atOnce = 32

// crowd asks from many goroutines at once and counts who was let through.
func crowd(t *testing.T, requests int, limiters ...*Limiter) (allowed int64) {
	t.Helper()
	var count, local atomic.Int64
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range atOnce {
		running.Go(func() {
			<-begin
			for n := i; n < requests; n += atOnce {
				decision := limiters[(n/atOnce+i)%len(limiters)].Take(t.Context(), "crowd", 300, Lenient)
				if decision.Allowed {
					count.Add(1)
				}
				if decision.Local {
					local.Add(1)
				}
			}
		})
	}
	close(begin)
	running.Wait()
	if n := local.Load(); n > 0 {
		t.Fatalf("%d requests were decided without Redis", n)
	}
	return count.Load()
}

// A thousand in a crowd get exactly what a full bucket holds, and what has flown back meanwhile: 5 a second.
func TestExactlyTheBudgetUnderConcurrency(t *testing.T) {
	limiter := newLimiter(t, redis.Config{URL: redistest.Server(t).URL(), Prefix: "t:"})
	began := time.Now()
	allowed := crowd(t, 1000, limiter)
	back := int64(time.Since(began).Seconds()*5) + 1
	if allowed < 300 || allowed > 300+back {
		t.Errorf("%d of 1000 were let through in %v, not 300 and at most %d more", allowed, time.Since(began), back)
	}
}

func TestReplicasShareOneBudget(t *testing.T) {
	config := redis.Config{URL: redistest.Server(t).URL(), Prefix: "t:"}
	began := time.Now()
	allowed := crowd(t, 1000, newLimiter(t, config), newLimiter(t, config))
	back := int64(time.Since(began).Seconds()*5) + 1
	if allowed < 300 || allowed > 300+back {
		t.Errorf("two replicas let %d through in %v", allowed, time.Since(began))
	}
}

func TestWhatADecisionSays(t *testing.T) {
	limiter := newLimiter(t, redistest.Config(t))
	first := limiter.Take(t.Context(), "a", 2, Lenient)
	second := limiter.Take(t.Context(), "a", 2, Lenient)
	third := limiter.Take(t.Context(), "a", 2, Lenient)
	if !first.Allowed || first.Remaining != 1 || first.RetryAfter != 0 || first.Reset != 30*time.Second || first.Limit != 2 {
		t.Errorf("the first is %+v", first)
	}
	if !second.Allowed || second.Remaining != 0 || second.Reset <= 59*time.Second || second.Reset > time.Minute || second.RetryAfter > 30*time.Second {
		t.Errorf("the second is %+v", second)
	}
	if third.Allowed || third.RetryAfter <= 29*time.Second || third.RetryAfter > 30*time.Second {
		t.Errorf("the third is %+v", third)
	}
	if known, still := limiter.Refused("a", 2); !still || known.Allowed || known.RetryAfter > third.RetryAfter {
		t.Errorf("the refusal is remembered as %+v, %v", known, still)
	}
}

// A limit that an operator changes counts at once, on a bucket that is in use.
func TestAChangedLimitCountsOnARunningBucket(t *testing.T) {
	limiter := newLimiter(t, redistest.Config(t))
	for range 10 {
		limiter.Take(t.Context(), "a", 10, Lenient)
	}
	if got := limiter.Take(t.Context(), "a", 10, Lenient); got.Allowed {
		t.Fatalf("an empty bucket gives %+v", got)
	}
	// Empty stays empty, and fills as fast as the new limit says: one in a millisecond.
	deadline := time.Now().Add(10 * time.Second)
	for !limiter.Take(t.Context(), "a", 60_000, Lenient).Allowed {
		if time.Now().After(deadline) {
			t.Fatal("a raised limit does not count")
		}
	}
	if got := limiter.Take(t.Context(), "a", 1, Lenient); got.Allowed {
		t.Errorf("a lowered limit gives %+v", got)
	}
}

// A clock of Redis that is ahead and then set back locks nobody out for longer than a window.
func TestABucketFromTheFutureIsBounded(t *testing.T) {
	config := redistest.Config(t)
	client, limiter := redistest.Open(t, config), newLimiter(t, config)
	ahead := time.Now().Add(time.Hour).UnixMicro()
	if err := client.Set(t.Context(), client.Key("rate", "a"), ahead, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := limiter.Take(t.Context(), "a", 60, Lenient); got.Allowed || got.Reset > Window || got.RetryAfter > time.Second {
		t.Errorf("a bucket of another clock gives %+v", got)
	}
}

// A flushed Redis forgets who asked and the script: everybody begins with a full bucket, nobody gets an error.
func TestAFlushedRedisBeginsAnew(t *testing.T) {
	server := redistest.Server(t)
	limiter := newLimiter(t, redis.Config{URL: server.URL(), Prefix: "t:"})
	for range 3 {
		limiter.Take(t.Context(), "a", 2, Strict)
	}
	client := redistest.Open(t, redis.Config{URL: server.URL(), Prefix: "t:"})
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if got := limiter.Take(t.Context(), "b", 2, Strict); !got.Allowed || got.Local || got.Remaining != 1 {
		t.Errorf("after a flush the first request gets %+v", got)
	}
}

// A Redis that is away leaves each process to itself: leniently with the whole budget, strictly with a quarter; when it is back it
// is used again.
func TestRedisAwayAndBack(t *testing.T) {
	server := redistest.Server(t)
	limiter := newLimiter(t, redis.Config{URL: server.URL(), Prefix: "t:"})
	if got := limiter.Take(t.Context(), "a", 8, Lenient); !got.Allowed || got.Local {
		t.Fatalf("with Redis: %+v", got)
	}
	server.Kill()
	count := func(bucket string, away Away) (allowed int) {
		for range 20 {
			got := limiter.Take(t.Context(), bucket, 8, away)
			if !got.Local {
				t.Fatalf("decided by a dead Redis: %+v", got)
			}
			if got.Allowed {
				allowed++
			}
		}
		return allowed
	}
	if n := count("lenient", Lenient); n != 8 {
		t.Errorf("leniently %d were let through, not 8", n)
	}
	if n := count("strict", Strict); n != 2 {
		t.Errorf("strictly %d were let through, not 2", n)
	}
	redistest.Start(t, server.Config())
	deadline := time.Now().Add(20 * time.Second)
	for limiter.Take(t.Context(), "back", 1_000_000, Lenient).Local {
		if time.Now().After(deadline) {
			t.Fatal("Redis is back and not used")
		}
	}
}

// A hanging Redis costs a request a quarter of a second once, and the next ones nothing.
func TestRedisHangs(t *testing.T) {
	server := redistest.Server(t)
	limiter := newLimiter(t, redis.Config{URL: server.URL(), Prefix: "t:"})
	limiter.Take(t.Context(), "a", 1000, Lenient)
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Signal(syscall.SIGCONT) })
	began := time.Now()
	for range 100 {
		if got := limiter.Take(t.Context(), "a", 1000, Lenient); !got.Allowed || !got.Local {
			t.Fatalf("a hanging Redis decides %+v", got)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("100 requests waited %v for a hanging Redis", took)
	}
}

func BenchmarkTake(b *testing.B) {
	if os.Getenv("GPUAAS_TEST_REDIS_SERVER") == "" {
		b.Skip("no real redis-server is at hand")
	}
	limiter := newLimiter(b, redistest.Config(b))
	b.Run("redis", func(b *testing.B) {
		for b.Loop() {
			limiter.Take(b.Context(), "a", 1_000_000, Lenient)
		}
	})
	b.Run("refused", func(b *testing.B) {
		for b.Loop() {
			limiter.Take(b.Context(), "r", 1, Lenient)
		}
	})
	away := newLimiter(b, redistest.Away())
	b.Run("away", func(b *testing.B) {
		for b.Loop() {
			away.Take(b.Context(), "a", 1_000_000, Lenient)
		}
	})
}
