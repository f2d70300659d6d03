package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/node"
)

// beginRelease honours the ask. Writing the arrow stops the meter in Postgres: what is posted from then on can only
// fill the time up to metered_to.
func (a *allocationRun) beginRelease(ctx workflow.Context) {
	ask := *a.Ask
	change := Transition{Actor: ask.Actor, Reason: ask.Reason, Cause: ask.Cause, CorrelationID: ask.CorrelationID, Lease: a.Lease}
	if a.Anchor != nil && a.MeteredTo == nil {
		end := allocation.MeterEnd(ask.AskedAt, *a.Anchor, workflow.Now(ctx))
		if a.SuspendedAt != nil && end.After(*a.SuspendedAt) {
			end = *a.SuspendedAt // the meter stands still since then
		}
		a.MeteredTo, change.MeteredTo = &end, &end
	}
	a.transition(ctx, allocation.Releasing, change)
	a.Forced, a.BudgetFrom, a.LastError = false, a.WipeAttempts, ""
}

// wipe settles the bill and takes everything of the tenant off the node, in attempts, until the node is proven clean,
// the attempts are used up, or an admin orders the node to be abandoned.
func (a *allocationRun) wipe(ctx workflow.Context) {
	a.settle(ctx)
	a.endProbeKeyRemoval(ctx)
	if a.Lease == nil {
		a.transition(ctx, allocation.Released, a.withoutNode())
		return
	}
	policy := quick(ctx, a, StepRuntimePolicy, "Read the policy of node work", RuntimePolicyIn{AllocationID: a.input.AllocationID})
	for {
		a.drain(ctx)
		if a.Abandon != nil {
			a.abandonNode(ctx)
			return
		}
		if a.Forced {
			a.Forced, a.BudgetFrom = false, a.WipeAttempts
		}
		if historyIsLong(ctx, a.input.ContinueAfterEvents) {
			return
		}
		if a.WipeAttempts-a.BudgetFrom >= policy.ReleaseMaxAttempts {
			a.releaseFailed(ctx)
			return
		}
		a.WipeAttempts++
		evidence, err := a.wipeOnce(ctx, policy)
		switch {
		case err == nil:
			a.handBack(ctx, evidence)
			return
		case errors.Is(err, errAbandoned):
			continue
		}
		a.trouble(ctx, "wipe", err)
		if asTrouble(err).hopeless {
			a.BudgetFrom = a.WipeAttempts - policy.ReleaseMaxAttempts
			continue
		}
		if spent := a.WipeAttempts - a.BudgetFrom; spent < policy.ReleaseMaxAttempts {
			a.backOff(ctx, wipeBackoff(policy, spent))
		}
	}
}

// settle makes usage less credits the exact charge of the metered time, once.
func (a *allocationRun) settle(ctx workflow.Context) {
	if a.Anchor == nil || a.Settled {
		return
	}
	a.doing(doing{sentence: "settles the final bill", step: StepSettleEnd.Name, waitingFor: "the ledger"})
	bill := insist(ctx, a, StepSettleEnd, "Final bill up to "+a.MeteredTo.Format(time.RFC3339Nano), SettleEndIn{Meter: a.pricing(), To: *a.MeteredTo})
	a.ChargedMicros, a.PostedTo, a.Settled = bill.ChargedMicros-bill.CreditedMicros, *a.MeteredTo, true
}

// wipeOnce ends the tenant's access, removes what was theirs and has the removal checked. Each task converges, so every
// attempt starts at the beginning: what an earlier one left half-done is found.
func (a *allocationRun) wipeOnce(ctx workflow.Context, policy RuntimePolicy) (node.ScrubVerifyOut, error) {
	username := node.Username(*a.Lease)
	if _, err := wipeTask(ctx, a, policy, TaskUserRevoke, "revoke", func(task node.Task) node.UserRevokeIn {
		return node.UserRevokeIn{Task: task, Username: username}
	}); err != nil {
		return node.ScrubVerifyOut{}, err
	}
	if _, err := wipeTask(ctx, a, policy, TaskScrubRun, "scrub", func(task node.Task) node.ScrubRunIn {
		return node.ScrubRunIn{Task: task, Username: username}
	}); err != nil {
		return node.ScrubVerifyOut{}, err
	}
	return wipeTask(ctx, a, policy, TaskScrubVerify, "verify", func(task node.Task) node.ScrubVerifyIn {
		return node.ScrubVerifyIn{Task: task, Username: username}
	})
}

// backOff waits before the next attempt; a force-release ends the wait, a further release does not. One that came while the attempt was still
// running spares it.
func (a *allocationRun) backOff(ctx workflow.Context, patience time.Duration) {
	if a.Forced && workflow.GetVersion(ctx, forceSparesBackOff, workflow.DefaultVersion, 1) != workflow.DefaultVersion {
		return
	}
	a.doing(doing{
		sentence: fmt.Sprintf("waits before it tries again to wipe %s", a.LastNode), step: "wipe", attempt: a.wipes() + 1,
		waitingFor: "the back-off or a force-release",
	})
	summary := fmt.Sprintf("Back off before attempt %d of the wipe", a.wipes()+1)
	a.waitFor(ctx, summary, patience, func() bool { return a.forces.Len() > 0 || (a.root.Err() != nil && !a.Cancelled) })
}

// forceSparesBackOff is the change since which a force-release that comes during an attempt is heard before the next pause, not behind it.
const forceSparesBackOff = "force-spares-back-off"

// wipes counts the attempts of the wipe as far as they are known.
func (a *allocationRun) wipes() int { return a.WipeAttempts - a.NumberedFrom }

// wipeBackoff doubles from the initial wait to the maximum; spent is how many attempts of the budget are used up.
func wipeBackoff(policy RuntimePolicy, spent int) time.Duration {
	wait := seconds(policy.ReleaseBackoffInitialSeconds)
	for range spent - 1 {
		if wait *= 2; wait >= seconds(policy.ReleaseBackoffMaximumSeconds) {
			break
		}
	}
	return min(wait, seconds(policy.ReleaseBackoffMaximumSeconds))
}

// handBack closes custody on the evidence and ends the allocation.
func (a *allocationRun) handBack(ctx workflow.Context, evidence node.ScrubVerifyOut) {
	lease := *a.Lease
	a.doing(doing{sentence: fmt.Sprintf("hands %s back", lease.NodeID), step: StepCloseLease.Name})
	insist(ctx, a, StepCloseLease, fmt.Sprintf("Hand %s back", lease.NodeID), CloseLeaseIn{
		Lease: lease, Evidence: evidence, CorrelationID: a.Terms.CorrelationID,
	})
	a.Lease, a.LastLease, a.LastError = nil, &lease, ""
	a.tell(ctx, lease.NodeID, NodeLeaseClosedSignal, lease)
	a.transition(ctx, allocation.Released, Transition{
		Reason:      "the node was wiped and verified",
		Certificate: WipedCertificate(lease, evidence),
	})
}

// withoutNode ends an allocation that holds no node: none was ever held, or its custody ended before its run was lost.
func (a *allocationRun) withoutNode() Transition {
	switch {
	case a.Certificate == nil:
		return Transition{Reason: "no node was held"}
	case a.Certificate.Wiped:
		return Transition{Reason: "the node was wiped and verified", Certificate: a.Certificate}
	default:
		return Transition{Reason: "the node was abandoned", Certificate: a.Certificate}
	}
}

// abandonNode ends the allocation without a wipe, on an admin's word. The node stays quarantined with its lease open,
// until a re-image or an operator's explicit word.
func (a *allocationRun) abandonNode(ctx workflow.Context) {
	lease, order := *a.Lease, *a.Abandon
	a.doing(doing{sentence: fmt.Sprintf("abandons %s on an admin's word", lease.NodeID), step: StepGiveUpNode.Name})
	insist(ctx, a, StepGiveUpNode, fmt.Sprintf("Abandon %s", lease.NodeID), GiveUpNodeIn{
		Lease: lease, Reason: order.Reason, CorrelationID: order.CorrelationID, Abandoned: true,
	})
	a.tell(ctx, lease.NodeID, NodeReclaimSignal, NodeReclaim{
		Lease: lease, Reason: order.Reason, Abandoned: true, CorrelationID: order.CorrelationID,
	})
	a.Lease, a.LastLease = nil, &lease
	a.GivenUp = append(a.GivenUp, lease.NodeID)
	a.transition(ctx, allocation.Released, Transition{
		Actor: order.Actor, Reason: order.Reason, CorrelationID: order.CorrelationID,
		Certificate: AbandonedCertificate(lease),
	})
}

// releaseFailed stops trying. Billing has stopped; the node stays in custody.
func (a *allocationRun) releaseFailed(ctx workflow.Context) {
	a.transition(ctx, allocation.ReleaseFailed, Transition{
		Reason:  a.LastError,
		Lease:   a.Lease,
		Failure: &Fault{Code: string(fault.ScrubUnverified), Message: fmt.Sprintf("the node could not be wiped in %d attempts; last: %s", a.wipes(), a.LastError)},
	})
	a.Ask = nil
}

// awaitRetry waits for the owner's release or an admin's force-release.
func (a *allocationRun) awaitRetry(ctx workflow.Context) {
	a.doing(doing{
		sentence: "could not wipe the node and waits for somebody to order another try", step: "wipe", attempt: a.wipes(),
		waitingFor: ReleaseSignal + " or " + ForceReleaseSignal,
	})
	for a.drain(ctx); a.Ask == nil; a.drain(ctx) {
		await(ctx, a.askPending)
	}
	a.beginRelease(ctx)
}
