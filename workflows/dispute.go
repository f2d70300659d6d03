package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/payment"
)

type disputeRun struct{ id id.Dispute }

// Dispute follows a bank's objection to a payment until it is decided: what the bank takes leaves the balance, what it gives back returns.
func Dispute(root workflow.Context, in DisputeInput) error {
	ctx, _ := workflow.NewDisconnectedContext(root)
	d := &disputeRun{id: in.DisputeID}
	watch := newWatch(ctx)
	seen := payment.DisputeState("")
	for {
		watch.drain(ctx)
		standing := insist(ctx, d, StepLookDispute, "Ask how "+string(d.id)+" stands", in)
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("`%s` is **%s**", d.id, standing.State))
		// An answer that was lost had moved money as well, so a state that is new to this run is told, too.
		if moved := standing.Changed || standing.State != seen; moved && standing.AccountID != "" {
			tellMoved(ctx, d, standing.AccountID, "a disputed payment was taken or given back", standing.CorrelationID)
		}
		if standing.State != payment.DisputeOpen && watch.quiet() {
			return nil
		}
		seen = standing.State
		if historyIsLong(ctx, in.ContinueAfterEvents) {
			return continueLooking(ctx, DisputeType, in)
		}
		watch.wait(ctx, standing.LookAgainSeconds, time.Time{})
	}
}

func (d *disputeRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a dispute had trouble", "step", step, "dispute_id", d.id, "error", err)
}

func (d *disputeRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
