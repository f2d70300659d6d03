package workflows

import (
	"fmt"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// The input, id, signal, query and steps of Funds are in funds_contract.go; the ladder is in domain/billing, and the whole is told in
// docs/flows/funds.md.

// FundsState is everything a run hands to the next one. What an account holds is not: it is read anew.
type FundsState struct {
	// Ordered is when each release was ordered that Postgres does not show yet.
	Ordered map[id.Allocation]time.Time `json:"ordered,omitempty"`
	// CorrelationID is that of the last change heard.
	CorrelationID string `json:"correlation_id,omitempty"`
}

type fundsRun struct {
	FundsState
	input     FundsInput
	changed   workflow.ReceiveChannel
	now       doing
	last      *FundsReview
	told      int
	reviews   int
	lastError string
	// shown is the state in the search attributes.
	shown string
}

// orderAgain is after how long a release that Postgres does not show is ordered again: its workflow hears it only once it exists.
const orderAgain = time.Minute

// Funds watches one account while something of it costs money: it reads what there is, sleeps until the exact instant at which that
// means something else, or until it is told of a change, and orders the releases when nothing is left. It never fails.
func Funds(root workflow.Context, input FundsInput) error {
	// A cancellation in Temporal must not leave an account unwatched.
	ctx, _ := workflow.NewDisconnectedContext(root)
	f := &fundsRun{input: input, changed: workflow.GetSignalChannel(ctx, FundsChangedSignal)}
	if input.Carried != nil {
		f.FundsState = *input.Carried
	}
	err := workflow.SetQueryHandlerWithOptions(ctx, ExplainQuery, func() (FundsExplanation, error) { return f.explain(), nil },
		workflow.QueryHandlerOptions{Description: "What the account holds, when it runs out, and what has been done about it."})
	if err != nil {
		return err
	}
	return f.run(ctx)
}

func (f *fundsRun) run(ctx workflow.Context) error {
	for {
		f.hear()
		review := f.review(ctx)
		f.release(ctx, review)
		f.topUp(ctx, review)
		if f.changed.Len() == 0 && review.Costing == 0 && len(review.Releases) == 0 {
			return nil // what is told from now on makes the server refuse the end, or starts the next watch
		}
		if historyIsLong(ctx, f.input.ContinueAfterEvents) {
			return f.continueAsNew(ctx)
		}
		f.sleep(ctx, review)
	}
}

// hear takes every change that was told: they all mean to look again.
func (f *fundsRun) hear() {
	for {
		var change FundsChange
		if !f.changed.ReceiveAsync(&change) {
			return
		}
		f.told++
		f.CorrelationID = change.CorrelationID
	}
}

// continueAsNew begins a fresh history, whose first act is to read everything: what is heard here is not lost.
func (f *fundsRun) continueAsNew(ctx workflow.Context) error {
	f.hear()
	next := f.input
	next.Carried = &f.FundsState
	return workflow.NewContinueAsNewError(ctx, FundsType, next)
}

// review reads what the account holds, as often as it takes.
func (f *fundsRun) review(ctx workflow.Context) FundsReview {
	f.now = doing{sentence: "reads what the account holds", step: StepReviewFunds.Name, waitingFor: "the ledger"}
	review := insist(ctx, f, StepReviewFunds, "What is left of "+string(f.input.AccountID), ReviewFundsIn{
		AccountID: f.input.AccountID, TenantID: f.input.TenantID, CorrelationID: f.CorrelationID,
	})
	f.reviews++
	f.last, f.lastError = &review, ""
	f.show(ctx)
	return review
}

// release orders what has to end, each allocation once until it had time to obey. One that is gone hears nothing.
func (f *fundsRun) release(ctx workflow.Context, review FundsReview) {
	if len(review.Releases) == 0 {
		f.Ordered = nil
		return
	}
	f.now = doing{sentence: "orders the release of what can no longer be paid for"}
	if f.Ordered == nil {
		f.Ordered = map[id.Allocation]time.Time{}
	}
	now := workflow.Now(ctx)
	var messages []told
	for _, order := range review.Releases {
		if before, ordered := f.Ordered[order.AllocationID]; ordered && now.Sub(before) < orderAgain {
			continue
		}
		f.Ordered[order.AllocationID] = now
		messages = append(messages, told{
			summary: ReleaseSignal + " to " + string(order.AllocationID),
			future: workflow.SignalExternalWorkflow(ctx, AllocationWorkflowID(order.AllocationID), "", ReleaseSignal, ReleaseRequest{
				AskedAt: order.AskedAt, Actor: identity.Platform(), Cause: order.Cause, Reason: order.Reason, CorrelationID: f.CorrelationID,
			}),
		})
	}
	for _, message := range messages {
		message.outcome(ctx)
	}
}

// topUp has the saved card charged for a deposit that the review recorded. The payment outlives this watch; one that runs already is told
// nothing.
func (f *fundsRun) topUp(ctx workflow.Context, review FundsReview) {
	if review.TopUp == "" {
		return
	}
	f.now = doing{sentence: "has the saved card charged", waitingFor: string(review.TopUp)}
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: PaymentWorkflowID(review.TopUp), TaskQueue: PaymentsQueue, ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, StaticSummary: "Automatic top-up of " + string(f.input.AccountID),
	})
	started := workflow.ExecuteChildWorkflow(ctx, PaymentType, PaymentInput{PaymentID: review.TopUp, Charge: true}).GetChildWorkflowExecution()
	if err := started.Get(ctx, nil); err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		f.trouble(ctx, PaymentType, err)
	}
}

// sleep waits until the review means something else, or until a change is told.
func (f *fundsRun) sleep(ctx workflow.Context, review FundsReview) {
	heard := func() bool { return f.changed.Len() > 0 }
	if heard() {
		return
	}
	now := workflow.Now(ctx)
	wake := review.Next
	if again := now.Add(orderAgain); len(review.Releases) > 0 && (wake == nil || again.Before(*wake)) {
		wake = &again
	}
	f.now = doing{sentence: "sleeps until the money means something else, or a change is told", waitingFor: FundsChangedSignal, deadline: wake}
	if wake == nil {
		await(ctx, heard)
		return
	}
	patience := wake.Sub(now)
	if patience <= 0 {
		patience = wake.Sub(review.At) // the clock of the review is behind this one
	}
	pause(ctx, "Next look at "+wake.UTC().Format(time.RFC3339Nano), patience, heard)
}

func (f *fundsRun) trouble(ctx workflow.Context, step string, err error) {
	f.lastError = step + ": " + reason(err)
	workflow.GetLogger(ctx).Warn("a step of a watch over funds had trouble", "step", step, "account_id", f.input.AccountID, "error", err)
	f.show(ctx)
}

func (f *fundsRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}

func (f *fundsRun) explain() FundsExplanation {
	return FundsExplanation{
		Doing: f.now.sentence, Review: f.last, NextDeadline: f.now.deadline, LastError: f.lastError, Told: f.told, Reviews: f.reviews,
	}
}

// show writes the story where the Temporal UI shows it, and makes the account findable by how it stands.
func (f *fundsRun) show(ctx workflow.Context) {
	var text strings.Builder
	state := "covered"
	if review := f.last; review != nil {
		fmt.Fprintf(&text, "`%s` of `%s` has %s left and spends %s an hour on %d allocations\n\n", f.input.AccountID, f.input.TenantID,
			review.AvailableMicros.Exact(review.Currency), review.RateMicrosPerHour.Exact(review.Currency), review.Costing)
		for _, line := range []struct {
			what string
			at   *time.Time
		}{{"low balance", review.LowAt}, {"release announced", review.PendingAt}, {"used up", review.ZeroAt}} {
			if line.at != nil {
				fmt.Fprintf(&text, "- %s at %s\n", line.what, line.at.Format(time.RFC3339Nano))
			}
		}
		for _, rung := range review.Standing {
			state = string(rung.Rung)
			fmt.Fprintf(&text, "- stands on %s (crossing %d) since %s", rung.Rung, rung.Crossing, rung.At.Format(time.RFC3339Nano))
			if rung.Rung == billing.Depleted {
				fmt.Fprintf(&text, ", found %d ms late, %s written off", rung.LateMS, rung.WrittenOffMicros.Exact(review.Currency))
			}
			text.WriteString("\n")
		}
		if review.TopUp != "" {
			fmt.Fprintf(&text, "- the saved card is charged by `%s`\n", review.TopUp)
		}
		for _, order := range review.Releases {
			fmt.Fprintf(&text, "- `%s` is to end as of %s: %s\n", order.AllocationID, order.AskedAt.Format(time.RFC3339Nano), order.Reason)
		}
	}
	if f.lastError != "" {
		fmt.Fprintf(&text, "- last trouble: %s\n", f.lastError)
	}
	workflow.SetCurrentDetails(ctx, text.String())
	f.attribute(ctx, state)
}

// attribute makes the account findable by how it stands, when that has changed.
func (f *fundsRun) attribute(ctx workflow.Context, state string) {
	if f.shown == state {
		return
	}
	f.shown = state
	err := workflow.UpsertTypedSearchAttributes(ctx, AttributeAccount.ValueSet(string(f.input.AccountID)), AttributeState.ValueSet(state))
	if err != nil {
		workflow.GetLogger(ctx).Warn("search attributes were not set", "error", err)
	}
}
