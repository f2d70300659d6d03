package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// AccountCostsMoney says whether a meter of the account runs that costs something.
func AccountCostsMoney(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (bool, error) {
	row, err := one[struct{ Costs bool }](ctx, db, "AllocationsCostMoney", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	return row.Costs, err
}

// CostingAccount is an account of which a meter runs that costs something.
type CostingAccount struct {
	TenantID  id.Tenant
	AccountID id.Account
}

// CostingAccounts lists them: a tenant's, or, when tenant is empty, everybody's, for the platform alone.
func CostingAccounts(ctx context.Context, db DB, tenant id.Tenant) ([]CostingAccount, error) {
	return many[CostingAccount](ctx, db, "AccountsCostMoney", pgx.NamedArgs{"tenant_id": optional(tenant)})
}

// FundedAllocation is an allocation with a price that has not ended. A meter that a suspension stopped has its end there until it runs again.
type FundedAllocation struct {
	ID                id.Allocation
	ProjectID         id.Project
	UserID            id.User
	Name              string
	SKU               id.SKU `db:"sku_id"`
	State             allocation.State
	RateMicrosPerHour money.Micros
	MeteredFrom       *time.Time
	MeteredTo         *time.Time
	Suspended         bool
}

// AccountFunds is what an account holds and what draws on it.
type AccountFunds struct {
	billing.Funds
	Allocations []FundedAllocation
}

// mostDebits bounds how many debits are added back to see what was there before them.
const mostDebits = 100

// ReadFunds reads what an account holds and what draws on it. A meter that starts or stops meanwhile is seen before or after;
// the ledger's part is of one moment.
func ReadFunds(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (AccountFunds, error) {
	allocations, err := many[FundedAllocation](ctx, db, "AllocationsOfFunds", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	if err != nil {
		return AccountFunds{}, err
	}
	ids := make([]id.Allocation, len(allocations))
	for i, held := range allocations {
		ids[i] = held.ID
	}
	ledger, err := one[struct {
		BalanceMicros money.Micros
		DebitAt       []time.Time
		DebitMicros   []money.Micros
		CreditedAt    *time.Time
		PostedTo      []*time.Time
		Settled       []bool
		FreeOf        []id.Allocation
		FreeFrom      []time.Time
		FreeTo        []time.Time
	}](ctx, db, "LedgerFunds", pgx.NamedArgs{"account_id": account, "allocation_ids": ids, "most_debits": mostDebits})
	if err != nil {
		return AccountFunds{}, err
	}
	funds := AccountFunds{Funds: billing.Funds{BalanceMicros: ledger.BalanceMicros}, Allocations: allocations}
	for i, at := range ledger.DebitAt {
		funds.Debits = append(funds.Debits, billing.Debit{At: at, Micros: ledger.DebitMicros[i]})
	}
	if len(ledger.DebitAt) == mostDebits { // there may be older ones, before which nobody can say what was there
		funds.Since = ledger.DebitAt[mostDebits-1]
	}
	if ledger.CreditedAt != nil {
		funds.CreditedAt = *ledger.CreditedAt
	}
	free := map[id.Allocation][]billing.Period{}
	for i, of := range ledger.FreeOf {
		free[of] = append(free[of], billing.Period{Start: ledger.FreeFrom[i], End: ledger.FreeTo[i]})
	}
	for i, held := range allocations {
		if held.MeteredFrom == nil || ledger.Settled[i] {
			continue
		}
		funds.Draws = append(funds.Draws, billing.Draw{
			Meter:    billing.Meter{RateMicrosPerHour: held.RateMicrosPerHour, Anchor: *held.MeteredFrom, End: held.MeteredTo},
			PostedTo: ledger.PostedTo[i], Free: free[held.ID],
		})
	}
	return funds, nil
}

// FundsStanding is the newest row of a rung.
type FundsStanding struct {
	Rung             billing.Rung
	Crossing         int64
	Fact             string
	At               time.Time
	Deadline         *time.Time
	AvailableMicros  money.Micros
	LateMS           int64 `db:"late_ms"`
	WrittenOffMicros money.Micros
}

// Facts of a rung.
const (
	rungReached = "reached"
	rungLeft    = "left"
)

// Stands says that the rung was reached and not left since.
func (s FundsStanding) Stands() bool { return s.Fact == rungReached }

// FundsStandings reads how an account stands on each rung that it ever reached.
func FundsStandings(ctx context.Context, db DB, tenant id.Tenant, account id.Account) ([]FundsStanding, error) {
	return many[FundsStanding](ctx, db, "FundsStanding", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
}

// FundsCrossing is a rung reached or left, with what the account held then.
type FundsCrossing struct {
	TenantID        id.Tenant
	AccountID       id.Account
	Crossing        billing.Crossing
	BalanceMicros   money.Micros
	AvailableMicros money.Micros
	CorrelationID   string
}

// InsertFundsCrossing writes it. Only under the account's lock does it follow from what was read.
func InsertFundsCrossing(ctx context.Context, db DB, row FundsCrossing) error {
	fact := rungLeft
	if row.Crossing.Reached {
		fact = rungReached
	}
	_, err := execute(ctx, db, "FundsCrossingInsert", pgx.NamedArgs{
		"tenant_id": row.TenantID, "account_id": row.AccountID, "rung": string(row.Crossing.Rung), "crossing": row.Crossing.Number, "fact": fact,
		"at": row.Crossing.At, "deadline": row.Crossing.Deadline, "balance_micros": int64(row.BalanceMicros), "available_micros": int64(row.AvailableMicros),
		"late_ms": row.Crossing.Late.Milliseconds(), "written_off_micros": int64(row.Crossing.WrittenOffMicros), "correlation_id": row.CorrelationID,
	})
	return err
}
