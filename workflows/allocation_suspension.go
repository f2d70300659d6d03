package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
)

// SuspensionChange is the payload of SuspensionSignal: a subject was suspended, or restored.
type SuspensionChange struct {
	Hold
	Suspended bool `json:"suspended"`
}

// Hold is one suspension that an allocation is under: its tenant's or its user's. At is when the subject was suspended,
// ReleaseAt when the notice has passed and the allocation is released. Both are clamped to what the meter allows.
type Hold struct {
	// Subject is the id of the tenant or the user.
	Subject       string         `json:"subject"`
	At            time.Time      `json:"at"`
	ReleaseAt     time.Time      `json:"release_at"`
	Actor         identity.Actor `json:"actor"`
	Reason        string         `json:"reason"`
	CorrelationID string         `json:"correlation_id"`
}

// RecordSuspensionIn shows that the meter stands still since At, or runs again when At is nil.
type RecordSuspensionIn struct {
	AllocationID id.Allocation `json:"allocation_id"`
	TenantID     id.Tenant     `json:"tenant_id"`
	At           *time.Time    `json:"at,omitempty"`
	// Since is the instant of the suspension that this begins or ends, which tells a repeat from another one.
	Since         time.Time      `json:"since"`
	Actor         identity.Actor `json:"actor"`
	Reason        string         `json:"reason"`
	CorrelationID string         `json:"correlation_id"`
}

// hold takes note of a change. What is not usable yet holds nothing worth a notice: it is released, at no charge. What is
// being released goes on being released.
func (a *allocationRun) hold(ctx workflow.Context, change SuspensionChange) {
	workflow.GetLogger(ctx).Info("a suspension changed", "subject", change.Subject, "suspended", change.Suspended, "state", a.State)
	same := func(hold Hold) bool { return hold.Subject == change.Subject }
	switch {
	case a.State.Terminal() || a.State == allocation.Releasing || a.State == allocation.ReleaseFailed:
	case !change.Suspended:
		a.Holds = slices.DeleteFunc(a.Holds, same)
	case a.State != allocation.Active:
		a.heard(ctx, ReleaseRequest{
			AskedAt: change.At, Actor: change.Actor, Cause: allocation.CauseAdmin,
			Reason: "suspended before it was usable: " + change.Reason, CorrelationID: change.CorrelationID,
		})
	case !slices.ContainsFunc(a.Holds, same):
		a.Holds = append(a.Holds, change.Hold)
	}
}

// suspended says that the meter stands still, or has to.
func (a *allocationRun) suspended() bool { return len(a.Holds) > 0 || a.SuspendedAt != nil }

// standStill takes the next step of a suspension: it stops the meter, cuts access, waits for the notice to pass, and gives
// access and meter back when nothing holds the allocation any more. Each step ends when a signal arrives.
func (a *allocationRun) standStill(ctx workflow.Context) {
	switch {
	case a.SuspendedAt == nil:
		a.stopMeter(ctx)
	case len(a.Holds) == 0:
		a.resume(ctx)
	case !a.AccessCut:
		a.cutAccess(ctx)
	default:
		a.awaitNotice(ctx)
	}
}

// stopMeter ends the time that is charged at the instant of the suspension, which is before access is cut.
func (a *allocationRun) stopMeter(ctx workflow.Context) {
	first := a.Holds[0]
	at := allocation.MeterEnd(first.At, *a.Anchor, workflow.Now(ctx))
	a.SuspendedAt, a.AccessCut = &at, false
	a.doing(doing{sentence: "writes down that it is suspended", step: StepRecordSuspension.Name})
	quick(ctx, a, StepRecordSuspension, "Suspended since "+at.Format(time.RFC3339Nano), a.suspensionRecord(&at, first))
	a.showDetails(ctx)
}

func (a *allocationRun) suspensionRecord(at *time.Time, hold Hold) RecordSuspensionIn {
	return RecordSuspensionIn{
		AllocationID: a.input.AllocationID, TenantID: a.Terms.TenantID, At: at, Since: *a.SuspendedAt,
		Actor: hold.Actor, Reason: hold.Reason, CorrelationID: hold.CorrelationID,
	}
}

// cutAccess has the node end every session and let nobody in. It is tried until the node has done it: the meter stands
// still already, so a node that does not answer costs the tenant nothing.
func (a *allocationRun) cutAccess(ctx workflow.Context) {
	username := node.Username(*a.Lease)
	a.AccessCut = accessTask(ctx, a, TaskUserSuspend, "suspend", func(task node.Task) node.UserSuspendIn {
		return node.UserSuspendIn{Task: task, Username: username}
	})
}

// accessTask runs one attempt of a task that cuts access or gives it back, and says whether it was done. It waits before it
// answers that it was not.
func accessTask[In, Out any](ctx workflow.Context, a *allocationRun, contract Step[In, Out], step string, in func(node.Task) In) bool {
	policy := quick(ctx, a, StepRuntimePolicy, "Read the policy of node work", RuntimePolicyIn{AllocationID: a.input.AllocationID})
	lease := *a.Lease
	wait, run := a.patience(policy.TaskScheduleToStartSeconds), seconds(policy.TaskStartToCloseSeconds)
	a.AccessTasks++
	a.doing(doing{
		sentence: fmt.Sprintf("runs %s on %s", contract.Name, lease.NodeID), step: contract.Name, attempt: a.AccessTasks - a.NumberedFrom, waitingFor: "the node",
		deadline: within(ctx, wait+run),
	})
	_, err := unlessAsked[Out](ctx, a, func(ctx workflow.Context) workflow.Future {
		return contract.On(a.taskQueue(lease.NodeID)).Within(wait, run).
			Start(ctx, taskSummary(node.TaskKind(contract.Name).Sentence(), lease, a.AccessTasks), in(task(ctx, lease, step, a.AccessTasks, wait+run)))
	})
	if err == nil {
		a.LastError = ""
		return true
	}
	if !a.askPending() {
		a.trouble(ctx, contract.Name, judge(err, contract.Name, ""))
		a.waitFor(ctx, "Back off before "+contract.Name, seconds(policy.TaskBackoffSeconds), a.askPending)
	}
	return false
}

// awaitNotice waits for a signal; when the notice of a suspension has passed, the allocation is released as of the instant
// at which its meter stopped.
func (a *allocationRun) awaitNotice(ctx workflow.Context) {
	next := slices.MinFunc(a.Holds, func(x, y Hold) int { return x.ReleaseAt.Compare(y.ReleaseAt) })
	a.doing(doing{sentence: "is suspended; the meter stands still and nothing is removed", waitingFor: "the end of the suspension or of its notice"})
	if a.waitUntil(ctx, "Released unless restored by "+next.ReleaseAt.Format(time.RFC3339), next.ReleaseAt, a.askPending) {
		return
	}
	a.heard(ctx, ReleaseRequest{
		AskedAt: *a.SuspendedAt, Actor: identity.Platform(), Cause: allocation.CauseAdmin,
		Reason: "the notice of the suspension has passed: " + next.Reason, CorrelationID: next.CorrelationID,
	})
}

// resume lets the tenant in again and starts the meter at the moment they can be.
func (a *allocationRun) resume(ctx workflow.Context) {
	username := node.Username(*a.Lease)
	// A resume that is given up half-way may have let them in: it has to be cut again.
	a.AccessCut = false
	if !accessTask(ctx, a, TaskUserResume, "resume", func(task node.Task) node.UserResumeIn {
		return node.UserResumeIn{Task: task, Username: username}
	}) {
		return
	}
	from, to := *a.SuspendedAt, milliseconds(workflow.Now(ctx))
	if to.After(from) {
		a.doing(doing{sentence: "takes the suspension out of the bill", step: StepSettleSuspension.Name, waitingFor: "the ledger"})
		bill := insist(ctx, a, StepSettleSuspension, fmt.Sprintf("Not charged: %s to %s", from.Format(time.RFC3339Nano), to.Format(time.RFC3339Nano)),
			SettleSuspensionIn{Meter: a.pricing(), From: from, To: to})
		a.PostedTo, a.ChargedMicros = to, bill.ChargedMicros-bill.CreditedMicros
	}
	insist(ctx, a, StepRecordSuspension, "In use again since "+to.Format(time.RFC3339Nano), a.suspensionRecord(nil, Hold{
		Actor: identity.Platform(), Reason: "restored", CorrelationID: a.Terms.CorrelationID,
	}))
	a.SuspendedAt, a.LastError = nil, ""
	a.showDetails(ctx)
}
