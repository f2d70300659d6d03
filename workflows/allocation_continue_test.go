package workflows_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

// executeUntilContinued runs one run that must end in a continuation, and returns the next run's input.
func (w *world) executeUntilContinued(input workflows.AllocationInput) workflows.AllocationInput {
	w.t.Helper()
	w.env.ExecuteWorkflow(workflows.Allocation, input)
	var again *workflow.ContinueAsNewError
	require.True(w.t, errors.As(w.env.GetWorkflowError(), &again), "the run continues as new: %v", w.env.GetWorkflowError())
	var next workflows.AllocationInput
	require.NoError(w.t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	w.newRun()
	return next
}

func firstInput() workflows.AllocationInput {
	return workflows.AllocationInput{AllocationID: theAllocation, AdmitBefore: start.Add(time.Minute)}
}

func TestContinuedRunsBillWithoutGapOrOverlap(t *testing.T) {
	w := newWorld(t)
	w.request()
	input := firstInput()
	for range 4 {
		w.env.RegisterDelayedCallback(func() { w.env.SetContinueAsNewSuggested(true) }, 3*time.Minute+20*time.Second)
		input = w.executeUntilContinued(input)
		require.Equal(t, allocation.Active, input.Carried.State)
	}
	w.releaseAfter(30 * time.Second)
	w.requireRight(w.runFrom(input))
	require.Equal(t, wholeLife, w.path)
	require.GreaterOrEqual(t, len(w.usage), 12)
}

func TestOwnLimitOfEventsContinuesToo(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.env.RegisterDelayedCallback(func() { w.env.SetCurrentHistoryLength(200) }, 2*time.Minute)
	input := firstInput()
	input.ContinueAfterEvents = 200
	next := w.executeUntilContinued(input)
	require.Equal(t, 200, next.ContinueAfterEvents)
	w.releaseAfter(time.Minute)
	w.requireRight(w.runFrom(next))
}

// A node that is never clean is released again and again while its history is handed over again and again: what counts
// is that every signal that was sent is found in the carried state.
func TestContinueAsNewUnderAStreamOfSignalsLosesNone(t *testing.T) {
	w := newWorld(t)
	w.policy.ReleaseMaxAttempts = 1000
	w.before["scrub.verify"] = failing(node.ErrScrubIncomplete)
	w.request()
	w.releaseAfter(90 * time.Second)
	input, sent := firstInput(), 1
	for range 10 {
		for i := range 40 {
			// Each burst goes on after the run was told to end, and some of it arrives in the same workflow task.
			w.env.RegisterDelayedCallback(func() {
				sent += 2
				w.env.SignalWorkflowSkippingWorkflowTask(workflows.ReleaseSignal, w.release())
				w.env.SignalWorkflow(workflows.ForceReleaseSignal, w.force(false))
			}, 2*time.Minute+time.Duration(i)*700*time.Millisecond)
		}
		w.env.RegisterDelayedCallback(func() { w.env.SetContinueAsNewSuggested(true) }, 2*time.Minute+27*time.Second)
		input = w.executeUntilContinued(input)
		require.Equal(t, sent, input.Carried.Asks, "signals heard against signals sent")
	}
	require.Greater(t, sent, 400)
	w.before["scrub.verify"] = nil
	w.requireRight(w.runFrom(input))
	require.Equal(t, wholeLife, w.path)
}

func TestAdmitSentAgainToAContinuedRunGetsTheStoredAnswer(t *testing.T) {
	w := newWorld(t)
	first := w.send("request-1")
	w.env.RegisterDelayedCallback(func() { w.env.SetContinueAsNewSuggested(true) }, 2*time.Minute)
	next := w.executeUntilContinued(firstInput())
	second := w.send("request-1")
	w.releaseAfter(time.Minute)
	w.requireRight(w.runFrom(next))
	require.True(t, second.done)
	require.True(t, second.value.Replayed)
	require.Equal(t, first.value.Terms.Lease, second.value.Terms.Lease)
	require.Len(t, w.leases, 1)
}

// The run wants to continue at the third boundary, an update is still being answered then, and a release arrives in
// between: it must be in the carried state.
func TestContinueAsNewWaitsForUpdatesAndKeepsWhatArrivesMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.env.RegisterDelayedCallback(func() {
		w.before["allocation.admit"] = w.awayUntil(start.Add(3*time.Minute + 5*time.Second))
		w.env.SetContinueAsNewSuggested(true)
		w.send("request-1-again")
	}, 2*time.Minute+55*time.Second)
	w.releaseAfter(3*time.Minute + 2*time.Second)
	next := w.executeUntilContinued(firstInput())
	require.False(t, w.env.Now().Before(start.Add(3*time.Minute+5*time.Second)), "the run ended before its update was answered")
	require.Equal(t, 1, next.Carried.Asks)
	w.before["allocation.admit"] = nil
	w.requireRight(w.runFrom(next))
	require.Equal(t, start.Add(3*time.Minute+2*time.Second).Truncate(time.Millisecond), w.meteredTo.UTC())
}

func TestReleaseFailedSurvivesAContinuation(t *testing.T) {
	w := newWorld(t)
	w.before["scrub.verify"] = failing(node.ErrScrubIncomplete)
	w.request()
	w.releaseAfter(90 * time.Second)
	w.env.RegisterDelayedCallback(func() {
		require.Equal(t, allocation.ReleaseFailed, w.state)
		w.env.SetContinueAsNewSuggested(true)
		signals["release"](w)
	}, time.Hour)
	next := w.executeUntilContinued(firstInput())
	attempts := next.Carried.WipeAttempts
	w.before["scrub.verify"] = nil
	w.requireRight(w.runFrom(next))
	require.GreaterOrEqual(t, attempts, 4)
	require.Equal(t, 2, w.explain().ReleaseAsks)
}
