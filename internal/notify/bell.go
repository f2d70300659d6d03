package notify

import (
	"context"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/redis"
)

// Bell wakes whoever waits in this process for the notifications of a tenant or of the operators. It says that there may be some, never what: so nothing is
// lost by a ring that nobody heard, if who waits also looks by themselves now and then.
type Bell struct {
	cache *redis.Client

	mutex   sync.Mutex
	waiting map[*Waiting]map[string]bool
}

// NewBell makes one; Run hears Redis.
func NewBell(cache *redis.Client) *Bell {
	return &Bell{cache: cache, waiting: map[*Waiting]map[string]bool{}}
}

// Waiting is somebody who waits. Rung gets a value when they are woken; several wakes may be one.
type Waiting struct {
	Rung chan struct{}
	bell *Bell
}

// Wait begins to wait, for nothing yet. Close ends it.
func (b *Bell) Wait() *Waiting {
	w := &Waiting{Rung: make(chan struct{}, 1), bell: b}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.waiting[w] = nil
	return w
}

// For says for which tenants, and whether as an operator.
func (w *Waiting) For(tenants []id.Tenant, operator bool) {
	wanted := make(map[string]bool, len(tenants)+1)
	for _, tenant := range tenants {
		wanted[string(tenant)] = true
	}
	wanted[operators] = operator
	w.bell.mutex.Lock()
	defer w.bell.mutex.Unlock()
	w.bell.waiting[w] = wanted
}

// Close ends the waiting.
func (w *Waiting) Close() {
	w.bell.mutex.Lock()
	defer w.bell.mutex.Unlock()
	delete(w.bell.waiting, w)
}

// Run hears Redis until ctx ends. While Redis is away nobody is woken; when it is back, everybody is.
func (b *Bell) Run(ctx context.Context) error {
	heard := b.cache.Subscribe(ctx, Channel(b.cache))
	defer func() { _ = heard.Close() }()
	messages := heard.ChannelWithSubscriptions()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case message := <-messages:
			switch message := message.(type) {
			case *goredis.Message:
				b.ring(message.Payload, false)
			case *goredis.Subscription: // what was said meanwhile was not heard
				b.ring("", true)
			}
		}
	}
}

func (b *Bell) ring(whom string, everybody bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for waiting, wanted := range b.waiting {
		if !everybody && !wanted[whom] {
			continue
		}
		select {
		case waiting.Rung <- struct{}{}:
		default: // woken already
		}
	}
}
