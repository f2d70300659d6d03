package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gpuaas/gpuaas/domain/node"
)

// faults is what a drill ordered. It is the simulated machine's readiness.
type faults struct {
	mu     sync.Mutex
	delays map[node.TaskKind]time.Duration
	fails  map[node.TaskKind]int
	// gone is closed when the node vanishes, so that nobody waits in a task of a dead machine.
	gone <-chan struct{}
}

func newFaults() *faults {
	return &faults{delays: map[node.TaskKind]time.Duration{}, fails: map[node.TaskKind]int{}}
}

// Ready is agent.Readiness: it waits as long as ordered, then fails as often as ordered.
func (f *faults) Ready(ctx context.Context, kind node.TaskKind) error {
	f.mu.Lock()
	delay, gone := f.delays[kind], f.gone
	f.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
			return fmt.Errorf("the machine is gone")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails[kind] > 0 {
		f.fails[kind]--
		return fmt.Errorf("the simulated machine was told to fail %s; %d more to come", kind, f.fails[kind])
	}
	return nil
}

func (f *faults) slow(kind node.TaskKind, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delays[kind] = delay
}

func (f *faults) fail(kind node.TaskKind, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails[kind] = times
}

func (f *faults) born(gone <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = gone
}
