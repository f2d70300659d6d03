package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/payment"
)

type refundRun struct {
	id    id.Refund
	watch *watch
}

// Refund pays a deposit, or a part of it, back: the amount leaves the balance for the pending account, then the provider is asked, and what
// it says is posted. A refund that the provider or a bank did not take is in the balance again, also when that is found out late.
func Refund(root workflow.Context, in RefundInput) error {
	// What was taken out of a balance arrives or comes back, whoever cancels this.
	ctx, _ := workflow.NewDisconnectedContext(root)
	r := &refundRun{id: in.RefundID, watch: newWatch(ctx)}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, AuthoriseUpdate, r.authorise, workflow.UpdateHandlerOptions{
		Validator: r.mayAuthorise, Description: "Somebody's wish for their money; Postgres decides, under the account's lock.",
	}); err != nil {
		return err
	}
	letHandlersStart(ctx)
	for {
		r.watch.drain(ctx)
		news := insist(ctx, r, StepSendRefund, "Have "+string(r.id)+" paid back, or ask what became of it", RefundRef{RefundID: r.id})
		// One that is not known was refused, or was never asked for: nothing was taken.
		if news.Known {
			r.follow(ctx, news)
		}
		if (!news.Known || news.State != payment.RefundPending) && r.watch.quiet() {
			return nil
		}
		if historyIsLong(ctx, in.ContinueAfterEvents) {
			return continueLooking(ctx, RefundType, in)
		}
		r.watch.wait(ctx, news.LookAgainSeconds, time.Time{})
	}
}

// follow posts what became of the refund, once it is known.
func (r *refundRun) follow(ctx workflow.Context, news RefundNews) {
	r.show(ctx, news)
	if news.State == payment.RefundPending {
		return
	}
	moved := insist(ctx, r, StepSettleRefund, fmt.Sprintf("Post that %s %s", r.id, news.State),
		SettleRefund{RefundID: r.id, State: news.State, FailureReason: news.FailureReason})
	if moved.Changed {
		tellMoved(ctx, r, moved.AccountID, "a refund came back", moved.CorrelationID)
	}
}

func (r *refundRun) mayAuthorise(_ workflow.Context, asked RefundRequest) error {
	if asked.RefundID != r.id {
		return fmt.Errorf("the request is for %s and this workflow holds %s", asked.RefundID, r.id)
	}
	return nil
}

func (r *refundRun) authorise(ctx workflow.Context, asked RefundRequest) (RefundReply, error) {
	r.watch.asked = true
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	moved, err := StepAuthoriseRefund.Run(ctx, fmt.Sprintf("Take %d micros out of the balance for %s", asked.AmountMicros, r.id), asked)
	if refusal := refusalOf(err); refusal != nil {
		return RefundReply{Fault: refusal}, nil
	}
	if err != nil {
		return RefundReply{}, err
	}
	if moved.Changed {
		tellMoved(ctx, r, moved.AccountID, "a refund was taken out", moved.CorrelationID)
	}
	return RefundReply{}, nil
}

func (r *refundRun) show(ctx workflow.Context, news RefundNews) {
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("`%s` is **%s** %s", r.id, news.State, news.FailureReason))
}

func (r *refundRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a refund had trouble", "step", step, "refund_id", r.id, "error", err)
}

func (r *refundRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
