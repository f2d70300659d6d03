package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// askPending says that a release, a force-release, a change of a suspension or a cancellation waits to be drained.
func (a *allocationRun) askPending() bool {
	return a.releases.Len() > 0 || a.forces.Len() > 0 || a.suspensions.Len() > 0 || (a.root.Err() != nil && !a.Cancelled)
}

// drain takes every signal that has arrived into the state. Signals are not received by a coroutine of their own,
// because then a timer that fired in the same workflow task could be served before them.
func (a *allocationRun) drain(ctx workflow.Context) {
	for {
		var request ReleaseRequest
		if !a.releases.ReceiveAsync(&request) {
			break
		}
		a.heard(ctx, request)
	}
	for {
		var request ForceReleaseRequest
		if !a.forces.ReceiveAsync(&request) {
			break
		}
		a.Forced = true
		if request.AbandonNode && a.Abandon == nil {
			a.Abandon = &request
		}
		a.heard(ctx, ReleaseRequest{
			AskedAt: request.AskedAt, Actor: request.Actor, Cause: allocation.CauseAdmin,
			Reason: request.Reason, CorrelationID: request.CorrelationID,
		})
	}
	for {
		var change SuspensionChange
		if !a.suspensions.ReceiveAsync(&change) {
			break
		}
		a.hold(ctx, change)
	}
	if a.root.Err() != nil && !a.Cancelled {
		a.Cancelled = true
		a.heard(ctx, ReleaseRequest{
			AskedAt: workflow.Now(ctx), Actor: identity.Platform(), Cause: allocation.CauseAdmin,
			Reason: "the workflow was cancelled in Temporal", CorrelationID: a.Terms.CorrelationID,
		})
	}
}

// heard records one ask. Until the meter has stopped the earliest one counts, so that nobody pays for the time between
// two asks; while the node is being wiped there is nothing left to ask; afterwards the newest asks for a retry.
func (a *allocationRun) heard(ctx workflow.Context, ask ReleaseRequest) {
	a.Asks++
	workflow.GetLogger(ctx).Info("release asked for", "state", a.State, "cause", ask.Cause, "actor", ask.Actor.ID, "asks", a.Asks)
	switch {
	case a.State == allocation.Releasing || a.State.Terminal():
	case a.State == allocation.ReleaseFailed || a.Ask == nil || ask.AskedAt.Before(a.Ask.AskedAt):
		a.Ask = &ask
	}
}
