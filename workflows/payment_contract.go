package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// The registered names of the workflows of money from and to the payment provider (docs/flows/payments.md).
const (
	PaymentType      = "Payment"
	RefundType       = "Refund"
	DisputeType      = "Dispute"
	WebhookEventType = "WebhookEvent"
	StripeSweepType  = "StripeSweep"
)

// PaymentWorkflowID is the workflow id of a payment.
func PaymentWorkflowID(paymentID id.Payment) string { return "payment/" + string(paymentID) }

// RefundWorkflowID is the workflow id of a refund.
func RefundWorkflowID(refundID id.Refund) string { return "refund/" + string(refundID) }

// DisputeWorkflowID is the workflow id of a dispute.
func DisputeWorkflowID(disputeID id.Dispute) string { return "dispute/" + string(disputeID) }

// WebhookEventWorkflowID is the workflow id of one event of the payment provider.
func WebhookEventWorkflowID(eventID string) string { return "webhook/" + eventID }

// StripeSweepWorkflowID is the one workflow that asks for what no webhook told.
const StripeSweepWorkflowID = "stripe-sweep"

// LookSignal tells a Payment, a Refund or a Dispute that something happened at the payment provider. It carries the event's id, for readers
// of the history; what happened is asked of the provider, so that order and number of signals do not matter.
const LookSignal = "look"

// PaymentInput starts a payment's workflow, by whoever asks for the payment or by an event about it.
type PaymentInput struct {
	PaymentID id.Payment `json:"payment_id"`
	// Charge has the saved card charged first: an automatic top-up that Funds recorded.
	Charge bool `json:"charge,omitempty"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int `json:"continue_after_events,omitempty"`
}

// OpenUpdate takes OpenPayment and answers PaymentReply once somebody can pay.
const OpenUpdate = "open"

// OpenPayment asks for a page on which an amount is paid. Both URLs are the platform's own.
type OpenPayment struct {
	PaymentID     id.Payment     `json:"payment_id"`
	TenantID      id.Tenant      `json:"tenant_id"`
	AccountID     id.Account     `json:"account_id"`
	UserID        id.User        `json:"user_id"`
	Currency      string         `json:"currency"`
	AmountMicros  money.Micros   `json:"amount_micros"`
	SaveCard      bool           `json:"save_card"`
	SuccessURL    string         `json:"success_url"`
	CancelURL     string         `json:"cancel_url"`
	Actor         identity.Actor `json:"actor"`
	CorrelationID string         `json:"correlation_id"`
}

// PaymentReply is the fault that refused a payment, or none.
type PaymentReply struct {
	Fault *Fault `json:"fault,omitempty"`
}

// PaymentStanding is how a payment stands. State is empty for one that does not exist.
type PaymentStanding struct {
	State         payment.State `json:"state"`
	AccountID     id.Account    `json:"account_id,omitempty"`
	CorrelationID string        `json:"correlation_id,omitempty"`
	ExpiresAt     time.Time     `json:"expires_at"`
	// Automatic is an automatic top-up: whoever watches the account's money hears of its failure, too.
	Automatic bool `json:"automatic,omitempty"`
	// LookAgainSeconds is after how long to ask again where no webhook tells.
	LookAgainSeconds int64 `json:"look_again_seconds"`
}

// RefundInput starts a refund's workflow.
type RefundInput struct {
	RefundID id.Refund `json:"refund_id"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int `json:"continue_after_events,omitempty"`
}

// AuthoriseUpdate takes RefundRequest and answers RefundReply once the amount is on the pending account, or was refused.
const AuthoriseUpdate = "authorise"

// RefundRequest asks for a payment, or a part of it, to be paid back.
type RefundRequest struct {
	RefundID      id.Refund      `json:"refund_id"`
	PaymentID     id.Payment     `json:"payment_id"`
	TenantID      id.Tenant      `json:"tenant_id"`
	UserID        id.User        `json:"user_id"`
	AmountMicros  money.Micros   `json:"amount_micros"`
	Reason        string         `json:"reason"`
	Actor         identity.Actor `json:"actor"`
	CorrelationID string         `json:"correlation_id"`
}

// RefundReply is the fault that refused a refund, or none.
type RefundReply struct {
	Fault *Fault `json:"fault,omitempty"`
}

// RefundRef names a refund.
type RefundRef struct {
	RefundID id.Refund `json:"refund_id"`
}

// RefundNews is what the provider makes of a refund.
type RefundNews struct {
	// Known is false for a refund that was never authorised.
	Known bool `json:"known"`
	// State is what it came to at the provider, pending while that is open.
	State            payment.RefundState `json:"state"`
	FailureReason    string              `json:"failure_reason,omitempty"`
	LookAgainSeconds int64               `json:"look_again_seconds"`
}

// SettleRefund says what a refund came to.
type SettleRefund struct {
	RefundID      id.Refund           `json:"refund_id"`
	State         payment.RefundState `json:"state"`
	FailureReason string              `json:"failure_reason,omitempty"`
}

// Moved says whose balance a step changed, if it did, now or when it ran before.
type Moved struct {
	Changed       bool       `json:"changed"`
	AccountID     id.Account `json:"account_id,omitempty"`
	CorrelationID string     `json:"correlation_id,omitempty"`
}

// DisputeInput starts a dispute's workflow.
type DisputeInput struct {
	DisputeID id.Dispute `json:"dispute_id"`
	// StripeDisputeID is what the provider calls it.
	StripeDisputeID string `json:"stripe_dispute_id"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int `json:"continue_after_events,omitempty"`
}

// DisputeStanding is how a dispute stands. State is empty for one that is about no payment of ours.
type DisputeStanding struct {
	Moved
	State            payment.DisputeState `json:"state"`
	LookAgainSeconds int64                `json:"look_again_seconds"`
}

// WebhookEventInput names a stored event.
type WebhookEventInput struct {
	EventID string `json:"event_id"`
}

// EventRoute is whom an event is for: one of the ids, or nobody.
type EventRoute struct {
	EventID         string     `json:"event_id"`
	PaymentID       id.Payment `json:"payment_id,omitempty"`
	RefundID        id.Refund  `json:"refund_id,omitempty"`
	DisputeID       id.Dispute `json:"dispute_id,omitempty"`
	CardID          id.Card    `json:"card_id,omitempty"`
	StripeDisputeID string     `json:"stripe_dispute_id,omitempty"`
	TenantID        id.Tenant  `json:"tenant_id,omitempty"`
	// Outcome is what is written down once whoever it is for was told.
	Outcome string `json:"outcome"`
	About   string `json:"about,omitempty"`
}

// StripeSweepInput starts, or continues, the sweep.
type StripeSweepInput struct {
	// Since is from when on events are asked for; zero lets the first sweep begin with what is known.
	Since time.Time `json:"since"`
	// Sweeps is after how many the run continues as new; 0 leaves it to the server's suggestion.
	Sweeps int `json:"sweeps,omitempty"`
}

// SweepIn is from when on a sweep asks.
type SweepIn struct {
	Since time.Time `json:"since"`
}

// SweepOut is what a sweep found, and from when on the next one asks.
type SweepOut struct {
	Next time.Time `json:"next"`
	// Asked are events of which no webhook told, Begun those that are worked on now, Leaving cards that the provider is told to forget.
	Asked   int `json:"asked"`
	Begun   int `json:"begun"`
	Leaving int `json:"leaving,omitempty"`
	// Disputes are those that were about nothing of ours when they were heard of, and now are.
	Disputes int `json:"disputes,omitempty"`
	// Forgotten are the customers of erased tenants that the provider has forgotten.
	Forgotten        int   `json:"forgotten,omitempty"`
	LookAgainSeconds int64 `json:"look_again_seconds"`
}

// retryProvider is for calls of the payment provider: it comes back, and is not asked more often than it likes.
var retryProvider = &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute}

// Steps of Payment, Refund and Dispute (queue: payments). A step that calls the provider uses an idempotency key that derives from our id.
var (
	// StepRecordPayment writes the payment with its audit row; a repeat finds it.
	StepRecordPayment = Step[OpenPayment, PaymentStanding]{Name: "payments.record", Queue: PaymentsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepOpenCheckout opens the page at the provider and writes it down; a refusal ends the payment.
	StepOpenCheckout = Step[OpenPayment, PaymentStanding]{Name: "payments.open_checkout", Queue: PaymentsQueue, StartToClose: 30 * time.Second, Retry: retryProvider}
	// StepChargeCard charges the saved card for an automatic top-up, once, and credits nothing: that follows a look. A refusal ends it.
	StepChargeCard = Step[PaymentInput, PaymentStanding]{Name: "payments.charge", Queue: PaymentsQueue, StartToClose: 30 * time.Second, Retry: retryProvider}
	// StepLookPayment asks the provider how the payment stands and makes it so here: a payment that was made is credited, once.
	StepLookPayment = Step[PaymentInput, PaymentStanding]{Name: "payments.look", Queue: PaymentsQueue, StartToClose: 30 * time.Second, Retry: retryProvider}

	// StepAuthoriseRefund holds the account, decides, and posts the amount to the pending account with its audit row.
	StepAuthoriseRefund = Step[RefundRequest, Moved]{Name: "refunds.authorise", Queue: PaymentsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepSendRefund has the provider pay it back, once, or asks what became of it.
	StepSendRefund = Step[RefundRef, RefundNews]{Name: "refunds.send", Queue: PaymentsQueue, StartToClose: 30 * time.Second, Retry: retryProvider}
	// StepSettleRefund posts what it came to.
	StepSettleRefund = Step[SettleRefund, Moved]{Name: "refunds.settle", Queue: PaymentsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}

	// StepLookDispute asks the provider how the dispute stands and makes it so here.
	StepLookDispute = Step[DisputeInput, DisputeStanding]{Name: "disputes.look", Queue: PaymentsQueue, StartToClose: 30 * time.Second, Retry: retryProvider}

	// StepSweep stores events of which no webhook told, begins what nobody has begun, and has the provider forget the cards that leave.
	StepSweep = Step[SweepIn, SweepOut]{Name: "webhooks.sweep", Queue: PaymentsQueue, StartToClose: 2 * time.Minute, Retry: retryProvider}
)

// Steps of WebhookEvent (queue: webhooks).
var (
	// StepRouteEvent finds whom an event is for, and asks the provider where that is not written down here. A dispute waits for its payment's credit.
	StepRouteEvent = Step[WebhookEventInput, EventRoute]{Name: "webhooks.route", Queue: WebhooksQueue, StartToClose: 30 * time.Second, Retry: retryAlways}
	// StepTellEvent tells them, starting their workflow where it does not run.
	StepTellEvent = Step[EventRoute, Nothing]{Name: "webhooks.tell", Queue: WebhooksQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepNoteEvent writes down what became of an event.
	StepNoteEvent = Step[EventRoute, Nothing]{Name: "webhooks.note", Queue: WebhooksQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
)
