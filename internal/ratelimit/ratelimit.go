// Package ratelimit says whether one more request fits a budget that all replicas share: a bucket that holds a minute's
// requests and fills evenly (GCRA), kept in Redis, taken from by one atomic script. While Redis is away each process keeps
// buckets of its own. Whose budget it is and what is answered, api/middleware decides. It imports internal/redis.
package ratelimit

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gpuaas/gpuaas/internal/redis"
)

// Window is the time in which an empty bucket fills.
const Window = time.Minute

// Away is what holds while Redis is away.
type Away int

const (
	// Lenient allows each process the whole budget.
	Lenient Away = iota
	// Strict allows each process a share of the budget, so that several together do not allow much more than it.
	Strict
)

// strictShare divides the budget of a process on its own.
const strictShare = 4

// rememberRefusal bounds for how long a refusal is repeated without asking Redis: a flood costs nothing, and a raised
// limit counts after a second.
const rememberRefusal = time.Second

// Decision is the answer to one request.
type Decision struct {
	Allowed bool
	// Limit is how many requests a full bucket allows, Remaining how many it still does.
	Limit, Remaining int64
	// RetryAfter is the time until one more is allowed, 0 if one is now. Reset is the time until the bucket is full.
	RetryAfter, Reset time.Duration
	// Local says that it was decided without Redis.
	Local bool
}

//go:embed take.lua
var takeText string

// Limiter decides. It is safe for concurrent use.
type Limiter struct {
	redis  *redis.Client
	script *goredis.Script
	log    *slog.Logger
	own    *buckets

	mutex   sync.RWMutex
	refused map[string]refusal
}

type refusal struct {
	decision Decision
	at       time.Time
}

// New makes a limiter on a Redis.
func New(client *redis.Client, log *slog.Logger) *Limiter {
	return &Limiter{redis: client, script: goredis.NewScript(takeText), log: log, own: newBuckets(), refused: map[string]refusal{}}
}

// Take asks for one request out of a bucket that allows perMinute, at least 1. It always decides: without Redis as away says.
func (l *Limiter) Take(ctx context.Context, bucket string, perMinute int64, away Away) Decision {
	now := time.Now()
	if known, still := l.refusal(bucket, perMinute, now); still {
		return known
	}
	decision, err := l.shared(ctx, bucket, perMinute)
	if err != nil {
		if !errors.Is(err, redis.ErrAway) && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "a rate limit is decided without Redis", "error", err.Error())
		}
		return l.alone(bucket, perMinute, away, now)
	}
	if !decision.Allowed {
		l.remember(bucket, decision, now)
	}
	return decision
}

// Refused answers a refusal of this bucket that still holds, without taking anything.
func (l *Limiter) Refused(bucket string, perMinute int64) (Decision, bool) {
	return l.refusal(bucket, perMinute, time.Now())
}

func (l *Limiter) shared(ctx context.Context, bucket string, perMinute int64) (Decision, error) {
	answer, err := l.script.Run(ctx, l.redis, []string{l.redis.Key("rate", bucket)}, perMinute, Window.Microseconds()).Int64Slice()
	if err != nil {
		return Decision{}, err
	}
	if len(answer) != 4 {
		return Decision{}, errors.New("the script of the rate limit answers something else")
	}
	return Decision{
		Allowed: answer[0] == 1, Limit: perMinute, Remaining: answer[1],
		RetryAfter: time.Duration(answer[2]) * time.Microsecond, Reset: time.Duration(answer[3]) * time.Microsecond,
	}, nil
}

func (l *Limiter) alone(bucket string, perMinute int64, away Away, now time.Time) Decision {
	if away == Strict {
		perMinute = max(1, perMinute/strictShare)
	}
	decision := l.own.take(bucket, perMinute, now)
	decision.Local = true
	return decision
}

const mostRefusals = 10_000

func (l *Limiter) refusal(bucket string, perMinute int64, now time.Time) (Decision, bool) {
	l.mutex.RLock()
	known, there := l.refused[bucket]
	l.mutex.RUnlock()
	since := now.Sub(known.at)
	if !there || known.decision.Limit != perMinute || since >= min(known.decision.RetryAfter, rememberRefusal) {
		return Decision{}, false
	}
	decision := known.decision
	decision.RetryAfter -= since
	decision.Reset -= since
	return decision, true
}

func (l *Limiter) remember(bucket string, decision Decision, now time.Time) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.refused) >= mostRefusals {
		clear(l.refused) // they are asked for again
	}
	l.refused[bucket] = refusal{decision: decision, at: now}
}
