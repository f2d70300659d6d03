package workflows_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

// recall answers what the world has written down, as Postgres would.
func (w *world) recall(workflows.RecallIn) (workflows.Recalled, error) {
	if w.state == "" {
		return workflows.Recalled{}, temporal.NewNonRetryableApplicationError("there is no such allocation", string(fault.AllocationNotFound), nil)
	}
	age := int(w.now().Sub(start).Milliseconds())
	found := workflows.Recalled{AllocationState: workflows.AllocationState{
		Terms: w.terms, State: w.state, Version: w.version, Anchor: w.meteredFrom, MeteredTo: w.meteredTo, SuspendedAt: w.suspendedAt,
		NumberedFrom: age, AccessTasks: age, WipeAttempts: age, BudgetFrom: age,
	}}
	for _, held := range w.leases {
		key := held.Lease
		found.LastNode = key.NodeID
		switch {
		case held.givenUp:
			found.Lease, found.LastLease, found.GivenUp = nil, &key, append(found.GivenUp, key.NodeID)
			found.Reclaims = append(found.Reclaims, workflows.NodeReclaim{Lease: key, Abandoned: held.abandoned, Again: true})
			if held.abandoned {
				found.Certificate = workflows.AbandonedCertificate(key)
			}
		case held.closed:
			found.Lease, found.LastLease = nil, &key
			found.Certificate = workflows.WipedCertificate(key, node.ScrubVerifyOut{Checks: []string{"no_user"}})
		default:
			found.Lease = &key
		}
	}
	if w.meteredFrom != nil {
		found.PostedTo = *w.meteredFrom
		if len(w.usage) > 0 {
			found.PostedTo = w.usage[len(w.usage)-1].period.End
		}
		found.ChargedMicros = w.charged() - w.credits
		found.Settled = w.settled
	}
	if settled := len(w.suspensions); w.suspendedAt != nil && settled > 0 {
		found.SuspensionSettled = w.suspensions[settled-1].Start.Equal(*w.suspendedAt)
	}
	if w.state == allocation.Active {
		for _, subject := range []string{someTenant, someUser} {
			if hold, held := w.standing[subject]; held {
				found.Holds = append(found.Holds, hold)
			}
		}
	}
	return found, nil
}

// loseAfter ends a run that long after its start, in the middle of whatever it does, and gives the world the next one.
func (w *world) loseAfter(patience time.Duration, input workflows.AllocationInput) {
	w.t.Helper()
	w.env.SetWorkflowRunTimeout(patience)
	w.env.ExecuteWorkflow(workflows.Allocation, input)
	var lost *temporal.TimeoutError
	require.True(w.t, w.env.GetWorkflowError() == nil || errors.As(w.env.GetWorkflowError(), &lost), "the run ends as %v", w.env.GetWorkflowError())
	w.newRun()
}

func recalled() workflows.AllocationInput {
	return workflows.AllocationInput{AllocationID: theAllocation, Recalled: true}
}

// The life that is lost: a node is given up, two suspensions come and go, and it is released.
const (
	lifeSuspended, lifeRestored   = 95 * time.Second, 170 * time.Second
	lifeSuspended2, lifeRestored2 = 200 * time.Second, 230 * time.Second
	lifeReleased, lifeOver        = 310 * time.Second, 340 * time.Second
)

// live sends what has yet to come of that life, so long after its start.
func (w *world) live(elapsed time.Duration) {
	for _, change := range []struct {
		at        time.Duration
		subject   string
		suspended bool
	}{{lifeSuspended, someTenant, true}, {lifeRestored, someTenant, false}, {lifeSuspended2, someUser, true}, {lifeRestored2, someUser, false}} {
		if change.at >= elapsed {
			w.at(change.at-elapsed, change.subject, change.suspended)
		}
	}
	w.releaseAfter(max(lifeReleased-elapsed, time.Second))
}

// newLife is a world in which that life begins.
func newLife(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.before["gpu.health"] = failingOnce(node.ErrGPUUnhealthy)
	w.request()
	w.live(0)
	return w
}

// goesOn has a lost allocation recalled and asks that everything comes right in the end.
func (w *world) goesOn() {
	w.t.Helper()
	w.live(w.env.Now().Sub(start))
	w.requireRight(w.runFrom(recalled()))
	if w.meteredFrom != nil {
		require.NotNil(w.t, w.row.Certificate)
		require.True(w.t, w.row.Certificate.Wiped)
	}
}

// Lost at any moment, an allocation goes on from what was written down: its bill is right to the micro, and every node is closed on
// evidence or given up.
func TestALostAllocationGoesOnFromWhatWasWrittenDown(t *testing.T) {
	lostIn := map[allocation.State]int{}
	for lostAt := 500 * time.Millisecond; lostAt < lifeOver; lostAt += 1500 * time.Millisecond {
		t.Run(lostAt.String(), func(t *testing.T) {
			w := newLife(t)
			w.loseAfter(lostAt, firstInput())
			lostIn[w.state]++
			w.goesOn()
		})
	}
	t.Logf("lost in %v", lostIn)
	require.NotZero(t, lostIn[allocation.Active])
}

// So does one that is lost in the middle of a step, whichever it is, before the step's effect and after it.
func TestAnAllocationLostInAnyStepGoesOn(t *testing.T) {
	whole := newLife(t)
	whole.requireRight(whole.run())
	lostIn := map[allocation.State]int{}
	for step, calls := range whole.calls {
		for call := range calls {
			for _, effect := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %d %v", step, call+1, effect), func(t *testing.T) {
					w := newLife(t)
					w.hangIn(&hang{step, call + 1, effect})
					w.loseAfter(lifeOver, firstInput())
					w.hangIn(nil)
					lostIn[w.state]++
					if w.state != "" { // it was admitted
						w.goesOn()
					}
				})
			}
		}
	}
	t.Logf("lost in %v", lostIn)
	for _, state := range []allocation.State{allocation.Requested, allocation.Provisioning, allocation.Active, allocation.Releasing, allocation.Released} {
		require.NotZero(t, lostIn[state], "no run was lost in %s", state)
	}
}

// A release that failed waits for somebody to order another try, as before.
func TestARecalledReleaseFailedWaitsForAnotherTry(t *testing.T) {
	w := newWorld(t)
	w.before["scrub.verify"] = failing(node.ErrScrubIncomplete)
	w.request()
	w.releaseAfter(90 * time.Second)
	w.loseAfter(time.Hour, firstInput())
	require.Equal(t, allocation.ReleaseFailed, w.state)
	w.before["scrub.verify"] = nil
	w.releaseAfter(time.Minute)
	w.requireRight(w.runFrom(recalled()))
	require.Equal(t, allocation.Released, w.state)
}

// What is said of a wipe that does not succeed counts what the new run tried, though its tasks have numbers of their own.
func TestARecalledReleaseThatFailsCountsItsOwnAttempts(t *testing.T) {
	w := newWorld(t)
	w.before["scrub.verify"] = failing(node.ErrScrubIncomplete)
	w.request()
	w.releaseAfter(90 * time.Second)
	w.loseAfter(92*time.Second, firstInput())
	require.Equal(t, allocation.Releasing, w.state)
	w.env.RegisterDelayedCallback(func() {
		require.Equal(t, allocation.ReleaseFailed, w.state)
		require.Contains(t, w.row.Failure.Message, fmt.Sprintf("in %d attempts", w.policy.ReleaseMaxAttempts))
		require.Equal(t, w.policy.ReleaseMaxAttempts, w.explain().Attempt)
		w.before["scrub.verify"] = nil
	}, 30*time.Minute)
	w.releaseAfter(time.Hour)
	w.requireRight(w.runFrom(recalled()))
}

// An admin has the node abandoned and the run is lost before the allocation's row says so.
func TestARecalledAllocationOfAnAbandonedNodeSaysSo(t *testing.T) {
	w := newWorld(t)
	w.before["scrub.verify"] = failing(node.ErrScrubIncomplete)
	w.request()
	w.releaseAfter(90 * time.Second)
	w.env.RegisterDelayedCallback(func() {
		w.before["allocation.transition"] = failing("away")
		w.env.SignalWorkflow(workflows.ForceReleaseSignal, w.force(true))
	}, 91*time.Second)
	w.loseAfter(2*time.Minute, firstInput())
	require.Equal(t, allocation.Releasing, w.state)
	delete(w.before, "allocation.transition")
	w.requireRight(w.runFrom(recalled()))
	require.False(t, w.row.Certificate.Wiped)
	require.Contains(t, w.told, fmt.Sprintf("%s %s", workflows.NodeReclaimSignal, workflows.NodeWorkflowID(firstNode)))
}

// Without an allocation there is nothing to go on with, and nothing is made.
func TestRecallingWhatWasNeverAdmittedEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	outcome := w.runFrom(recalled())
	require.Empty(t, outcome.State)
	require.Contains(t, outcome.Note, "there is no such allocation")
	require.Empty(t, w.path)
}

// A client that repeats its request finds a recalled run, too, and gets the stored answer.
func TestARecalledRunRepliesToARepeatedRequest(t *testing.T) {
	w := newWorld(t)
	first := w.send("request-1")
	w.loseAfter(2*time.Minute, firstInput())
	second := w.send("request-1")
	w.releaseAfter(time.Minute)
	w.requireRight(w.runFrom(recalled()))
	require.True(t, second.done)
	require.True(t, second.value.Replayed)
	require.Equal(t, first.value.Terms.Lease, second.value.Terms.Lease)
	require.Equal(t, []id.Node{firstNode}, nodesOf(w))
}

func nodesOf(w *world) (nodes []id.Node) {
	for _, held := range w.leases {
		nodes = append(nodes, held.NodeID)
	}
	return nodes
}
