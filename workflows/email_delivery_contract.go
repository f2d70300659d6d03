package workflows

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/id"
)

// EmailDeliveryType is the registered name of the workflow that hands a mail to the SMTP server (docs/flows/email.md).
const EmailDeliveryType = "EmailDelivery"

// EmailDeliveryWorkflowID is the workflow id of a mail.
func EmailDeliveryWorkflowID(message id.Mail) string { return "email/" + string(message) }

// EmailDeliveryInput names the mail. Its address and text are no part of any history.
type EmailDeliveryInput struct {
	MessageID id.Mail    `json:"message_id"`
	Kind      email.Kind `json:"kind"`
}

// EmailAttempt asks for one attempt, counted from 1.
type EmailAttempt struct {
	MessageID id.Mail `json:"message_id"`
	Number    int     `json:"number"`
}

// EmailStanding is how a mail stands after an attempt. State is empty for one that is not there any more.
type EmailStanding struct {
	State email.State `json:"state"`
	// Code is what the server answered, 0 where it said nothing.
	Code int `json:"code,omitempty"`
	// RetryAfterMs is the pause before the next attempt of a mail that is still pending.
	RetryAfterMs int64 `json:"retry_after_ms,omitempty"`
}

// StepAttemptEmail writes a mail, hands it over once, and writes down what came of it. An attempt that was written down is not made again. Its
// time is what the sender bounds itself to and what the database may take.
var StepAttemptEmail = Step[EmailAttempt, EmailStanding]{
	Name: "email_messages.attempt", Queue: DeliveriesQueue, StartToClose: 90 * time.Second, Retry: retryAlways,
}
