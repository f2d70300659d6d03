package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/email"
)

// The input, the id and the step are in email_delivery_contract.go.

type emailRun struct {
	EmailDeliveryInput
	number int
}

// EmailDelivery brings one mail to one recipient: it attempts until the SMTP server takes it, refuses it for good, nobody is to have it any
// more, or the time that policy allows is over.
func EmailDelivery(root workflow.Context, in EmailDeliveryInput) error {
	// What an operator cancels in Temporal would be pending for ever in PostgreSQL.
	ctx, _ := workflow.NewDisconnectedContext(root)
	e := &emailRun{EmailDeliveryInput: in}
	for e.number = 1; ; e.number++ {
		standing := insist(ctx, e, StepAttemptEmail, fmt.Sprintf("Attempt %d to write about %s", e.number, in.Kind), EmailAttempt{MessageID: in.MessageID, Number: e.number})
		pauseFor := max(time.Second, time.Duration(standing.RetryAfterMs)*time.Millisecond)
		e.show(ctx, standing, pauseFor)
		if standing.State != email.Pending {
			return nil
		}
		pause(ctx, fmt.Sprintf("Wait before attempt %d", e.number+1), pauseFor, never)
	}
}

func (e *emailRun) show(ctx workflow.Context, standing EmailStanding, pauseFor time.Duration) {
	told := fmt.Sprintf("`%s` (%s), attempt %d: ", e.MessageID, e.Kind, e.number)
	switch {
	case standing.State == "":
		told += "the mail is gone"
	case standing.Code != 0:
		told += fmt.Sprintf("the server said %d, **%s**", standing.Code, standing.State)
	default:
		told += fmt.Sprintf("**%s**", standing.State)
	}
	if standing.State == email.Pending {
		told += fmt.Sprintf("; again at %s", workflow.Now(ctx).Add(pauseFor).UTC().Format(time.RFC3339))
	}
	workflow.SetCurrentDetails(ctx, told)
}

func (e *emailRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a mail had trouble", "step", step, "message_id", e.MessageID, "error", err)
}

func (e *emailRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
