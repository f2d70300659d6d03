package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

var wholeLife = []allocation.State{
	allocation.Requested, allocation.Provisioning, allocation.Active, allocation.Releasing, allocation.Released,
}

func TestAllocationLivesFromRequestToRelease(t *testing.T) {
	w := newWorld(t)
	answer := w.send("request-1")
	w.releaseAfter(3*time.Minute + 30*time.Second)
	outcome := w.run()
	w.requireRight(outcome)
	require.Equal(t, wholeLife, w.path)
	require.True(t, answer.done)
	require.True(t, answer.value.Admitted)
	require.Len(t, w.usage, 4, "three whole windows and the prorated end")
	require.True(t, w.row.Certificate.Wiped)
	require.Equal(t, []string{"lease_closed node/" + string(firstNode)}, w.told)
	require.Equal(t, 2, w.count("sshkeys.sync"), "the probe's key was taken off again")
	require.Equal(t, "tenant", string(w.transitions[2].Cause))
	require.Equal(t, "corr-release", w.transitions[2].CorrelationID)
}

func TestAllocationWithoutAdmitClosesAndClaimsNothing(t *testing.T) {
	w := newWorld(t)
	outcome := w.run()
	require.Empty(t, outcome.State)
	require.Contains(t, outcome.Note, "no Admit")
	require.Equal(t, start.Add(time.Minute), w.env.Now().UTC())
	require.Zero(t, w.count(workflows.StepAdmit.Name))
}

func TestRefusedRunAnswersEveryRequestAndCloses(t *testing.T) {
	w := newWorld(t)
	w.refusal = &workflows.Fault{Code: "insufficient_balance"}
	// The first is still being decided when the second is asked; the run must not close between their answers.
	asked := make(chan struct{})
	w.before["allocation.admit"] = func(_ context.Context, call int) error {
		if call == 2 {
			close(asked)
		}
		<-asked
		return nil
	}
	first, second := w.send("request-1"), w.send("request-2")
	outcome := w.run()
	require.Equal(t, "refused: insufficient_balance", outcome.Note)
	require.Empty(t, w.path)
	for _, answer := range []*reply{first, second} {
		require.True(t, answer.done)
		require.Equal(t, "insufficient_balance", answer.value.Fault.Code)
	}
	require.NotEqual(t, first.value.Replayed, second.value.Replayed)
}

func TestRunThatDoesNotOwnTheAllocationReturnsTheAnswerAndCloses(t *testing.T) {
	w := newWorld(t)
	w.owner = "another-run"
	answer := w.send("request-1")
	outcome := w.run()
	require.True(t, answer.value.Admitted)
	require.Equal(t, "another-run", answer.value.OwnerRunID)
	require.Contains(t, outcome.Note, "another-run")
	require.Zero(t, w.count(workflows.StepTransition.Name))
}

func TestAdmitForAnotherAllocationIsRejectedByTheValidator(t *testing.T) {
	w := newWorld(t)
	got := &reply{}
	w.env.RegisterDelayedCallback(func() {
		request := admitRequest()
		request.AllocationID = "alloc_bbbbbbbbbbbbbbbbbbbbbbbbbb"
		w.env.UpdateWorkflow(workflows.AdmitUpdate, "wrong", rejected(got), request)
	}, 0)
	w.run()
	require.ErrorContains(t, got.err, "this workflow holds")
	require.Zero(t, w.count(workflows.StepAdmit.Name))
}

func TestRepeatedAdmitWhileActiveGetsTheStoredAnswer(t *testing.T) {
	w := newWorld(t)
	w.request()
	var late *reply
	w.env.RegisterDelayedCallback(func() { late = w.send("request-1-again") }, 90*time.Second)
	w.releaseAfter(2 * time.Minute)
	w.requireRight(w.run())
	require.True(t, late.value.Replayed)
	require.Len(t, w.leases, 1)
}

func TestEveryStepOfProvisioningFailingForGood(t *testing.T) {
	for _, c := range []struct {
		step    string
		trouble func(context.Context, int) error
		code    string
		perNode int
	}{
		{"user.provision", failing(node.ErrTaskFailed), "node_task_failed", 3},
		{"sshkeys.sync", failing(node.ErrTaskFailed), "node_task_failed", 3},
		{"gpu.health", failing(node.ErrGPUUnhealthy), "gpu_unhealthy", 1},
		{"gpu.health", failing(node.ErrTaskFailed), "node_task_failed", 3},
		{"provisioning.login_probe", failing("refused"), "login_probe_failed", 3},
		{"user.provision", failing(node.ErrStaleGeneration), "node_generation_stale", 1},
		{"user.provision", always(silent), "node_unresponsive", 1},
		{"gpu.health", always(heartbeatLost), "node_unresponsive", 3},
		{"sshkeys.sync", always(tooSlow), "node_unresponsive", 3},
	} {
		t.Run(c.step+" "+c.code, func(t *testing.T) {
			w := newWorld(t)
			w.before[c.step] = c.trouble
			w.request()
			outcome := w.run()
			w.requireRight(outcome)
			require.Equal(t, []allocation.State{allocation.Requested, allocation.Provisioning, allocation.Failed}, w.path)
			require.Equal(t, c.code, w.row.Failure.Code)
			require.Equal(t, 3*c.perNode, w.count(c.step), "three nodes, %d attempts each", c.perNode)
			require.Len(t, w.told, 3, "every node's workflow is told to reclaim it")
			require.Zero(t, w.charged())
		})
	}
}

func TestNoOtherNodeToClaimFailsAsUnavailable(t *testing.T) {
	w := newWorld(t)
	w.free = w.free[:1]
	w.before["user.provision"] = always(silent)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, "sku_unavailable", w.row.Failure.Code)
}

func TestNodeThatDoesNotAnswerIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.before["user.provision"] = func(_ context.Context, call int) error {
		if call == 1 {
			return silent()
		}
		return nil
	}
	w.request()
	w.releaseAfter(5 * time.Minute)
	w.requireRight(w.run())
	require.Equal(t, wholeLife, w.path)
	require.True(t, w.leases[0].givenUp)
	require.True(t, w.leases[1].closed)
	require.Contains(t, w.told[0], "reclaim node/"+string(firstNode))
}

// everyStep is every step of a life that goes well.
var everyStep = []string{
	"allocation.admit", "allocation.transition", "allocation.runtime_policy", "provisioning.probe_key", "user.provision",
	"sshkeys.sync", "gpu.health", "provisioning.login_probe", "ledger.post_windows", "ledger.settle_end", "user.revoke", "scrub.run",
	"scrub.verify", "allocation.close_lease",
}

func TestEveryStepFailingOnce(t *testing.T) {
	for _, step := range everyStep {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			w.before[step] = failingOnce(node.ErrTaskFailed)
			w.request()
			w.releaseAfter(3*time.Minute + 10*time.Second)
			w.requireRight(w.run())
			require.Equal(t, wholeLife, w.path)
			require.GreaterOrEqual(t, w.count(step), 2)
		})
	}
}

func TestEveryStepDeliveredTwice(t *testing.T) {
	t.Run("all of them at once", func(t *testing.T) {
		w := newWorld(t)
		w.twice = true
		w.request()
		w.releaseAfter(3*time.Minute + 10*time.Second)
		w.requireRight(w.run())
		require.Equal(t, wholeLife, w.path)
		require.Len(t, w.transitions, 4)
	})
	for _, step := range everyStep {
		t.Run(step+" because its answer was lost", func(t *testing.T) {
			w := newWorld(t)
			w.after[step] = func(call int) error { return failingOnce(node.ErrTaskFailed)(context.Background(), call) }
			w.request()
			w.releaseAfter(3*time.Minute + 10*time.Second)
			w.requireRight(w.run())
			require.Equal(t, wholeLife, w.path)
			require.Len(t, w.transitions, 4)
		})
	}
}

func TestConflictKeepsTheAllocationUntilItIsResolved(t *testing.T) {
	w := newWorld(t)
	w.before["allocation.close_lease"] = func(_ context.Context, call int) error {
		if call <= 3 {
			return conflict()
		}
		return nil
	}
	w.request()
	w.releaseAfter(2 * time.Minute)
	w.requireRight(w.run())
	require.Equal(t, 4, w.count("allocation.close_lease"))
}

// What a step refuses for good needs a person. Until one has come the allocation stays what it is, however long that takes, and then goes on as
// if nothing had been: nothing is lost, done twice or charged otherwise.
func TestEveryStepRefusedForGoodUntilSomebodyHealsIt(t *testing.T) {
	const healedAfter = 30 * time.Hour
	for _, c := range []struct {
		step     string
		release  time.Duration
		replaced bool
	}{
		{"allocation.transition", 31 * time.Hour, false},
		{"allocation.runtime_policy", 31 * time.Hour, false},
		{"ledger.post_windows", 31 * time.Hour, false},
		{"ledger.settle_end", 3 * time.Minute, false},
		{"allocation.close_lease", 3 * time.Minute, false},
		{"allocation.give_up_node", 31 * time.Hour, true},
		{"allocation.claim_another", 31 * time.Hour, true},
	} {
		t.Run(c.step, func(t *testing.T) {
			w := newWorld(t)
			var refusedAt time.Time
			w.before[c.step] = func(context.Context, int) error {
				if refusedAt.IsZero() {
					refusedAt = w.env.Now()
				}
				if w.env.Now().Sub(refusedAt) < healedAfter {
					return conflict()
				}
				return nil
			}
			if c.replaced {
				w.before["user.provision"] = failingOnceWith(silent)
			}
			w.request()
			w.releaseAfter(c.release + 10*time.Second)
			w.requireRight(w.run())
			require.Equal(t, wholeLife, w.path)
			require.Len(t, w.transitions, 4)
			require.GreaterOrEqual(t, w.env.Now().Sub(start), healedAfter)
			require.Less(t, w.count(c.step), 2*31*60, "no more than a local try and a patient one a minute")
		})
	}
}

// The steps of a node that is replaced, which a life that goes well has not.
func TestEveryStepOfAReplacementFailingOnceOrAnsweredTwice(t *testing.T) {
	for _, step := range []string{"allocation.give_up_node", "allocation.claim_another"} {
		for name, plant := range map[string]func(*world){
			"fails once": func(w *world) { w.before[step] = failingOnce(node.ErrTaskFailed) },
			"is done twice": func(w *world) {
				w.after[step] = func(call int) error { return failingOnce(node.ErrTaskFailed)(context.Background(), call) }
			},
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				w := newWorld(t)
				plant(w)
				w.before["user.provision"] = failingOnceWith(silent)
				w.request()
				w.releaseAfter(5 * time.Minute)
				w.requireRight(w.run())
				require.Equal(t, wholeLife, w.path)
				require.Len(t, w.leases, 2)
				require.True(t, w.leases[0].givenUp)
				require.True(t, w.leases[1].closed)
				require.Equal(t, 2, w.count(step))
			})
		}
	}
}

func TestUnknownNodeWorkflowIsTolerated(t *testing.T) {
	w := newWorld(t)
	w.before["signal"] = failing("not found")
	w.request()
	w.releaseAfter(2 * time.Minute)
	w.requireRight(w.run())
	require.Len(t, w.told, 1)
}

func TestAdmissionThatCannotBeDecidedFailsTheUpdateAndCloses(t *testing.T) {
	w := newWorld(t)
	w.before["allocation.admit"] = always(conflict)
	answer := w.send("request-1")
	outcome := w.run()
	require.ErrorContains(t, answer.err, "the version moved")
	require.Empty(t, outcome.State)
	require.Contains(t, outcome.Note, "could not be decided")
}

func TestIsolationThatIsNotServedFailsBeforeAnythingIsDone(t *testing.T) {
	w := newWorld(t)
	w.terms.IsolationModel = "full-reimage"
	w.request()
	w.requireRight(w.run())
	require.Equal(t, []allocation.State{allocation.Requested, allocation.Failed}, w.path)
	require.Equal(t, "isolation_model_unavailable", w.row.Failure.Code)
	require.Zero(t, w.count("user.provision"))
}

func TestNoopModeRunsTheSameSteps(t *testing.T) {
	w := newWorld(t)
	w.terms.RuntimeMode = workflows.RuntimeNoop
	w.releaseAfter(2 * time.Minute)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, wholeLife, w.path)
}
