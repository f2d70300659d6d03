package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/webhook"
)

// The input, the id and the step are in webhook_delivery_contract.go.

type deliveryRun struct {
	WebhookDeliveryInput
	number int
}

// WebhookDelivery brings one event to one endpoint: it attempts until the endpoint takes it, the attempts that policy allows are used up, or
// the endpoint is disabled or gone.
func WebhookDelivery(root workflow.Context, in WebhookDeliveryInput) error {
	// What an operator cancels in Temporal would be pending for ever in PostgreSQL; whoever wants it to end disables the endpoint.
	ctx, _ := workflow.NewDisconnectedContext(root)
	d := &deliveryRun{WebhookDeliveryInput: in}
	for d.number = 1; ; d.number++ {
		standing := insist(ctx, d, StepAttemptDelivery, fmt.Sprintf("Attempt %d to tell of %s", d.number, in.EventType),
			DeliveryAttempt{DeliveryID: in.DeliveryID, Round: in.Round, Number: d.number})
		pauseFor := time.Duration(standing.RetryAfterMs) * time.Millisecond
		d.show(ctx, standing, pauseFor)
		if standing.State != webhook.Pending {
			return nil
		}
		pause(ctx, fmt.Sprintf("Wait before attempt %d", d.number+1), max(time.Second, pauseFor), never)
	}
}

func (d *deliveryRun) show(ctx workflow.Context, standing DeliveryStanding, pauseFor time.Duration) {
	told := fmt.Sprintf("`%s` (%s), round %d, attempt %d: ", d.DeliveryID, d.EventType, d.Round, d.number)
	switch {
	case standing.State == "":
		told += "the delivery is gone, or in a later round"
	case standing.StatusCode != 0:
		told += fmt.Sprintf("%s with status %d, **%s**", standing.Outcome, standing.StatusCode, standing.State)
	default:
		told += fmt.Sprintf("%s **%s**", standing.Outcome, standing.State)
	}
	if standing.State == webhook.Pending {
		told += fmt.Sprintf("; again at %s", workflow.Now(ctx).Add(pauseFor).UTC().Format(time.RFC3339))
	}
	workflow.SetCurrentDetails(ctx, told)
}

func (d *deliveryRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a delivery had trouble", "step", step, "delivery_id", d.DeliveryID, "error", err)
}

func (d *deliveryRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
