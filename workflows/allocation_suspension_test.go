package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

func (w *world) recordSuspension(in workflows.RecordSuspensionIn) (workflows.Nothing, error) {
	require.NotEmpty(w.t, in.Actor.ID)
	require.NotEmpty(w.t, in.CorrelationID)
	require.Equal(w.t, allocation.Active, w.state, "only what is in use is suspended")
	switch {
	case in.At == nil && w.suspendedAt != nil && w.suspendedAt.Equal(in.Since):
		w.suspendedAt = nil
	case in.At != nil && (w.suspendedLast == nil || w.suspendedLast.Before(in.Since)): // a step that was given up may arrive long after
		w.suspendedAt, w.suspendedLast = in.At, in.At
	}
	return workflows.Nothing{}, nil
}

// settleSuspension keeps the chain as the ledger does: windows to the suspension, one period over it, and its price back.
func (w *world) settleSuspension(in workflows.SettleSuspensionIn) (workflows.SettleEndOut, error) {
	require.Nil(w.t, w.meteredTo, "the meter has ended")
	period := billing.Period{Start: in.From, End: in.To}
	settled := len(w.suspensions) > 0 && w.suspensions[len(w.suspensions)-1] == period
	if !settled {
		from := in.Meter.Anchor
		if len(w.usage) > 0 {
			from = w.usage[len(w.usage)-1].period.End
		}
		for _, window := range billing.Windows(in.Meter.Anchor, from, in.From, window(in.Meter), 1<<20) {
			w.post(in.Meter, window)
			from = window.End
		}
		w.post(in.Meter, billing.Period{Start: from, End: in.To})
		free, err := period.Amount(in.Meter.RateMicrosPerHour, in.Meter.Anchor)
		require.NoError(w.t, err)
		w.suspensions = append(w.suspensions, period)
		w.credits += free
		w.balance += free
	}
	return workflows.SettleEndOut{ChargedMicros: w.charged(), CreditedMicros: w.credits, BalanceMicros: w.balance}, nil
}

const (
	someTenant = "tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	someUser   = "user_aaaaaaaaaaaaaaaaaaaaaaaaaa"
)

func (w *world) hold(subject string, suspended bool, notice time.Duration) workflows.SuspensionChange {
	at := w.env.Now().UTC()
	return workflows.SuspensionChange{Suspended: suspended, Hold: workflows.Hold{
		Subject: subject, At: at, ReleaseAt: at.Add(notice), Actor: identity.Actor{ID: "user_operator", Role: identity.RoleAdmin},
		Reason: "unpaid bill", CorrelationID: "corr-suspend",
	}}
}

// at sends a change of a suspension so long after the start.
func (w *world) at(after time.Duration, subject string, suspended bool) {
	w.env.RegisterDelayedCallback(func() {
		change := w.hold(subject, suspended, 24*time.Hour)
		if delete(w.standing, subject); suspended {
			w.standing[subject] = change.Hold
		}
		w.env.SignalWorkflow(workflows.SuspensionSignal, change)
	}, after)
}

func TestASuspensionStopsTheMeterAndCutsAccess(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.at(10*time.Minute+20*time.Second, someTenant, true)
	w.env.RegisterDelayedCallback(func() {
		require.True(t, w.locked["gpu7"])
		require.NotNil(t, w.suspendedAt)
		told := w.explain()
		require.Contains(t, told.Doing, "suspended")
		require.Equal(t, w.charged()+w.unposted(), told.CostMicros, "the cost stands still")
	}, 15*time.Minute)
	w.at(130*time.Minute+7*time.Second, someTenant, false)
	w.env.RegisterDelayedCallback(func() {
		require.False(t, w.locked["gpu7"])
		require.Nil(t, w.suspendedAt)
	}, 131*time.Minute)
	w.releaseAfter(140 * time.Minute)
	w.requireRight(w.run())
	require.Equal(t, wholeLife, w.path)
	require.Len(t, w.suspensions, 1)
	require.Equal(t, 119*time.Minute+47*time.Second, w.suspensions[0].End.Sub(w.suspensions[0].Start))
	require.Equal(t, 1, w.count("user.suspend"))
	require.Equal(t, 1, w.count("user.resume"))
}

// unposted is what the time between the last window and the suspension costs.
func (w *world) unposted() money.Micros {
	from := w.usage[len(w.usage)-1].period.End
	amount, err := billing.Period{Start: from, End: *w.suspendedAt}.Amount(rate, *w.meteredFrom)
	require.NoError(w.t, err)
	return amount
}

func TestAReleaseWhileSuspendedEndsTheMeterAtTheSuspension(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.at(10*time.Minute+20*time.Second, someTenant, true)
	w.releaseAfter(3 * time.Hour)
	w.requireRight(w.run())
	require.Equal(t, wholeLife, w.path)
	require.Equal(t, start.Add(10*time.Minute+20*time.Second).Truncate(time.Millisecond), w.meteredTo.UTC())
	require.Equal(t, allocation.CauseTenant, w.transitions[2].Cause)
}

func TestWhatIsSuspendedIsReleasedWhenTheNoticeHasPassed(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.at(10*time.Minute, someTenant, true)
	var wiped time.Time
	w.before["scrub.run"] = func(context.Context, int) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		wiped = w.env.Now()
		return nil
	}
	w.requireRight(w.run())
	require.Equal(t, allocation.CauseAdmin, w.transitions[2].Cause)
	require.Contains(t, w.transitions[2].Reason, "notice")
	require.Equal(t, start.Add(10*time.Minute).Truncate(time.Millisecond), w.meteredTo.UTC())
	require.GreaterOrEqual(t, wiped.Sub(start), 24*time.Hour+10*time.Minute, "nothing is wiped before its notice has passed")
}

func TestTwoSuspensionsHoldUntilBothHaveEnded(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.at(10*time.Minute, someTenant, true)
	w.at(20*time.Minute, someUser, true)
	w.at(25*time.Minute, someUser, true) // said again
	w.at(30*time.Minute, someTenant, false)
	w.env.RegisterDelayedCallback(func() { require.True(t, w.locked["gpu7"], "the user is suspended still") }, 40*time.Minute)
	w.at(50*time.Minute, someUser, false)
	w.at(60*time.Minute, someTenant, true)
	w.at(65*time.Minute, someTenant, false)
	w.releaseAfter(70 * time.Minute)
	w.requireRight(w.run())
	require.Len(t, w.suspensions, 2)
	require.Equal(t, 40*time.Minute, w.suspensions[0].End.Sub(w.suspensions[0].Start))
	require.Equal(t, 5*time.Minute, w.suspensions[1].End.Sub(w.suspensions[1].Start))
}

func TestASuspensionWhileProvisioningReleasesAtNoCharge(t *testing.T) {
	for _, during := range []string{"user.provision", "sshkeys.sync", "gpu.health", "provisioning.login_probe"} {
		t.Run(during, func(t *testing.T) {
			w := newWorld(t)
			atStep(w, during, 1, func(w *world) { w.env.SignalWorkflow(workflows.SuspensionSignal, w.hold(someTenant, true, time.Hour)) })
			w.request()
			w.requireRight(w.run())
			require.Nil(t, w.meteredFrom)
			require.Equal(t, allocation.CauseAdmin, w.transitions[len(w.transitions)-2].Cause)
		})
	}
}

func TestASuspensionAfterReleaseWasAskedForChangesNothing(t *testing.T) {
	w := newWorld(t)
	atStep(w, "user.revoke", 1, func(w *world) { w.env.SignalWorkflow(workflows.SuspensionSignal, w.hold(someTenant, true, time.Hour)) })
	w.request()
	w.releaseAfter(10 * time.Minute)
	w.requireRight(w.run())
	require.Zero(t, w.count("user.suspend"))
}

func TestEachStepOfASuspensionMayFail(t *testing.T) {
	for _, step := range []string{"allocation.record_suspension", "user.suspend", "user.resume", "ledger.settle_suspension", "allocation.runtime_policy"} {
		for name, failure := range map[string]error{
			"once":     temporal.NewApplicationError("away", "away"),
			"definite": temporal.NewNonRetryableApplicationError("no", string(fault.LedgerConflict), nil),
			"silent":   silent(),
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				w := newWorld(t)
				failed := 0
				w.before[step] = func(context.Context, int) error {
					w.mu.Lock()
					defer w.mu.Unlock()
					if w.env.Now().Sub(start) > 9*time.Minute && failed < 3 {
						failed++
						return failure
					}
					return nil
				}
				w.request()
				w.at(10*time.Minute, someTenant, true)
				w.at(20*time.Minute, someTenant, false)
				w.releaseAfter(30 * time.Minute)
				w.requireRight(w.run())
				require.Equal(t, wholeLife, w.path)
				require.Len(t, w.suspensions, 1)
				require.Equal(t, 3, failed)
			})
		}
	}
}

func TestEachStepOfASuspensionMayBeRepeated(t *testing.T) {
	w := newWorld(t)
	w.twice = true
	for _, step := range []string{"allocation.record_suspension", "ledger.settle_suspension", "user.suspend", "user.resume"} {
		w.after[step] = func(call int) error {
			if call == 1 {
				return temporal.NewApplicationError("the answer is lost", "lost")
			}
			return nil
		}
	}
	w.request()
	w.at(10*time.Minute, someTenant, true)
	w.at(20*time.Minute, someTenant, false)
	w.releaseAfter(30 * time.Minute)
	w.requireRight(w.run())
	require.Len(t, w.suspensions, 1)
}

func TestARestoreWhileAccessIsBeingCutGivesItBack(t *testing.T) {
	w := newWorld(t)
	w.before["user.suspend"] = func(_ context.Context, call int) error {
		if call < 5 {
			return temporal.NewApplicationError("the node is away", node.ErrTaskFailed)
		}
		return nil
	}
	w.request()
	w.at(10*time.Minute, someTenant, true)
	w.at(10*time.Minute+3*time.Second, someTenant, false)
	w.releaseAfter(20 * time.Minute)
	w.requireRight(w.run())
	require.Len(t, w.suspensions, 1)
	require.Empty(t, w.locked)
}

func TestASuspensionIsCarriedIntoTheNextRun(t *testing.T) {
	w := newWorld(t)
	w.request()
	w.at(5*time.Minute, someTenant, true)
	w.env.RegisterDelayedCallback(func() {
		w.env.SetContinueAsNewSuggested(true)
		w.env.SignalWorkflow(workflows.SuspensionSignal, w.hold(someUser, true, time.Hour))
	}, 10*time.Minute)
	next := w.executeUntilContinued(firstInput())
	require.Len(t, next.Carried.Holds, 2)
	w.at(time.Minute, someTenant, false)
	w.at(2*time.Minute, someUser, false)
	w.releaseAfter(10 * time.Minute)
	w.requireRight(w.runFrom(next))
	require.Len(t, w.suspensions, 1)
	require.Equal(t, 7*time.Minute, w.suspensions[0].End.Sub(w.suspensions[0].Start))
}
