package workflows

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Meter is what pricing a stretch of time needs; pinned when the allocation became active.
type Meter struct {
	AllocationID      id.Allocation `json:"allocation_id"`
	TenantID          id.Tenant     `json:"tenant_id"`
	AccountID         id.Account    `json:"account_id"`
	Currency          string        `json:"currency"`
	RateMicrosPerHour money.Micros  `json:"rate_micros_per_hour"`
	WindowSeconds     int64         `json:"window_seconds"`
	// Anchor is metered_from: UTC, truncated to the millisecond.
	Anchor        time.Time `json:"anchor"`
	CorrelationID string    `json:"correlation_id"`
}

// PostWindowsIn posts the windows of [From, To) in full. From is the end of what is already posted (the anchor at
// first), To a window boundary at or before now. DueAt is when the settlement of the first of them was due, which tells
// an outage from a usual delay; without it no outage is forgiven.
type PostWindowsIn struct {
	Meter Meter     `json:"meter"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Now   time.Time `json:"now"`
	DueAt time.Time `json:"due_at"`
}

// PostWindowsOut is what the posting learned. PostedTo may lie before To when policy caps one catch-up step.
type PostWindowsOut struct {
	PostedTo      time.Time    `json:"posted_to"`
	ChargedMicros money.Micros `json:"charged_micros"`
	// ForgivenMicros is the outage credit, if policy forgives.
	ForgivenMicros money.Micros `json:"forgiven_micros"`
	// BalanceMicros is what workers of before Funds answered, the account's balance after the posting; nobody reads it any more.
	BalanceMicros *money.Micros `json:"balance_micros,omitempty"`
}

// SettleEndIn closes a meter at To: posts what is missing (the last window prorated), or credits what was posted
// beyond To.
type SettleEndIn struct {
	Meter Meter     `json:"meter"`
	To    time.Time `json:"to"`
}

// SettleSuspensionIn bills a meter up to From, where a suspension stopped it, and gives back what the time from there to To
// costs, at which it runs on. Both are UTC milliseconds, From before To.
type SettleSuspensionIn struct {
	Meter Meter     `json:"meter"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
}

// SettleEndOut is the bill so far: ChargedMicros − CreditedMicros equals C(To − Anchor) less what outages forgave and what
// suspensions took out of it.
type SettleEndOut struct {
	ChargedMicros  money.Micros `json:"charged_micros"`
	CreditedMicros money.Micros `json:"credited_micros"`
	BalanceMicros  money.Micros `json:"balance_micros"`
}

// AdjustmentType is the registered name of the Adjustment workflow: one correction of a balance, at most once.
const AdjustmentType = "Adjustment"

// AdjustmentWorkflowID is the workflow id of an adjustment.
func AdjustmentWorkflowID(adjustmentID id.Adjustment) string {
	return "adjustment/" + string(adjustmentID)
}

// AdjustmentInput is one adjustment. AmountMicros is signed: positive credits the tenant's account. A debit is
// authorised under the account's lock against available = balance − accrued − holds.
type AdjustmentInput struct {
	AdjustmentID  id.Adjustment  `json:"adjustment_id"`
	AccountID     id.Account     `json:"account_id"`
	Currency      string         `json:"currency"`
	AmountMicros  money.Micros   `json:"amount_micros"`
	Opening       bool           `json:"opening"`
	Reason        string         `json:"reason"`
	Actor         identity.Actor `json:"actor"`
	CorrelationID string         `json:"correlation_id"`
}

// AdjustmentResult is the posted entry, or the fault that refused it.
type AdjustmentResult struct {
	EntryID       int64        `json:"entry_id,omitempty"`
	BalanceMicros money.Micros `json:"balance_micros"`
	Fault         *Fault       `json:"fault,omitempty"`
}

// StepAdjust posts an adjustment with its audit and outbox rows in one transaction; a repeat answers the entry
// that stands (queue: allocations).
var StepAdjust = Step[AdjustmentInput, AdjustmentResult]{Name: "ledger.adjust", Queue: AllocationsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
