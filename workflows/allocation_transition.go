package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// The back-off of insist. What a step gave up on may heal by itself within minutes. A refusal does not, and a round is about eleven events: at
// its longest pause a history lasts for six weeks before the server ends it, which is what an operator has who is told of it all the while.
const (
	insistInitial = time.Second
	insistMaximum = time.Minute
	insistRefused = 15 * time.Minute
)

// transition is the one way an allocation changes its state: it writes the arrow, then shows it in search attributes
// and details. It takes what the change says beyond from, to and when.
func (a *allocationRun) transition(ctx workflow.Context, to allocation.State, change Transition) {
	from := a.State
	change.AllocationID, change.TenantID = a.input.AllocationID, a.Terms.TenantID
	change.Version, change.From, change.To = a.Version, from, to
	change.At = milliseconds(workflow.Now(ctx))
	if change.Actor == (identity.Actor{}) {
		change.Actor = identity.Platform()
	}
	if change.CorrelationID == "" {
		change.CorrelationID = a.Terms.CorrelationID
	}
	a.doing(doing{sentence: fmt.Sprintf("writes the change from %s to %s", from, to), step: StepTransition.Name})
	done := insist(ctx, a, StepTransition, fmt.Sprintf("%s → %s", from, to), change)
	a.State, a.Version = to, done.Version
	a.showTransition(ctx)
}

// showTransition makes the new state findable and readable in the Temporal UI.
func (a *allocationRun) showTransition(ctx workflow.Context) {
	// An attribute that a namespace does not know fails the workflow task, which is retried: it cannot fail the allocation.
	err := workflow.UpsertTypedSearchAttributes(ctx,
		AttributeState.ValueSet(string(a.State)),
		AttributeAccount.ValueSet(string(a.Terms.AccountID)),
		AttributeNode.ValueSet(string(a.LastNode)),
		AttributeSKU.ValueSet(string(a.Terms.SKU)),
	)
	if err != nil {
		workflow.GetLogger(ctx).Warn("search attributes were not set", "error", err)
	}
	a.showDetails(ctx)
}

// insist runs a step until it succeeds. What heals by itself is retried by the server; what arrives here is a
// definite answer, such as a version conflict, that needs a person: the entity stays as it is, says so in explain, and
// asks again, because it never fails on account of a step.
func insist[In, Out any](ctx workflow.Context, entity entity, step Step[In, Out], summary string, in In) Out {
	for patience := insistInitial; ; patience *= 2 {
		out, err := step.Run(ctx, summary, in)
		if err == nil {
			return out
		}
		var refusal *temporal.ApplicationError
		if errors.As(err, &refusal) && refusal.NonRetryable() {
			patience = min(patience, insistRefused)
		} else {
			patience = min(patience, insistMaximum)
		}
		entity.trouble(ctx, step.Name, err)
		entity.waitFor(ctx, "Wait to repeat "+step.Name, patience, never)
	}
}

// entity is what lives on whatever its steps answer: an allocation or a node.
type entity interface {
	trouble(ctx workflow.Context, step string, err error)
	waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool
}

// quick runs a step in this worker, which saves a round trip, and falls back to insisting when that does not work out
// in time.
func quick[In, Out any](ctx workflow.Context, a *allocationRun, step Step[In, Out], summary string, in In) Out {
	out, err := step.RunLocal(ctx, summary, localPatience, in)
	if err == nil {
		return out
	}
	a.trouble(ctx, step.Name, err)
	return insist(ctx, a, step, summary, in)
}

// localPatience bounds a local activity with its retries: signals wait behind it.
const localPatience = 5 * time.Second

// trouble remembers what went wrong last, for explain, details and the log.
func (a *allocationRun) trouble(ctx workflow.Context, step string, err error) {
	a.LastError = step + ": " + reason(err)
	workflow.GetLogger(ctx).Warn("a step had trouble", "step", step, "error", err)
	a.showDetails(ctx)
}

// reason is the innermost sentence of an error that crossed Temporal.
func reason(err error) string {
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		return application.Message()
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return "timed out (" + timeout.TimeoutType().String() + ")"
	}
	return err.Error()
}

// waitUntil waits for the condition, at most until the deadline, and says whether the condition came true. There is
// no timer when the condition holds already.
func (a *allocationRun) waitUntil(ctx workflow.Context, summary string, deadline time.Time, condition func() bool) bool {
	return a.waitFor(ctx, summary, deadline.Sub(workflow.Now(ctx)), condition)
}

func (a *allocationRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	if condition() || patience <= 0 {
		return condition()
	}
	a.now.deadline = within(ctx, patience)
	defer func() { a.now.deadline = nil }()
	return pause(ctx, summary, patience, condition)
}

// pause waits for the condition, at most for patience, with one timer that is cancelled when it is not needed.
func pause(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	timerCtx, stop := workflow.WithCancel(ctx)
	defer stop()
	timer := workflow.NewTimerWithOptions(timerCtx, patience, workflow.TimerOptions{Summary: summary})
	await(ctx, func() bool { return condition() || timer.IsReady() })
	return condition()
}

// await waits on a context that nobody cancels, so there is no error to speak of.
func await(ctx workflow.Context, condition func() bool) {
	if err := workflow.Await(ctx, condition); err != nil {
		workflow.GetLogger(ctx).Error("a wait ended early", "error", err)
	}
}

func never() bool { return false }

// milliseconds is t as periods and timestamps are kept: UTC, truncated to the millisecond.
func milliseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
