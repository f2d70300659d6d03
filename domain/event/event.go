// Package event names what everybody outside sees: the subjects of SPEC §4 and their envelope. A leaf:
// standard library only.
package event

import (
	"encoding/json"
	"strings"
	"time"
)

// Type is an event's subject, "domain.name".
type Type string

const (
	ProvisioningRequested             Type = "provisioning.requested"
	ProvisioningActive                Type = "provisioning.active"
	ProvisioningFailed                Type = "provisioning.failed"
	ProvisioningReleasingRequested    Type = "provisioning.releasing.requested"
	ProvisioningReleasingCompleted    Type = "provisioning.releasing.completed"
	ProvisioningReleaseFailed         Type = "provisioning.release_failed"
	ProvisioningForceReleaseRequested Type = "provisioning.force_release_requested"
	BillingLowBalanceWarning          Type = "billing.low_balance_warning"
	BillingAutoReleasePending         Type = "billing.auto_release_pending"
	BillingBalanceDepleted            Type = "billing.balance_depleted"
	BillingBudgetWarning              Type = "billing.budget_warning"
	BillingBudgetExhausted            Type = "billing.budget_exhausted"
	BillingUsageRecorded              Type = "billing.usage_recorded"
	BillingBalanceAdjusted            Type = "billing.balance_adjusted"
	BillingReconciliationFinding      Type = "billing.reconciliation_finding"
	PaymentsBalanceCredited           Type = "payments.balance_credited"
	PaymentsDepositFailed             Type = "payments.deposit_failed"
	PaymentsRefundSettled             Type = "payments.refund_settled"
	PaymentsRefundFailed              Type = "payments.refund_failed"
	PaymentsDisputeOpened             Type = "payments.dispute_opened"
	PaymentsDisputeClosed             Type = "payments.dispute_closed"
	WebhooksEndpointDisabled          Type = "webhooks.endpoint_disabled"
	PaymentsAutoTopUpPaused           Type = "payments.auto_topup_paused"
)

// Stream is the stream a subject belongs to: its first word in capitals.
func (t Type) Stream() string {
	domain, _, _ := strings.Cut(string(t), ".")
	return strings.ToUpper(domain)
}

// Version is the envelope's version.
const Version = "1.0"

// Envelope is the body of every published message. OccurredAt is UTC, RFC 3339.
type Envelope struct {
	EventID       string          `json:"event_id"`
	EventType     Type            `json:"event_type"`
	OccurredAt    time.Time       `json:"occurred_at"`
	Version       string          `json:"version"`
	CorrelationID string          `json:"correlation_id"`
	Payload       json.RawMessage `json:"payload"`
}
