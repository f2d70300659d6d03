package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// A single lost connection costs callers a moment without Redis; an outage is asked about once a second.
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

// circuit stands before every command. A command that finds Redis unusable opens it; from then on commands get ErrAway in
// nanoseconds, while one goroutine asks Redis until it answers. So no request ever pays a time-out to find out whether
// Redis is back.
type circuit struct {
	ping func(context.Context) error
	log  *slog.Logger
	open atomic.Bool

	life    context.Context
	end     context.CancelFunc
	mutex   sync.Mutex
	probing sync.WaitGroup
}

func newCircuit(ping func(context.Context) error, log *slog.Logger) *circuit {
	c := &circuit{ping: ping, log: log}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

func (c *circuit) close() {
	c.mutex.Lock()
	c.end()
	c.mutex.Unlock()
	c.probing.Wait()
}

type probeKey struct{}

// asProbe marks a command that passes an open circuit.
func asProbe(ctx context.Context) context.Context { return context.WithValue(ctx, probeKey{}, true) }

// guard runs a command, unless Redis is known to be away.
func (c *circuit) guard(ctx context.Context, do func(context.Context) error) error {
	if c.open.Load() && ctx.Value(probeKey{}) == nil {
		return ErrAway
	}
	bounded, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := do(bounded)
	if err == nil || ctx.Err() != nil || !unusable(err) {
		return err
	}
	// A full pool is our own crowd, not Redis being away: only this command goes without.
	if !errors.Is(err, goredis.ErrPoolTimeout) {
		c.trip(err)
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// refusesEverybody are the answers of a Redis that is there and of no use: starting, a replica, out of memory, a wrong password.
var refusesEverybody = []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "OOM", "MISCONF", "NOAUTH", "WRONGPASS", "NOPERM", "ERR max number of clients"}

// unusable tells a Redis that cannot be used from one that refused this very command.
func unusable(err error) bool {
	var answered goredis.Error
	if !errors.As(err, &answered) {
		return !errors.Is(err, goredis.ErrClosed)
	}
	for _, prefix := range refusesEverybody {
		if strings.HasPrefix(answered.Error(), prefix) {
			return true
		}
	}
	return false
}

func (c *circuit) trip(cause error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.life.Err() != nil || !c.open.CompareAndSwap(false, true) {
		return
	}
	c.log.WarnContext(c.life, "Redis is away", "error", cause.Error())
	c.probing.Go(c.awaitReturn)
}

// awaitReturn asks until Redis answers, and lets commands through again.
func (c *circuit) awaitReturn() {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		select {
		case <-c.life.Done():
			return
		case <-time.After(pause):
		}
		if c.ping(asProbe(c.life)) == nil {
			c.open.Store(false)
			c.log.InfoContext(c.life, "Redis is back", "away_ms", time.Since(began).Milliseconds())
			return
		}
	}
}

// DialHook leaves dialling as it is.
func (c *circuit) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// ProcessHook guards a command.
func (c *circuit) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, command goredis.Cmder) error {
		return c.guard(ctx, func(ctx context.Context) error { return next(ctx, command) })
	}
}

// ProcessPipelineHook guards a pipeline or a transaction as one.
func (c *circuit) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, commands []goredis.Cmder) error {
		err := c.guard(ctx, func(ctx context.Context) error { return next(ctx, commands) })
		if errors.Is(err, ErrAway) {
			for _, command := range commands {
				command.SetErr(err)
			}
		}
		return err
	}
}
