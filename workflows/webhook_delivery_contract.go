package workflows

import (
	"strconv"
	"time"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/webhook"
)

// WebhookDeliveryType is the registered name of the workflow that brings an event to a customer's endpoint (docs/flows/webhooks.md).
const WebhookDeliveryType = "WebhookDelivery"

// WebhookDeliveryWorkflowID is the workflow id of a round of a delivery.
func WebhookDeliveryWorkflowID(delivery id.Delivery, round int) string {
	return "webhook-delivery/" + string(delivery) + "/" + strconv.Itoa(round)
}

// WebhookDeliveryInput starts a round of attempts.
type WebhookDeliveryInput struct {
	DeliveryID id.Delivery `json:"delivery_id"`
	Round      int         `json:"round"`
	EventType  event.Type  `json:"event_type"`
}

// DeliveryAttempt asks for one attempt, counted from 1 in its round.
type DeliveryAttempt struct {
	DeliveryID id.Delivery `json:"delivery_id"`
	Round      int         `json:"round"`
	Number     int         `json:"number"`
}

// DeliveryStanding is how a delivery stands after an attempt. State is empty for one that is not there any more, or is in a later round. The
// answer of the endpoint is no part of it: it may hold anything, and is kept in PostgreSQL alone.
type DeliveryStanding struct {
	State      webhook.State   `json:"state"`
	Outcome    webhook.Outcome `json:"outcome,omitempty"`
	StatusCode int             `json:"status_code,omitempty"`
	// RetryAfterMs is the pause before the next attempt of a delivery that is still pending.
	RetryAfterMs int64 `json:"retry_after_ms,omitempty"`
}

// StepAttemptDelivery sends a delivery once and writes down what came of it, with what it means for the endpoint, in one transaction. An
// attempt that was written down is not made again. Its time is policy's own bound and what the database may take.
var StepAttemptDelivery = Step[DeliveryAttempt, DeliveryStanding]{
	Name: "webhook_deliveries.attempt", Queue: DeliveriesQueue, StartToClose: 90 * time.Second, Retry: retryAlways,
}
