package workflows_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

// signals are the three words that may arrive in any state.
var signals = map[string]func(w *world){
	"release":       func(w *world) { w.env.SignalWorkflow(workflows.ReleaseSignal, w.release()) },
	"force_release": func(w *world) { w.env.SignalWorkflow(workflows.ForceReleaseSignal, w.force(false)) },
	"abandon":       func(w *world) { w.env.SignalWorkflow(workflows.ForceReleaseSignal, w.force(true)) },
	"cancel":        func(w *world) { w.env.CancelWorkflow() },
}

// atStep sends the signal while the call of the step is under way, once.
func atStep(w *world, step string, call int, send func(w *world)) {
	previous := w.before[step]
	w.before[step] = func(ctx context.Context, now int) error {
		if now == call {
			send(w)
		}
		if previous != nil {
			return previous(ctx, now)
		}
		return nil
	}
}

func TestEverySignalAtEveryState(t *testing.T) {
	compensated := []allocation.State{allocation.Requested, allocation.Provisioning, allocation.Releasing, allocation.Released}
	retried := []allocation.State{
		allocation.Requested, allocation.Provisioning, allocation.Active, allocation.Releasing, allocation.ReleaseFailed,
		allocation.Releasing, allocation.Released,
	}
	// scrubFails makes the wipe fail as often as the budget allows, so that release_failed is reached.
	scrubFails := func(w *world) {
		w.before["scrub.run"] = func(_ context.Context, call int) error {
			if call <= 4 {
				return failing(node.ErrTaskFailed)(context.Background(), call)
			}
			return nil
		}
	}
	states := []struct {
		state   allocation.State
		prepare func(w *world, send func(w *world))
		path    []allocation.State
	}{
		{allocation.Requested, func(w *world, send func(*world)) { atStep(w, "allocation.admit", 1, send) },
			[]allocation.State{allocation.Requested, allocation.Releasing, allocation.Released}},
		{allocation.Provisioning, func(w *world, send func(*world)) { atStep(w, "allocation.transition", 1, send) }, compensated},
		{allocation.Active, func(w *world, send func(*world)) {
			w.env.RegisterDelayedCallback(func() { send(w) }, 90*time.Second)
		}, wholeLife},
		{allocation.Releasing, func(w *world, send func(*world)) {
			w.releaseAfter(90 * time.Second)
			atStep(w, "user.revoke", 1, send)
		}, wholeLife},
		{allocation.ReleaseFailed, func(w *world, send func(*world)) {
			scrubFails(w)
			w.releaseAfter(90 * time.Second)
			w.env.RegisterDelayedCallback(func() {
				require.Equal(w.t, allocation.ReleaseFailed, w.state)
				send(w)
			}, time.Hour)
		}, retried},
		{allocation.Released, func(w *world, send func(*world)) {
			w.releaseAfter(90 * time.Second)
			atStep(w, "allocation.transition", 4, send)
		}, wholeLife},
		{allocation.Failed, func(w *world, send func(*world)) {
			w.before["gpu.health"] = failing(node.ErrGPUUnhealthy)
			atStep(w, "allocation.transition", 2, send)
		}, []allocation.State{allocation.Requested, allocation.Provisioning, allocation.Failed}},
	}
	covered := map[allocation.State]bool{}
	for _, c := range states {
		covered[c.state] = true
		for name, send := range signals {
			t.Run(fmt.Sprintf("%s at %s", name, c.state), func(t *testing.T) {
				w := newWorld(t)
				c.prepare(w, send)
				w.request()
				outcome := w.run()
				w.requireRight(outcome)
				require.Equal(t, c.path, w.path)
				abandoned := name == "abandon" && c.state != allocation.Released && c.state != allocation.Failed
				if w.row.To == allocation.Released {
					require.Equal(t, !abandoned, w.row.Certificate.Wiped, w.row.Certificate.Statement)
					require.Equal(t, abandoned, w.leases[0].abandoned)
				}
				asks := 1
				switch c.state {
				case allocation.Releasing, allocation.ReleaseFailed, allocation.Released:
					asks = 2
				}
				require.Equal(t, asks, w.explain().ReleaseAsks, "every signal is recorded")
			})
		}
	}
	for _, state := range allocation.States() {
		require.True(t, covered[state], "no signal is tried at %s", state)
	}
}

func TestReleaseDuringEachStepOfProvisioningCancelsItAndChargesNothing(t *testing.T) {
	for _, step := range []string{"provisioning.probe_key", "user.provision", "sshkeys.sync", "gpu.health", "provisioning.login_probe"} {
		for name, send := range signals {
			t.Run(step+" "+name, func(t *testing.T) {
				w := newWorld(t)
				cancelled := w.holdUntilCancelled(step)
				w.before[step] = func(context.Context, int) error {
					send(w)
					<-cancelled
					return context.Canceled
				}
				w.request()
				w.requireRight(w.run())
				require.Equal(t, []allocation.State{
					allocation.Requested, allocation.Provisioning, allocation.Releasing, allocation.Released,
				}, w.path)
				require.Empty(t, w.usage)
				require.Nil(t, w.meteredFrom)
			})
		}
	}
}

func TestReleaseBetweenTwoNodesIsReleasedStraight(t *testing.T) {
	w := newWorld(t)
	w.before["user.provision"] = always(silent)
	atStep(w, "allocation.give_up_node", 1, signals["release"])
	w.request()
	w.requireRight(w.run())
	require.Zero(t, w.count("user.revoke"))
	require.Nil(t, w.row.Certificate)
	require.Len(t, w.leases, 1)
}

func TestReleaseDuringTheBackOffOfProvisioning(t *testing.T) {
	w := newWorld(t)
	w.policy.TaskBackoffSeconds = 3600
	w.before["user.provision"] = failing(node.ErrTaskFailed)
	w.releaseAfter(time.Minute)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, allocation.Released, w.state)
	require.Less(t, w.env.Now().Sub(start), 10*time.Minute)
}

func TestForceReleaseSkipsTheBackOffAndResetsTheBudget(t *testing.T) {
	w := newWorld(t)
	w.policy.ReleaseBackoffInitialSeconds, w.policy.ReleaseBackoffMaximumSeconds = 3600, 3600
	w.before["scrub.verify"] = func(_ context.Context, call int) error {
		if call <= 6 {
			return failing(node.ErrScrubIncomplete)(context.Background(), call)
		}
		return nil
	}
	w.releaseAfter(time.Minute)
	for i := range 6 {
		w.env.RegisterDelayedCallback(func() { signals["force_release"](w) }, time.Duration(2+i)*time.Minute)
	}
	w.request()
	w.requireRight(w.run())
	require.Equal(t, wholeLife, w.path, "with four attempts in the budget and six failures")
	require.Less(t, w.env.Now().Sub(start), time.Hour)
}

func TestForceReleaseDuringAnAttemptSparesTheBackOffBehindIt(t *testing.T) {
	w := newWorld(t)
	w.policy.ReleaseBackoffInitialSeconds, w.policy.ReleaseBackoffMaximumSeconds = 3600, 3600
	w.before["user.revoke"] = func(_ context.Context, call int) error {
		if call == 1 {
			w.env.SignalWorkflow(workflows.ForceReleaseSignal, w.force(false))
			return failing(node.ErrTaskFailed)(context.Background(), call)
		}
		return nil
	}
	w.releaseAfter(time.Minute)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, wholeLife, w.path)
	require.Equal(t, 2, w.count("user.revoke"))
	require.Less(t, w.env.Now().Sub(start), time.Hour)
}

func TestReleaseDoesNotSkipTheBackOff(t *testing.T) {
	w := newWorld(t)
	w.policy.ReleaseBackoffInitialSeconds, w.policy.ReleaseBackoffMaximumSeconds = 3600, 3600
	w.before["scrub.verify"] = failingOnce(node.ErrScrubIncomplete)
	w.releaseAfter(time.Minute)
	w.releaseAfter(2 * time.Minute)
	w.request()
	w.requireRight(w.run())
	require.GreaterOrEqual(t, w.env.Now().Sub(start), time.Hour)
	require.Equal(t, 2, w.explain().ReleaseAsks)
}

func TestWipeFailingForGood(t *testing.T) {
	for _, c := range []struct {
		step    string
		trouble func(context.Context, int) error
		calls   int
	}{
		{"user.revoke", failing(node.ErrTaskFailed), 4},
		{"user.revoke", always(silent), 4},
		{"scrub.run", always(tooSlow), 4},
		{"scrub.verify", failing(node.ErrScrubIncomplete), 4},
		{"scrub.verify", always(heartbeatLost), 4},
		{"scrub.run", failing(node.ErrStaleGeneration), 1},
	} {
		t.Run(c.step, func(t *testing.T) {
			w := newWorld(t)
			w.before[c.step] = c.trouble
			w.releaseAfter(90 * time.Second)
			w.env.RegisterDelayedCallback(func() {
				require.Equal(t, allocation.ReleaseFailed, w.state)
				require.Equal(t, c.calls, w.count(c.step))
				require.Equal(t, "scrub_unverified", w.row.Failure.Code)
				require.False(t, w.leases[0].closed || w.leases[0].givenUp, "the node stays assigned")
				require.Equal(t, workflows.ReleaseSignal+" or "+workflows.ForceReleaseSignal, w.explain().WaitingFor)
				w.before[c.step] = nil
				signals["release"](w)
			}, 2*time.Hour)
			w.request()
			w.requireRight(w.run())
			require.Equal(t, "tenant", string(w.transitions[4].Cause))
		})
	}
}

func (w *world) explain() workflows.Explanation {
	w.t.Helper()
	value, err := w.env.QueryWorkflow(workflows.ExplainQuery)
	require.NoError(w.t, err)
	var explanation workflows.Explanation
	require.NoError(w.t, value.Get(&explanation))
	return explanation
}
