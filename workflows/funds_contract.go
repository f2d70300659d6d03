package workflows

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// FundsType is the registered name of the Funds workflow: one account, for as long as something of it costs money.
const FundsType = "Funds"

// FundsWorkflowID is the workflow id of an account's Funds.
func FundsWorkflowID(account id.Account) string { return "funds/" + string(account) }

// FundsInput starts, or continues, the watch over one account.
type FundsInput struct {
	AccountID id.Account `json:"account_id"`
	TenantID  id.Tenant  `json:"tenant_id"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int `json:"continue_after_events,omitempty"`
	// Carried is set by continue-as-new alone.
	Carried *FundsState `json:"carried,omitempty"`
}

// FundsChangedSignal takes FundsChange: something that the account's money depends on is another than before. What it is
// is read from Postgres, so that none is lost and a thousand of them are one.
const FundsChangedSignal = "changed"

// FundsChange is the payload of FundsChangedSignal; for readers of the history alone.
type FundsChange struct {
	Because       string `json:"because"`
	CorrelationID string `json:"correlation_id"`
}

// TellFundsIn says that an account's money, or what it is spent on, has changed.
type TellFundsIn struct {
	AccountID id.Account `json:"account_id"`
	// Because is one short phrase, such as "a deposit was credited".
	Because       string `json:"because"`
	CorrelationID string `json:"correlation_id"`
}

// StepTellFunds tells the Funds workflow of an account to look again. It starts one when something of the account costs
// money, and otherwise tells the one that runs, if any; call it after the change has been committed (queue: allocations).
var StepTellFunds = Step[TellFundsIn, Nothing]{Name: "funds.tell", Queue: AllocationsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}

// ReviewFundsIn names the account to look at.
type ReviewFundsIn struct {
	AccountID     id.Account `json:"account_id"`
	TenantID      id.Tenant  `json:"tenant_id"`
	CorrelationID string     `json:"correlation_id"`
}

// FundsReview is what an account holds, how it stands on the ladder, and what has to be done. Instants are UTC milliseconds.
type FundsReview struct {
	// At is the clock that the review was judged by.
	At                time.Time    `json:"at"`
	Currency          string       `json:"currency"`
	BalanceMicros     money.Micros `json:"balance_micros"`
	AvailableMicros   money.Micros `json:"available_micros"`
	RateMicrosPerHour money.Micros `json:"rate_micros_per_hour"`
	// Costing is how many meters cost money now; with none, and nothing to release, the watch ends.
	Costing int `json:"costing"`
	// LowAt, PendingAt and ZeroAt are when each rung is reached at these rates, in the past for those passed; nil for never.
	LowAt     *time.Time `json:"low_at,omitempty"`
	PendingAt *time.Time `json:"pending_at,omitempty"`
	ZeroAt    *time.Time `json:"zero_at,omitempty"`
	// Standing are the rungs that stand.
	Standing []FundsRung `json:"standing,omitempty"`
	// Next is when to look again if nobody tells of a change; nil for never.
	Next *time.Time `json:"next,omitempty"`
	// Releases are the allocations that have to end.
	Releases []FundsRelease `json:"releases,omitempty"`
	// TopUp is an automatic deposit that is recorded and waits for the saved card to be charged.
	TopUp id.Payment `json:"top_up,omitempty"`
}

// FundsRung is a rung that an account stands on. Late and WrittenOffMicros say how far behind its instant the end of money was
// found and what the time in between would have cost.
type FundsRung struct {
	Rung             billing.Rung `json:"rung"`
	Crossing         int64        `json:"crossing"`
	At               time.Time    `json:"at"`
	Deadline         *time.Time   `json:"deadline,omitempty"`
	LateMS           int64        `json:"late_ms,omitempty"`
	WrittenOffMicros money.Micros `json:"written_off_micros,omitempty"`
}

// FundsRelease is an allocation that has to end, as of AskedAt.
type FundsRelease struct {
	AllocationID id.Allocation           `json:"allocation_id"`
	AskedAt      time.Time               `json:"asked_at"`
	Cause        allocation.ReleaseCause `json:"cause"`
	Reason       string                  `json:"reason"`
}

// FundsExplanation is what is going on right now in the watch over an account; the answer of ExplainQuery.
type FundsExplanation struct {
	Doing string `json:"doing"`
	// Review is the last one; nil before the first.
	Review       *FundsReview `json:"review,omitempty"`
	NextDeadline *time.Time   `json:"next_deadline,omitempty"`
	LastError    string       `json:"last_error,omitempty"`
	// Told counts the changes heard in this run, Reviews how often Postgres was read for them.
	Told    int `json:"told"`
	Reviews int `json:"reviews"`
}

// StepReviewFunds reads, under the account's lock, what the account holds and what draws on it, writes the rungs that are reached or
// left, each with its event in the same transaction, and answers what has to be done. A repeat finds the rungs standing. It is
// bounded so that trouble reaches the workflow, which shows it and asks again for ever (queue: allocations).
var StepReviewFunds = Step[ReviewFundsIn, FundsReview]{
	Name: "funds.review", Queue: AllocationsQueue, StartToClose: 15 * time.Second, ScheduleToClose: time.Minute, Retry: retryAlways,
}
