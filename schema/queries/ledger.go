package queries

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Kinds of the platform's accounts: what usage earns, and where credits come from.
const (
	AccountPlatformRevenue = "platform_revenue"
	AccountPlatformCredit  = "platform_credit"
	// AccountPlatformRefundsDue owes what closed tenants are to be paid out.
	AccountPlatformRefundsDue = "platform_refunds_due"
	// AccountPlatformStripeClearing is what Stripe holds for the platform, with the sign turned: deposits come out of it.
	AccountPlatformStripeClearing = "platform_stripe_clearing"
	// AccountPlatformRefundsPending is what is on its way back to customers, and AccountPlatformDisputes what banks took until disputes are decided.
	AccountPlatformRefundsPending = "platform_refunds_pending"
	AccountPlatformDisputes       = "platform_disputes"
)

// PlatformAccount is the platform's account of a kind and a currency; fault.CurrencyMismatch when the platform
// keeps no books in that currency.
func PlatformAccount(ctx context.Context, db DB, kind, currency string) (id.Account, error) {
	found, err := one[struct{ ID id.Account }](ctx, db, "AccountPlatform", pgx.NamedArgs{"kind": kind, "currency": currency})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fault.Newf(fault.CurrencyMismatch, "The platform keeps no books in %q.", currency)
	}
	return found.ID, err
}

// Balance is an account's balance in micros: its newest checkpoint and the entries after it, in one statement.
// It does not name the tenant: use it where the account was read from a row of the tenant's, and
// TenantBalance where the account comes from a request.
func Balance(ctx context.Context, db DB, accountID id.Account) (money.Micros, error) {
	row, err := one[struct{ BalanceMicros money.Micros }](ctx, db, "LedgerBalance", pgx.NamedArgs{"account_id": accountID})
	return row.BalanceMicros, err
}

// TenantBalance is the balance of a tenant's own account with its currency; fault.AccountNotFound when the
// account is not the tenant's.
func TenantBalance(ctx context.Context, db DB, tenantID id.Tenant, accountID id.Account) (money.Micros, string, error) {
	row, err := one[struct {
		Currency      string
		BalanceMicros money.Micros
	}](ctx, db, "LedgerTenantBalance", pgx.NamedArgs{"account_id": accountID, "tenant_id": tenantID})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", fault.Wrap(err, fault.AccountNotFound, "")
	}
	return row.BalanceMicros, row.Currency, err
}

// Posted says how far an allocation's usage is in the ledger. PostedTo is nil before its first window; Settled
// says that the meter is closed and nothing more will come.
type Posted struct {
	AllocationID id.Allocation
	PostedTo     *time.Time
	Settled      bool
}

// LastPostedEnds answers, for each allocation, the end of its last posted window.
func LastPostedEnds(ctx context.Context, db DB, allocationIDs []id.Allocation) (map[id.Allocation]Posted, error) {
	rows, err := many[Posted](ctx, db, "LedgerLastPostedEnds", pgx.NamedArgs{"allocation_ids": allocationIDs})
	if err != nil {
		return nil, err
	}
	ends := make(map[id.Allocation]Posted, len(rows))
	for _, row := range rows {
		ends[row.AllocationID] = row
	}
	return ends, nil
}

// RunningMeter is the meter of an allocation that may not be settled yet.
type RunningMeter struct {
	AllocationID      id.Allocation
	RateMicrosPerHour money.Micros
	MeteredFrom       time.Time
	MeteredTo         *time.Time
}

// RunningMeters lists the meters of an account whose usage may not be in the ledger to its end.
func RunningMeters(ctx context.Context, db DB, tenantID id.Tenant, accountID id.Account) ([]RunningMeter, error) {
	return many[RunningMeter](ctx, db, "MetersRunning", pgx.NamedArgs{"tenant_id": tenantID, "account_id": accountID})
}

// LedgerEntry is one entry as its tenant's account sees it: AmountMicros is negative where the account was charged.
type LedgerEntry struct {
	ID             int64
	Kind           string
	Currency       string
	AmountMicros   money.Micros
	AllocationID   id.Allocation
	PeriodStart    *time.Time
	PeriodEnd      *time.Time
	IdempotencyKey string
	ReversesID     *int64
	CreatedAt      time.Time
}

// LedgerPage asks for the entries of a tenant's account, newest first. BeforeID is the id of the last entry of
// the page before, zero for the first page; an AllocationID narrows to one allocation, Since and Until to what was posted at or after the one and
// before the other. AfterID is below all that is wanted.
type LedgerPage struct {
	TenantID     id.Tenant
	AccountID    id.Account
	AllocationID id.Allocation
	AfterID      int64
	BeforeID     int64
	Since, Until time.Time
	Limit        int
}

// Narrow has only the ids looked at among which the entries of a time are.
func (p *LedgerPage) Narrow(within EntryRange) {
	p.AfterID = max(p.AfterID, within.After)
	if p.BeforeID <= 0 || p.BeforeID > within.UpTo+1 {
		p.BeforeID = max(within.UpTo+1, 1)
	}
}

// LedgerEntries reads one page; none when the account is not the tenant's.
func LedgerEntries(ctx context.Context, db DB, page LedgerPage) ([]LedgerEntry, error) {
	if page.BeforeID <= 0 {
		page.BeforeID = math.MaxInt64
	}
	arguments := pgx.NamedArgs{"tenant_id": page.TenantID, "account_id": page.AccountID, "before_id": page.BeforeID, "after_id": page.AfterID,
		"since": optionalTime(page.Since), "until": optionalTime(page.Until), "row_limit": page.Limit}
	if page.AllocationID == "" {
		return many[LedgerEntry](ctx, db, "LedgerEntries", arguments)
	}
	arguments["allocation_id"] = page.AllocationID
	return many[LedgerEntry](ctx, db, "LedgerEntriesOfAllocation", arguments)
}

// AllocationTotals is what one allocation was charged and given back so far, in micros.
type AllocationTotals struct {
	UsageMicros  money.Micros
	CreditMicros money.Micros
	Windows      int64
	PostedTo     *time.Time
}

// LedgerAllocationTotals adds up an allocation's entries on a tenant's account.
func LedgerAllocationTotals(ctx context.Context, db DB, tenantID id.Tenant, accountID id.Account, allocationID id.Allocation) (AllocationTotals, error) {
	totals, err := one[AllocationTotals](ctx, db, "LedgerAllocationTotals",
		pgx.NamedArgs{"tenant_id": tenantID, "account_id": accountID, "allocation_id": allocationID})
	if err != nil {
		return totals, fmt.Errorf("totals of %s: %w", allocationID, err)
	}
	return totals, nil
}
