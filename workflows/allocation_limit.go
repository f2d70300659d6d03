package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// awaitSettlement waits until windows are due, or until the allocation's spending limit is reached.
func (a *allocationRun) awaitSettlement(ctx workflow.Context, settlement time.Time, limit *ReleaseRequest) {
	if limit != nil && limit.AskedAt.Before(settlement) {
		a.doing(doing{sentence: "is in use; the meter runs", waitingFor: "its spending limit"})
		a.waitUntil(ctx, "Ends by its limit at "+limit.AskedAt.Format(time.RFC3339Nano), limit.AskedAt, a.askPending)
		return
	}
	a.doing(doing{sentence: "is in use; the meter runs", waitingFor: "the end of the billing window"})
	a.waitUntil(ctx, "Next settlement at "+settlement.Format(time.RFC3339Nano), settlement, a.askPending)
}

// spendingLimit is the release that the allocation's limits order, as of the exact instant at which the first of them is reached;
// nil without a limit.
func (a *allocationRun) spendingLimit() *ReleaseRequest {
	if a.Anchor == nil {
		return nil
	}
	order := ReleaseRequest{Actor: identity.Platform(), Cause: allocation.CauseLimit, CorrelationID: a.Terms.CorrelationID}
	if last, limited := a.spentAt(); limited {
		order.AskedAt, order.Reason = last, fmt.Sprintf("the limit of %s is spent", a.Terms.MaxSpendMicros.Exact(a.Terms.Currency))
	}
	if a.Terms.MaxDurationSeconds > 0 {
		if last := a.Anchor.Add(seconds(a.Terms.MaxDurationSeconds)); order.AskedAt.IsZero() || last.Before(order.AskedAt) {
			order.AskedAt, order.Reason = last, fmt.Sprintf("the limit of %d seconds is over", a.Terms.MaxDurationSeconds)
		}
	}
	if order.AskedAt.IsZero() {
		return nil
	}
	return &order
}

// spentAt is the last millisecond that the limit pays for, if it ever does not. What was given back of the time so far does not
// count: from the end of the last posting on, the charge rule says when it is too much.
func (a *allocationRun) spentAt() (time.Time, bool) {
	if a.Terms.MaxSpendMicros <= 0 {
		return time.Time{}, false
	}
	posted, err := billing.Charge(a.Terms.RateMicrosPerHour, a.PostedTo.Sub(*a.Anchor))
	if err != nil {
		return *a.Anchor, true // more than any limit
	}
	draw := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: a.Terms.RateMicrosPerHour, Anchor: *a.Anchor}}
	return draw.Within(a.Terms.MaxSpendMicros + posted - a.ChargedMicros)
}
