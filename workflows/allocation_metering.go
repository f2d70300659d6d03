package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// meter bills windows until release is asked for, or until the history is long. Windows that are due are posted only
// after pending releases were drained, so that a release which was asked for in time is never billed past.
func (a *allocationRun) meter(ctx workflow.Context) {
	for {
		if a.drain(ctx); a.Ask != nil {
			a.beginRelease(ctx)
			return
		}
		if historyIsLong(ctx, a.input.ContinueAfterEvents) {
			return
		}
		if a.suspended() {
			a.standStill(ctx)
			continue
		}
		now := milliseconds(workflow.Now(ctx))
		settlement, limit := a.nextSettlement(), a.spendingLimit()
		if limit != nil && !now.Before(limit.AskedAt) {
			a.heard(ctx, *limit) // before what is due is posted: nothing beyond the limit is
			continue
		}
		if now.Before(settlement) {
			a.awaitSettlement(ctx, settlement, limit)
			continue
		}
		a.post(ctx, a.lastBoundary(now), now)
	}
}

// nextSettlement is the absolute instant at which posting is next due: it hangs on the anchor, never on the last
// posting, and comes every WindowsPerSettlement windows.
func (a *allocationRun) nextSettlement() time.Time {
	settlement := a.window() * time.Duration(max(a.Terms.WindowsPerSettlement, 1))
	return billing.Boundary(*a.Anchor, settlement, int64(a.PostedTo.Sub(*a.Anchor)/settlement))
}

// lastBoundary is the end of the last whole window at or before now. After an outage it lies many windows ahead of
// PostedTo, and one step posts them all.
func (a *allocationRun) lastBoundary(now time.Time) time.Time {
	return a.Anchor.Add(now.Sub(*a.Anchor).Truncate(a.window()))
}

func (a *allocationRun) window() time.Duration { return seconds(max(a.Terms.WindowSeconds, 1)) }

// post bills every due window in one step.
func (a *allocationRun) post(ctx workflow.Context, to, now time.Time) {
	in := PostWindowsIn{Meter: a.pricing(), From: a.PostedTo, To: to, Now: now, DueAt: a.nextSettlement()}
	a.doing(doing{sentence: "posts the windows that are due", step: StepPostWindows.Name, waitingFor: "the ledger"})
	out, err := StepPostWindows.RunLocal(ctx, fmt.Sprintf("Windows up to %s", to.Format(time.RFC3339Nano)), localPatience, in)
	if err != nil {
		out, err = a.postPatiently(ctx, in, err)
	}
	if err != nil {
		return
	}
	a.PostedTo = out.PostedTo
	a.ChargedMicros += out.ChargedMicros - out.ForgivenMicros
	a.LastError = ""
	a.showDetails(ctx)
	if out.BalanceMicros != nil && *out.BalanceMicros <= 0 && a.Terms.RateMicrosPerHour > 0 && !out.PostedTo.Before(to) {
		a.endItselfAsBefore(ctx, out.PostedTo)
	}
}

// endItselfAsBefore is what allocations did before Funds ended them: one that was running then still does, in the history it was
// running in.
func (a *allocationRun) endItselfAsBefore(ctx workflow.Context, at time.Time) {
	if workflow.GetVersion(ctx, fundsEndAllocations, workflow.DefaultVersion, 1) != workflow.DefaultVersion {
		return
	}
	a.heard(ctx, ReleaseRequest{
		AskedAt: at, Actor: identity.Platform(), Cause: allocation.CauseFunds,
		Reason: "the balance is used up", CorrelationID: a.Terms.CorrelationID,
	})
}

// fundsEndAllocations is the change since which an allocation leaves the end of money to Funds.
const fundsEndAllocations = "funds-end-allocations"

// postPatiently posts through a normal activity, which the server repeats for as long as the database is away. A
// release is heard meanwhile, because signals do not wait behind it; the windows it leaves are settled at the end.
func (a *allocationRun) postPatiently(ctx workflow.Context, in PostWindowsIn, cause error) (PostWindowsOut, error) {
	a.trouble(ctx, StepPostWindows.Name, cause)
	out, err := unlessAsked[PostWindowsOut](ctx, a, func(ctx workflow.Context) workflow.Future {
		return StepPostWindows.Start(ctx, fmt.Sprintf("Windows up to %s, patiently", in.To.Format(time.RFC3339Nano)), in)
	})
	if err != nil && !a.askPending() {
		// A definite refusal needs a person; the meter goes on and a release is heard.
		a.trouble(ctx, StepPostWindows.Name, err)
		a.waitFor(ctx, "Wait to post again", insistMaximum, a.askPending)
	}
	return out, err
}

// pricing is what a step needs to price a stretch of this allocation's time.
func (a *allocationRun) pricing() Meter {
	return Meter{
		AllocationID: a.input.AllocationID, TenantID: a.Terms.TenantID, AccountID: a.Terms.AccountID,
		Currency: a.Terms.Currency, RateMicrosPerHour: a.Terms.RateMicrosPerHour,
		WindowSeconds: a.Terms.WindowSeconds, Anchor: *a.Anchor, CorrelationID: a.Terms.CorrelationID,
	}
}
