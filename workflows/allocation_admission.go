package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
)

// firstVersion is the version of the row that Admit inserts.
const firstVersion = 1

// answerQueriesAndUpdates registers the handlers before anything yields, so that the update which started the run
// finds its handler in the first workflow task.
func (a *allocationRun) answerQueriesAndUpdates(ctx workflow.Context) error {
	explain := func() (Explanation, error) { return a.explain(ctx), nil }
	if err := workflow.SetQueryHandlerWithOptions(ctx, ExplainQuery, explain, workflow.QueryHandlerOptions{
		Description: "What is going on right now in this allocation.",
	}); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, AdmitUpdate, a.admit, workflow.UpdateHandlerOptions{
		Validator:   a.mayAdmit,
		Description: "Admits or refuses the request; Postgres keeps the answer and replays it.",
	})
}

// mayAdmit refuses an update that was sent to the wrong workflow; it writes nothing to the history then.
func (a *allocationRun) mayAdmit(_ workflow.Context, request AdmitRequest) error {
	if request.AllocationID != a.input.AllocationID {
		message := fmt.Sprintf("the request is for %s and this workflow holds %s", request.AllocationID, a.input.AllocationID)
		return temporal.NewNonRetryableApplicationError(message, string(fault.InvalidRequest), nil)
	}
	return nil
}

// admit asks Postgres, every time: an update of the same key sent again, to this run or to one continued from it, gets
// the stored answer, and one with another body gets its conflict.
func (a *allocationRun) admit(ctx workflow.Context, request AdmitRequest) (AdmitReply, error) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	a.admissions++
	request.RunID = a.ownRunID(ctx)
	request.AdmitBefore = a.input.AdmitBefore
	reply, err := StepAdmit.Run(ctx, "Admit: count, check the runway, claim a node of "+string(request.SKU), request)
	if err != nil {
		a.note = "admission could not be decided: " + reason(err)
		return AdmitReply{}, err
	}
	a.consider(ctx, reply)
	return reply, nil
}

// consider takes the allocation into this run's hands if the stored answer says that it belongs here.
func (a *allocationRun) consider(ctx workflow.Context, reply AdmitReply) {
	switch {
	case a.State != "":
		// already ours: this was a repeat
	case !reply.Admitted:
		a.note = "refused"
		if reply.Fault != nil {
			a.note = "refused: " + reply.Fault.Code
		}
	case reply.OwnerRunID != a.ownRunID(ctx):
		a.note = "the allocation belongs to run " + reply.OwnerRunID
	case reply.Terms != nil:
		a.Terms = *reply.Terms
		a.State, a.Version = allocation.Requested, firstVersion
		lease := reply.Terms.Lease
		a.Lease, a.LastNode = &lease, lease.NodeID
	}
}

// ownRunID is the first run of the chain: it survives continue-as-new and reset, so ownership does too.
func (a *allocationRun) ownRunID(ctx workflow.Context) string {
	return workflow.GetInfo(ctx).FirstRunID
}

// admittedHere waits for an Admit until AdmitBefore, then for its outcome, and says whether this run owns the allocation.
func (a *allocationRun) admittedHere(ctx workflow.Context) bool {
	if a.State != "" {
		return true
	}
	letHandlersStart(ctx)
	a.doing(doing{sentence: "waits for the request that started it", waitingFor: AdmitUpdate})
	a.waitUntil(ctx, "Close unless an Admit arrives", a.input.AdmitBefore, func() bool {
		return a.admissions > 0 || a.root.Err() != nil
	})
	if a.admissions == 0 {
		a.note = "no Admit arrived in time; nothing was claimed"
		return false
	}
	await(ctx, func() bool { return a.State != "" || workflow.AllHandlersFinished(ctx) })
	return a.State != ""
}

// letHandlersStart yields once: the update that came with the start runs, and no timer is needed to wait for it.
func letHandlersStart(ctx workflow.Context) {
	yielded := false
	await(ctx, func() bool {
		before := yielded
		yielded = true
		return before
	})
}
