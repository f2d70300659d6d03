package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// The inputs, ids, updates and steps of the workflows in this file are in payment_contract.go; the whole is told in docs/flows/payments.md.

// lookAtMost is the longest time between two looks at something that is open.
const lookAtMost = time.Hour

// expiryMargin is how much later than announced a page may be closed.
const expiryMargin = 30 * time.Second

type paymentRun struct {
	watch    *watch
	id       id.Payment
	standing PaymentStanding
	// opened says that the page was opened in this run, so that there is nothing to look at yet.
	opened bool
	// told says that the watch over the account's money was told of the credit, by whichever look it was posted.
	told bool
}

// Payment opens a page on which a deposit is paid, or charges the saved card, and credits it when the provider says that it was paid. Events tell it when to look; where none
// arrives it looks by itself. A payment that has ended is looked at again when an event says so.
func Payment(root workflow.Context, in PaymentInput) error {
	// A cancellation in Temporal takes nothing back that somebody may have paid.
	ctx, _ := workflow.NewDisconnectedContext(root)
	p := &paymentRun{id: in.PaymentID, watch: newWatch(ctx)}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, OpenUpdate, p.open, workflow.UpdateHandlerOptions{
		Validator: p.mayOpen, Description: "Somebody's wish to pay; Postgres keeps it, with its audit row.",
	}); err != nil {
		return err
	}
	letHandlersStart(ctx)
	p.watch.answered(ctx)
	if in.Charge {
		in.Charge = false
		p.standing = insist(ctx, p, StepChargeCard, "Charge the saved card for "+string(p.id), in)
		p.opened = !p.standing.State.Ended()
		p.show(ctx)
	}
	for {
		if p.opened {
			p.watch.wait(ctx, p.standing.LookAgainSeconds, p.standing.ExpiresAt)
		}
		p.watch.drain(ctx)
		p.standing, p.opened = insist(ctx, p, StepLookPayment, "Ask how "+string(p.id)+" stands", in), true
		p.show(ctx)
		if because := p.news(); because != "" && !p.told {
			p.told = true
			tellMoved(ctx, p, p.standing.AccountID, because, p.standing.CorrelationID)
		}
		// A payment without a state was never recorded: nothing was asked for.
		if (p.standing.State == "" || p.standing.State.Ended()) && p.watch.quiet() {
			break
		}
		if historyIsLong(ctx, in.ContinueAfterEvents) {
			return continueLooking(ctx, PaymentType, in)
		}
	}
	return nil
}

// news is what the watch over the account's money has to hear of the payment; nothing while it is open.
func (p *paymentRun) news() string {
	switch {
	case p.standing.State == payment.Credited:
		return "a deposit was credited"
	case p.standing.State.Ended() && p.standing.Automatic:
		return "an automatic top-up came to nothing"
	default:
		return ""
	}
}

// continueLooking begins a fresh history, whose first act is to look: what is told meanwhile is not lost.
func continueLooking(ctx workflow.Context, workflowType string, in any) error {
	await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	newWatch(ctx).drain(ctx)
	return workflow.NewContinueAsNewError(ctx, workflowType, in)
}

func (p *paymentRun) mayOpen(_ workflow.Context, asked OpenPayment) error {
	if asked.PaymentID != p.id {
		return fmt.Errorf("the request is for %s and this workflow holds %s", asked.PaymentID, p.id)
	}
	return nil
}

func (p *paymentRun) open(ctx workflow.Context, asked OpenPayment) (PaymentReply, error) {
	p.watch.asked = true
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	standing, err := StepRecordPayment.Run(ctx, fmt.Sprintf("Record a deposit of %s into %s", asked.AmountMicros.Exact(asked.Currency), asked.AccountID), asked)
	if err == nil && standing.State == payment.Requested {
		standing, err = StepOpenCheckout.Run(ctx, "Open the page on which "+string(p.id)+" is paid", asked)
	}
	if refusal := refusalOf(err); refusal != nil {
		return PaymentReply{Fault: refusal}, nil
	}
	if err != nil {
		return PaymentReply{}, err
	}
	p.standing, p.opened = standing, true
	p.show(ctx)
	return PaymentReply{}, nil
}

func (p *paymentRun) show(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("`%s` is **%s**", p.id, p.standing.State))
}

func (p *paymentRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a payment had trouble", "step", step, "payment_id", p.id, "error", err)
}

func (p *paymentRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}

// watch waits for news: for a signal, and for ever longer where none comes. An update that is answered is news, too: it may come while a
// look goes on that knew nothing of it, when the worker was away and the server hands it over behind the start that it came with.
type watch struct {
	news     workflow.ReceiveChannel
	asked    bool
	patience time.Duration
}

func newWatch(ctx workflow.Context) *watch {
	return &watch{news: workflow.GetSignalChannel(ctx, LookSignal)}
}

// wait returns when something was told, or it is time to ask. by, unless zero, is an instant by which something will have happened.
func (w *watch) wait(ctx workflow.Context, seconds int64, by time.Time) {
	w.patience = min(max(2*w.patience, time.Duration(seconds)*time.Second), max(lookAtMost, time.Duration(seconds)*time.Second))
	patience := max(w.patience, time.Second)
	if left := by.Add(expiryMargin).Sub(workflow.Now(ctx)); !by.IsZero() && left > 0 {
		patience = min(patience, left)
	}
	pause(ctx, "Wait for news, or to ask by itself", patience, func() bool { return !w.quiet() })
}

// quiet says that nothing was told or asked for since the last look.
func (w *watch) quiet() bool { return w.news.Len() == 0 && !w.asked }

// answered waits until every update has its answer: what they did is there for the look that follows.
func (w *watch) answered(ctx workflow.Context) {
	await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	w.asked = false
}

// drain takes what was told and asked for: a thousand signals are one look, which comes after them.
func (w *watch) drain(ctx workflow.Context) {
	w.answered(ctx)
	for told := ""; w.news.ReceiveAsync(&told); {
		w.patience = 0
	}
}

// tellMoved tells the watch over an account's money that it has changed.
func tellMoved(ctx workflow.Context, about entity, account id.Account, because, correlationID string) {
	insist(ctx, about, StepTellFunds, "Tell Funds: "+because, TellFundsIn{AccountID: account, Because: because, CorrelationID: correlationID})
}
