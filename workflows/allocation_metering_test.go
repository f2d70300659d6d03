package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

// awayUntil is a database that answers nothing before this instant.
func (w *world) awayUntil(back time.Time) func(context.Context, int) error {
	return func(context.Context, int) error {
		if w.env.Now().Before(back) {
			return temporal.NewApplicationError("the database is away", "service_unavailable")
		}
		return nil
	}
}

func TestOutageIsCaughtUpInOneStep(t *testing.T) {
	w := newWorld(t)
	w.before["ledger.post_windows"] = w.awayUntil(start.Add(30 * time.Minute))
	w.releaseAfter(45*time.Minute + 30*time.Second)
	w.request()
	w.requireRight(w.run())
	require.Len(t, w.usage, 46)
	require.Equal(t, *w.meteredFrom, w.usage[0].period.Start)
}

func TestReleaseDoesNotWaitBehindAnOutage(t *testing.T) {
	w := newWorld(t)
	w.before["ledger.post_windows"] = w.awayUntil(start.Add(24 * time.Hour))
	w.releaseAfter(5*time.Minute + 10*time.Second)
	w.request()
	w.requireRight(w.run())
	require.Len(t, w.usage, 6, "the end settles what the outage left")
	require.Less(t, w.env.Now().Sub(start), 10*time.Minute)
	require.Equal(t, start.Add(5*time.Minute+10*time.Second).Truncate(time.Millisecond), w.meteredTo.UTC())
}

func TestReleaseAskedBeforeWindowsFellDueIsNotBilledPast(t *testing.T) {
	w := newWorld(t)
	w.env.RegisterDelayedCallback(func() {
		request := w.release()
		request.AskedAt = w.env.Now().Add(-150 * time.Second)
		w.env.SignalWorkflow(workflows.ReleaseSignal, request)
	}, 5*time.Minute)
	w.request()
	w.requireRight(w.run())
	require.Positive(t, w.credits, "windows posted beyond the end are credited")
}

func TestAskedAtIsClampedToTheMeter(t *testing.T) {
	for name, shift := range map[string]time.Duration{"before the anchor": -time.Hour, "in the future": time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.env.RegisterDelayedCallback(func() {
				request := w.release()
				request.AskedAt = request.AskedAt.Add(shift)
				w.env.SignalWorkflow(workflows.ReleaseSignal, request)
			}, 5*time.Minute)
			w.request()
			w.requireRight(w.run())
			if shift < 0 {
				require.Equal(t, *w.meteredFrom, *w.meteredTo)
			} else {
				require.Equal(t, start.Add(5*time.Minute).Truncate(time.Millisecond), w.meteredTo.UTC())
			}
		})
	}
}

func TestEarliestOfTwoAsksCounts(t *testing.T) {
	w := newWorld(t)
	w.before["ledger.post_windows"] = w.awayUntil(start.Add(24 * time.Hour))
	w.env.RegisterDelayedCallback(func() {
		late, early := w.release(), w.release()
		early.AskedAt = early.AskedAt.Add(-time.Minute)
		w.env.SignalWorkflowSkippingWorkflowTask(workflows.ReleaseSignal, late)
		w.env.SignalWorkflow(workflows.ReleaseSignal, early)
	}, 5*time.Minute)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, start.Add(4*time.Minute).Truncate(time.Millisecond), w.meteredTo.UTC())
}

// Who ends an allocation when the money is used up is Funds, and nobody beside it: as of an instant between two boundaries.
func TestEmptyBalanceIsLeftToFunds(t *testing.T) {
	w := newWorld(t)
	perMinute := money.Micros(int64(rate) / 60)
	given := w.balance - 2*perMinute - 10
	w.balance -= given
	w.request()
	w.env.RegisterDelayedCallback(func() {
		require.Equal(t, allocation.Active, w.state)
		ask := w.release()
		ask.Cause, ask.AskedAt, ask.Actor = allocation.CauseFunds, w.meteredFrom.Add(130*time.Second), identity.Platform()
		w.env.SignalWorkflow(workflows.ReleaseSignal, ask)
	}, 5*time.Minute+10*time.Second)
	outcome := w.run()
	w.balance += given
	w.requireRight(outcome)
	require.Equal(t, wholeLife, w.path)
	require.Equal(t, allocation.CauseFunds, w.transitions[2].Cause)
	require.Equal(t, w.meteredFrom.Add(130*time.Second), *w.meteredTo)
	require.Positive(t, w.credits, "what was posted beyond the end is given back")
}

func TestFreeAllocationIsNotReleasedForLackOfFunds(t *testing.T) {
	w := newWorld(t)
	w.terms.RateMicrosPerHour, w.balance = 0, 0
	w.releaseAfter(10*time.Minute + 30*time.Second)
	w.request()
	outcome := w.run()
	require.Equal(t, allocation.Released, outcome.State)
	require.Len(t, w.usage, 11)
	require.Equal(t, allocation.CauseTenant, w.transitions[2].Cause)
}

func TestSeveralWindowsASettlement(t *testing.T) {
	w := newWorld(t)
	w.terms.WindowsPerSettlement = 5
	w.releaseAfter(12*time.Minute + 30*time.Second)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, 2, w.count("ledger.post_windows"))
	require.Len(t, w.usage, 13, "entries stay one a window")
}

func TestCappedCatchUpAsksAgain(t *testing.T) {
	w := newWorld(t)
	w.before["ledger.post_windows"] = w.awayUntil(start.Add(30 * time.Minute))
	w.postingCap = 7
	w.releaseAfter(45*time.Minute + 30*time.Second)
	w.request()
	w.requireRight(w.run())
	require.Len(t, w.usage, 46)
}

func TestExplainTellsWhatGoesOn(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.env.RegisterDelayedCallback(func() {
		told := w.explain()
		require.Equal(t, allocation.Active, told.State)
		require.Equal(t, int64(3), told.Version)
		require.Equal(t, firstNode, told.NodeID)
		require.NotNil(t, told.NextDeadline)
		require.Equal(t, w.meteredFrom.Add(3*time.Minute), told.NextDeadline.UTC())
		require.Equal(t, w.charged(), told.CostMicros-accrued(t, w, told))
	}, 2*time.Minute+20*time.Second)
	w.releaseAfter(4 * time.Minute)
	w.requireRight(w.run())
}

// accrued is what the time since the last posting costs, as of the workflow's clock.
func accrued(t *testing.T, w *world, told workflows.Explanation) money.Micros {
	t.Helper()
	require.NotNil(t, told.SettledTo)
	elapsed := w.env.Now().UTC().Truncate(time.Millisecond).Sub(*told.SettledTo)
	require.GreaterOrEqual(t, elapsed, time.Duration(0))
	before := int64(rate) * told.SettledTo.Sub(*w.meteredFrom).Milliseconds() / 3_600_000
	after := int64(rate) * (told.SettledTo.Sub(*w.meteredFrom) + elapsed).Milliseconds() / 3_600_000
	return money.Micros(after - before)
}

func TestReleaseThatArrivedWithTheTimerComesFirst(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.env.RegisterDelayedCallback(func() {
		w.env.SignalWorkflowSkippingWorkflowTask(workflows.ReleaseSignal, w.release())
	}, 3*time.Minute-time.Millisecond)
	w.requireRight(w.run())
	require.Equal(t, 2, w.count("ledger.post_windows"), "the third window is not posted past the release")
	require.Zero(t, w.credits)
}

func TestExplainNamesTheTaskItsAttemptAndWhenItEnds(t *testing.T) {
	w := newWorld(t)
	var told workflows.Explanation
	w.before["gpu.health"] = func(_ context.Context, call int) error {
		if call == 1 {
			return tooSlow()
		}
		return nil
	}
	w.env.RegisterDelayedCallback(func() { told = w.explain() }, time.Second)
	w.releaseAfter(time.Minute)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, allocation.Provisioning, told.State)
	require.Equal(t, "gpu.health", told.Step)
	require.Equal(t, 1, told.Attempt)
	require.Contains(t, told.LastError, "StartToClose")
	require.Equal(t, start.Add(2*time.Second), told.NextDeadline.UTC(), "the back-off ends")
	require.Zero(t, told.CostMicros)
}
