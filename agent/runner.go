package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/domain/secret"
)

// runner takes every task through the same gate: whose it is, its deadline, the fence, the journal, one at a time.
type runner struct {
	hands   Hands
	journal *Journal
	fence   *Fence
	log     *slog.Logger
	// turn is held by the one task that may touch the machine: tasks of a lease must never overlap, and one that the
	// platform has given up may still be ending.
	turn    chan struct{}
	nodeID  atomic.Pointer[id.Node]
	running atomic.Int64
	// drift is the platform's clock less ours, in nanoseconds: deadlines are told in the platform's time.
	drift atomic.Int64
}

func newRunner(hands Hands, journal *Journal, fence *Fence, log *slog.Logger) *runner {
	return &runner{hands: hands, journal: journal, fence: fence, log: log, turn: make(chan struct{}, 1)}
}

func (r *runner) now() time.Time { return time.Now().Add(time.Duration(r.drift.Load())) }

// task is one kind of work: where its head is in the input, and how it is done. Alone says that it takes the turn.
type task[In, Out any] struct {
	kind  node.TaskKind
	head  func(In) node.Task
	do    func(context.Context, In) (Out, error)
	alone bool
}

// work does the task once the machine says that it can.
func (t task[In, Out]) work(ctx context.Context, r *runner, in In) (out Out, err error) {
	if err := r.hands.Readiness.Ready(ctx, t.kind); err != nil {
		return out, err
	}
	return t.do(ctx, in)
}

// run takes one delivery of a task through the gate.
func run[In, Out any](ctx context.Context, r *runner, t task[In, Out], in In) (out Out, err error) {
	head := t.head(in)
	log := r.log.With("task", t.kind, "allocation_id", head.AllocationID, "generation", head.Generation, "step", head.Step, "attempt", head.Attempt)
	began := time.Now()
	r.running.Add(1)
	defer r.running.Add(-1)
	defer func() {
		if caught := recover(); caught != nil {
			log.ErrorContext(ctx, "the task panicked", "panic", fmt.Sprint(caught), "stack", string(debug.Stack()))
			err = retryable(node.ErrTaskFailed, fmt.Errorf("%s panicked: %v", t.kind, caught))
		}
		if err != nil {
			log.WarnContext(ctx, "the task did not succeed", "error", err, "took_ms", time.Since(began).Milliseconds())
			return
		}
		log.InfoContext(ctx, "the task succeeded", "took_ms", time.Since(began).Milliseconds())
	}()

	if mine := r.nodeID.Load(); mine != nil && head.NodeID != *mine {
		return out, final(node.ErrTaskFailed, fmt.Errorf("the task is for %s, and this is %s", head.NodeID, *mine))
	}
	if head.AllocationID == "" && t.alone || head.Step == "" && t.alone || head.Generation <= 0 && t.alone {
		return out, final(node.ErrTaskFailed, errors.New("the task names no allocation, step or generation"))
	}
	bounded, cancel := r.bound(ctx, head)
	defer cancel()
	if bounded.Err() != nil && ctx.Err() == nil {
		return out, final(node.ErrTaskExpired, fmt.Errorf("the deadline of %s was %s", head.Key(), head.Deadline.Format(time.RFC3339Nano)))
	}
	stop := keepAlive(ctx)
	defer stop()
	if t.alone {
		out, err = runAlone(bounded, r, t, head, in)
	} else {
		out, err = t.work(bounded, r, in)
	}
	return out, verdict(ctx, bounded, head, err)
}

// runAlone waits for the machine, asks the fence, replays a success or journals and does the work.
func runAlone[In, Out any](ctx context.Context, r *runner, t task[In, Out], head node.Task, in In) (out Out, err error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return out, ctx.Err()
	}
	if refusal := r.fence.Refuses(head.Generation, t.kind); refusal != "" {
		return out, final(node.ErrStaleGeneration, errors.New(refusal))
	}
	input, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("encode the input of %s: %w", head.Key(), err)
	}
	if stored, found := r.journal.Replay(head, t.kind, input); found {
		return out, json.Unmarshal(stored, &out)
	}
	raised, err := r.fence.Enter(head.Generation, t.kind)
	if err != nil {
		return out, err
	}
	if raised {
		if err := r.journal.Prune(head.Generation); err != nil {
			return out, err
		}
	}
	if err := r.journal.Begin(head, t.kind, input); err != nil {
		return out, err
	}
	if out, err = t.work(ctx, r, in); err != nil {
		return out, err
	}
	stored, err := json.Marshal(out)
	if err != nil {
		return out, fmt.Errorf("encode the outcome of %s: %w", head.Key(), err)
	}
	return out, r.journal.Finish(head, t.kind, input, stored)
}

// bound ends the work at the task's deadline, in the platform's time.
func (r *runner) bound(ctx context.Context, head node.Task) (context.Context, context.CancelFunc) {
	if head.Deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, head.Deadline.Sub(r.now()))
}

// verdict turns whatever ended a task into what the workflow can judge. A cancellation stays one.
func verdict(asked, bounded context.Context, head node.Task, err error) error {
	var application *temporal.ApplicationError
	switch {
	case err == nil, errors.As(err, &application):
		return err
	case asked.Err() != nil:
		return asked.Err()
	case bounded.Err() != nil:
		return final(node.ErrTaskExpired, fmt.Errorf("%s was not finished by its deadline: %w", head.Key(), err))
	default:
		return retryable(node.ErrTaskFailed, err)
	}
}

// beatInterval is well inside every heartbeat time-out, and is how fast a cancellation arrives.
const beatInterval = 3 * time.Second

// keepAlive heartbeats while a task works or waits for its turn.
func keepAlive(ctx context.Context) (stop func()) {
	if !activity.IsActivity(ctx) {
		return func() {}
	}
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(beatInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-ticker.C:
				activity.RecordHeartbeat(ctx)
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// retryable and final are the errors a workflow judges by type; it decides on further attempts, the server never does. Their
// words stand in its history, so they hold no secrets.
func retryable(kind string, err error) error {
	return temporal.NewApplicationErrorWithCause(secret.Text(err.Error()), kind, nil)
}

func final(kind string, err error) error {
	return temporal.NewNonRetryableApplicationError(secret.Text(err.Error()), kind, nil)
}
