package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
)

// RecallIn asks where an allocation stands whose run was lost with its history.
type RecallIn struct {
	AllocationID id.Allocation `json:"allocation_id"`
}

// Recalled is where Postgres, the ledger and the leases say that an allocation stands. What only the lost run knew, such as a release that it
// had heard and not written down, is not there and has to be asked for again.
type Recalled struct {
	AllocationState
	// SuspensionSettled says that the suspension of SuspendedAt is out of the bill and its end alone was not written down.
	SuspensionSettled bool `json:"suspension_settled,omitempty"`
	// Reclaims are the leases that were given up and are not closed: whether their nodes were told is not known.
	Reclaims []NodeReclaim `json:"reclaims,omitempty"`
}

// StepRecall reads where an allocation stands from what was written down. Fault: AllocationNotFound.
var StepRecall = Step[RecallIn, Recalled]{Name: "allocation.recall", StartToClose: 10 * time.Second, Retry: retryAlways}

// lostStepsEnd is longer than any step in Postgres may take. What the lost run had begun has ended by then, so that nothing of it comes
// between what is recalled and what is made of it.
const lostStepsEnd = 35 * time.Second

// recall takes an allocation up where it was written down last, and says whether there is one. Its tasks are numbered on from where no
// lost run can have come, because a node answers the same number from its journal.
func (a *allocationRun) recall(ctx workflow.Context) bool {
	a.doing(doing{sentence: "waits until no step of the lost run is under way any more", waitingFor: "the time that a step may take"})
	a.waitFor(ctx, "Until no step of the lost run is under way", lostStepsEnd, never)
	a.doing(doing{sentence: "reads where the allocation stood when its run was lost", step: StepRecall.Name})
	found, err := StepRecall.Run(ctx, "Recall where the allocation stands", RecallIn{AllocationID: a.input.AllocationID})
	if err != nil {
		a.note = "there is nothing to go on with: " + reason(err)
		return false
	}
	a.AllocationState = found.AllocationState
	workflow.GetLogger(ctx).Warn("an allocation goes on without the history of its run", "state", a.State, "version", a.Version)
	if found.SuspensionSettled {
		insist(ctx, a, StepRecordSuspension, "In use again since "+a.PostedTo.Format(time.RFC3339Nano), a.suspensionRecord(nil, Hold{
			Actor: identity.Platform(), Reason: "restored", CorrelationID: a.Terms.CorrelationID,
		}))
		a.SuspendedAt = nil
	}
	for _, reclaim := range found.Reclaims {
		a.tell(ctx, reclaim.Lease.NodeID, NodeReclaimSignal, reclaim)
	}
	if a.Certificate != nil && a.Certificate.Wiped {
		a.tell(ctx, a.LastLease.NodeID, NodeLeaseClosedSignal, *a.LastLease)
	}
	a.showTransition(ctx)
	if a.State == allocation.Active && !a.suspended() {
		// The probe's key may still be there; where it is not, the journal says so.
		policy := quick(ctx, a, StepRuntimePolicy, "Read the policy of node work", RuntimePolicyIn{AllocationID: a.input.AllocationID})
		a.removeProbeKey(ctx, policy)
	}
	return true
}

// provisionAnew gets a recalled allocation a node where the lost run had given up the one before, and says whether it has one.
func (a *allocationRun) provisionAnew(ctx workflow.Context, policy RuntimePolicy) bool {
	if a.Lease != nil {
		return true
	}
	trouble := &nodeTrouble{code: fault.SKUUnavailable, message: "its node was given up, and no other node of this SKU is free"}
	if len(a.GivenUp) >= policy.MaxNodeAttempts || a.LastLease == nil || !a.claimAnother(ctx) {
		a.fail(ctx, trouble)
		return false
	}
	return true
}

// WipedCertificate states that nothing of the tenant is left on the node, on the evidence of its last check.
func WipedCertificate(lease node.Lease, evidence node.ScrubVerifyOut) *ReleaseCertificate {
	return &ReleaseCertificate{
		Wiped:     true,
		Statement: "The tenant's access, processes and files were removed from the node and their absence was verified.",
		Checks:    evidence.Checks, Assurance: evidence.Assurance,
		NodeID: lease.NodeID, Generation: lease.Generation,
	}
}

// AbandonedCertificate states that the node was given up as it is.
func AbandonedCertificate(lease node.Lease) *ReleaseCertificate {
	return &ReleaseCertificate{
		Statement: "The node was not wiped. It is quarantined and is handed to nobody.",
		NodeID:    lease.NodeID, Generation: lease.Generation,
	}
}
