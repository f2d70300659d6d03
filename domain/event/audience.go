package event

import "strings"

// DeadLetters is the stream of what could not be published or processed. Its subjects begin with "dlq.".
const DeadLetters = "DLQ"

// Audience is who is told of an event.
type Audience string

// The audiences. Whoever owns the allocation that an event is about is told of it, whatever their role.
const (
	// Nobody is told: the event is for programs.
	Nobody Audience = "nobody"
	// Operators are told, and nobody of a tenant: the event concerns the platform.
	Operators Audience = "operators"
	// Members are those who may see allocations at the project.
	Members Audience = "members"
	// Billing are those who may see the tenant's money.
	Billing Audience = "billing"
)

// audiences names every event there is; a test holds it beside the constants.
var audiences = map[Type]Audience{
	ProvisioningRequested:             Members,
	ProvisioningActive:                Members,
	ProvisioningFailed:                Members,
	ProvisioningReleasingRequested:    Members,
	ProvisioningReleasingCompleted:    Members,
	ProvisioningReleaseFailed:         Members,
	ProvisioningForceReleaseRequested: Members,
	BillingLowBalanceWarning:          Billing,
	BillingAutoReleasePending:         Billing,
	BillingBalanceDepleted:            Billing,
	BillingBudgetWarning:              Billing,
	BillingBudgetExhausted:            Billing,
	BillingUsageRecorded:              Nobody,
	BillingBalanceAdjusted:            Billing,
	BillingReconciliationFinding:      Operators,
	PaymentsBalanceCredited:           Billing,
	PaymentsDepositFailed:             Billing,
	PaymentsRefundSettled:             Billing,
	PaymentsRefundFailed:              Billing,
	PaymentsDisputeOpened:             Billing,
	PaymentsDisputeClosed:             Billing,
	WebhooksEndpointDisabled:          Members,
	PaymentsAutoTopUpPaused:           Billing,
}

// Audience of an event; Nobody for one that this release does not know.
func (t Type) Audience() Audience {
	if audience, known := audiences[t]; known {
		return audience
	}
	return Nobody
}

// Tenant says whether people of a tenant are told, so that the event names one.
func (a Audience) Tenant() bool { return a == Members || a == Billing }

// People says whether anybody is told.
func (a Audience) People() bool { return a != Nobody }

// All is every event there is, in no order.
func All() []Type {
	all := make([]Type, 0, len(audiences))
	for kind := range audiences {
		all = append(all, kind)
	}
	return all
}

// Streams are all the streams there are, in the order in which they are made.
func Streams() []string {
	return []string{"BILLING", "PAYMENTS", "PROVISIONING", "WEBHOOKS", DeadLetters}
}

// SubjectsOf is the pattern of a stream's subjects.
func SubjectsOf(stream string) string { return strings.ToLower(stream) + ".>" }
