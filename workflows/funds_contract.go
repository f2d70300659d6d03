package workflows

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
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
