package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"
)

type webhookRun struct{ eventID string }

// WebhookEvent is one event of the payment provider at work: whom it is for is found out, they are told, and that is written down.
func WebhookEvent(ctx workflow.Context, in WebhookEventInput) error {
	w := webhookRun{in.EventID}
	route := insist(ctx, w, StepRouteEvent, "Find whom "+in.EventID+" is for", in)
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("`%s`: %s %s", in.EventID, route.Outcome, route.About))
	if route.PaymentID != "" || route.RefundID != "" || route.DisputeID != "" || route.CardID != "" {
		insist(ctx, w, StepTellEvent, "Tell "+route.About, route)
	}
	insist(ctx, w, StepNoteEvent, "Write down what became of "+in.EventID, route)
	return nil
}

func (w webhookRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of an event had trouble", "step", step, "event_id", w.eventID, "error", err)
}

func (w webhookRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}

type sweepRun struct{}

// StripeSweep asks the payment provider, again and again, for the events of which no webhook told, and begins those that were stored while
// nobody could begin them.
func StripeSweep(ctx workflow.Context, in StripeSweepInput) error {
	for sweeps := 1; ; sweeps++ {
		found := insist(ctx, sweepRun{}, StepSweep, "Ask for events of which no webhook told", SweepIn{Since: in.Since})
		in.Since = found.Next
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("%d events were asked for, %d begun", found.Asked, found.Begun))
		pause(ctx, "Wait to ask again", max(time.Second, time.Duration(found.LookAgainSeconds)*time.Second), never)
		if historyIsLong(ctx, 0) || in.Sweeps > 0 && sweeps >= in.Sweeps {
			return workflow.NewContinueAsNewError(ctx, StripeSweepType, in)
		}
	}
}

func (sweepRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a sweep had trouble", "step", step, "error", err)
}

func (sweepRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
