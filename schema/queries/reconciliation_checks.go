package queries

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// keyed puts rows into a map by a key of theirs.
func keyed[Key comparable, Row any](rows []Row, key func(Row) Key) map[Key]Row {
	by := make(map[Key]Row, len(rows))
	for _, row := range rows {
		by[key(row)] = row
	}
	return by
}

// MeterToCheck is an allocation that is, or was, metered.
type MeterToCheck struct {
	ID                   id.Allocation
	AccountID            id.Account
	Currency             string
	RateMicrosPerHour    money.Micros
	WindowSeconds        int64
	WindowsPerSettlement int64
	MeteredFrom          time.Time
	MeteredTo            *time.Time
	SuspendedAt          *time.Time
	UpdatedAt            time.Time
}

// MetersToCheck reads a stretch of the meters that run or ended since an instant, and of those that are to be looked at again; a nil instant
// reads all there ever were.
func MetersToCheck(ctx context.Context, db DB, after id.Allocation, since *time.Time, again []string, limit int) ([]MeterToCheck, error) {
	return many[MeterToCheck](ctx, db, "CheckMeters", pgx.NamedArgs{"after_id": after, "since": since, "again": again, "row_limit": limit})
}

// SettledMeters answers where the ledger closed each of these meters.
func SettledMeters(ctx context.Context, db DB, allocations []id.Allocation) (map[id.Allocation]time.Time, error) {
	rows, err := many[struct {
		AllocationID id.Allocation
		MeteredTo    time.Time
	}](ctx, db, "CheckSettlements", pgx.NamedArgs{"allocation_ids": allocations})
	settled := make(map[id.Allocation]time.Time, len(rows))
	for _, row := range rows {
		settled[row.AllocationID] = row.MeteredTo
	}
	return settled, err
}

// UsageToCheck is what was posted of an allocation.
type UsageToCheck struct {
	AllocationID id.Allocation
	Windows      int64
	FirstStart   time.Time
	LastEnd      time.Time
	UsageMicros  money.Micros
	GapMs        int64
	OverlapMs    int64
}

// UsageOf adds up the usage of each of these allocations.
func UsageOf(ctx context.Context, db DB, allocations []id.Allocation) (map[id.Allocation]UsageToCheck, error) {
	rows, err := many[UsageToCheck](ctx, db, "CheckUsage", pgx.NamedArgs{"allocation_ids": allocations})
	return keyed(rows, func(row UsageToCheck) id.Allocation { return row.AllocationID }), err
}

// UsageCredit is one entry that gives usage back.
type UsageCredit struct {
	AllocationID id.Allocation
	Kind         string
	AmountMicros money.Micros
	PeriodStart  time.Time
	PeriodEnd    time.Time
}

// UsageCreditsOf lists what these allocations were given back.
func UsageCreditsOf(ctx context.Context, db DB, allocations []id.Allocation) ([]UsageCredit, error) {
	return many[UsageCredit](ctx, db, "CheckUsageCredits", pgx.NamedArgs{"allocation_ids": allocations})
}

// EntryToCheck is one ledger entry.
type EntryToCheck struct {
	ID              int64
	Kind            string
	DebitAccountID  id.Account
	CreditAccountID id.Account
	Currency        string
	AmountMicros    money.Micros
	AllocationID    id.Allocation
	PeriodStart     *time.Time
	PeriodEnd       *time.Time
	IdempotencyKey  string
}

// EntriesToCheck reads a stretch of entries, in their order.
func EntriesToCheck(ctx context.Context, db DB, after, upTo int64, limit int) ([]EntryToCheck, error) {
	return many[EntryToCheck](ctx, db, "CheckEntries", pgx.NamedArgs{"after_id": after, "up_to_id": upTo, "row_limit": limit})
}

// EntriesToCheckAgain reads entries by their ids.
func EntriesToCheckAgain(ctx context.Context, db DB, ids []int64) ([]EntryToCheck, error) {
	return many[EntryToCheck](ctx, db, "CheckEntriesAgain", pgx.NamedArgs{"ids": ids})
}

// KnownAccount is an account that exists.
type KnownAccount struct {
	ID       id.Account
	TenantID id.Tenant
	Currency string
}

// KnownAccounts answers which of these accounts exist.
func KnownAccounts(ctx context.Context, db DB, ids []id.Account) (map[id.Account]KnownAccount, error) {
	rows, err := many[KnownAccount](ctx, db, "CheckAccounts", pgx.NamedArgs{"ids": ids})
	return keyed(rows, func(row KnownAccount) id.Account { return row.ID }), err
}

// KnownAllocation is an allocation that exists. NodeID is nil where none was ever claimed.
type KnownAllocation struct {
	ID          id.Allocation
	AccountID   id.Account
	State       allocation.State
	NodeID      *id.Node
	Generation  *int64
	MeteredFrom *time.Time
	UpdatedAt   time.Time
	EndedAt     *time.Time
}

// KnownAllocations answers which of these allocations exist.
func KnownAllocations(ctx context.Context, db DB, ids []id.Allocation) (map[id.Allocation]KnownAllocation, error) {
	rows, err := many[KnownAllocation](ctx, db, "CheckAllocations", pgx.NamedArgs{"ids": ids})
	return keyed(rows, func(row KnownAllocation) id.Allocation { return row.ID }), err
}

// OpenAllocations reads a stretch of the allocations that have not ended.
func OpenAllocations(ctx context.Context, db DB, after id.Allocation, limit int) ([]KnownAllocation, error) {
	return many[KnownAllocation](ctx, db, "CheckOpenAllocations", pgx.NamedArgs{"after_id": after, "row_limit": limit})
}

// ClaimedEntries answers which of these entries a payment, a refund, a dispute, a closing or a correction names as its own, or the audit
// log as that of one of these adjustments.
func ClaimedEntries(ctx context.Context, db DB, ids []int64, adjustments []string) (map[int64]bool, error) {
	claimed, err := CorrectionEntries(ctx, db, ids)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{"CheckPaymentEntries", "CheckClosingEntries"} {
		if err := claim(ctx, db, statement, pgx.NamedArgs{"entry_ids": ids}, claimed); err != nil {
			return nil, err
		}
	}
	return claimed, claim(ctx, db, "CheckAdjustmentEntries", pgx.NamedArgs{"adjustments": adjustments}, claimed)
}

// CorrectionEntries answers which of these entries a correction posted.
func CorrectionEntries(ctx context.Context, db DB, ids []int64) (map[int64]bool, error) {
	corrected := map[int64]bool{}
	return corrected, claim(ctx, db, "CorrectionEntries", pgx.NamedArgs{"entry_ids": ids}, corrected)
}

// claim adds the entries that a statement answers.
func claim(ctx context.Context, db DB, statement string, arguments pgx.NamedArgs, claimed map[int64]bool) error {
	rows, err := many[struct{ EntryID int64 }](ctx, db, statement, arguments)
	for _, row := range rows {
		claimed[row.EntryID] = true
	}
	return err
}

// UnderWay is an account that spends, or a payment, a refund or a dispute that has not ended: somebody has to be at work on it.
type UnderWay struct {
	ID       string
	TenantID id.Tenant
	State    string
	// StripeID is what Stripe calls it; empty where Stripe knows nothing of it.
	StripeID string
	// Since is when it began, or changed last.
	Since time.Time
}

// Stretch is what is read of something: what is older than an instant, behind an id; or Only one.
type Stretch struct {
	Before      time.Time
	After, Only string
	Limit       int
}

func underWay(ctx context.Context, db DB, statement string, of Stretch) ([]UnderWay, error) {
	return many[UnderWay](ctx, db, statement, pgx.NamedArgs{"before": of.Before, "after_id": of.After, "only": optional(of.Only), "row_limit": of.Limit})
}

// SpendingAccounts reads a stretch of the accounts of which something costs money.
func SpendingAccounts(ctx context.Context, db DB, of Stretch) ([]UnderWay, error) {
	return underWay(ctx, db, "CheckSpendingAccounts", of)
}

// OpenPayments reads a stretch of the payments that somebody may still make.
func OpenPayments(ctx context.Context, db DB, of Stretch) ([]UnderWay, error) {
	return underWay(ctx, db, "CheckOpenPayments", of)
}

// PendingRefunds reads a stretch of the refunds that are out of a balance and not settled.
func PendingRefunds(ctx context.Context, db DB, of Stretch) ([]UnderWay, error) {
	return underWay(ctx, db, "CheckPendingRefunds", of)
}

// OpenDisputes reads a stretch of the disputes that are not decided.
func OpenDisputes(ctx context.Context, db DB, of Stretch) ([]UnderWay, error) {
	return underWay(ctx, db, "CheckOpenDisputes", of)
}

// NodeToCheck is a node and its claim.
type NodeToCheck struct {
	ID         id.Node
	ClaimedBy  *id.Allocation
	Generation int64
	EnrolledAt time.Time
	UpdatedAt  time.Time
}

// NodesToCheck reads a stretch of the fleet.
func NodesToCheck(ctx context.Context, db DB, after id.Node, limit int) ([]NodeToCheck, error) {
	return many[NodeToCheck](ctx, db, "CheckNodes", pgx.NamedArgs{"after_id": after, "row_limit": limit})
}

// LeaseToCheck is an open lease.
type LeaseToCheck struct {
	NodeID       id.Node
	Generation   int64
	AllocationID id.Allocation
	ClaimedAt    time.Time
	GivenUpAt    *time.Time
}

// OpenLeases answers the open lease of each of these nodes.
func OpenLeases(ctx context.Context, db DB, nodes []id.Node) (map[id.Node]LeaseToCheck, error) {
	rows, err := many[LeaseToCheck](ctx, db, "CheckLeases", pgx.NamedArgs{"node_ids": nodes})
	return keyed(rows, func(row LeaseToCheck) id.Node { return row.NodeID }), err
}

// BalanceToCheck is what is answered as an account's balance. CheckpointID is nil where no checkpoint was cut.
type BalanceToCheck struct {
	ID            id.Account
	Currency      string
	CheckpointID  *int64
	BalanceMicros money.Micros
}

// BalancesToCheck reads a stretch of the balances as they are answered up to a final entry.
func BalancesToCheck(ctx context.Context, db DB, after id.Account, upTo int64, limit int) ([]BalanceToCheck, error) {
	return many[BalanceToCheck](ctx, db, "CheckBalances", pgx.NamedArgs{"after_id": after, "up_to_id": upTo, "row_limit": limit})
}

// Baseline is where the sum of an account may begin: at a checkpoint that was cut before an instant, or at nothing.
func Baseline(ctx context.Context, db DB, account id.Account, upTo int64, before time.Time) (from int64, balance money.Micros, err error) {
	row, err := one[struct {
		UpToID        int64
		BalanceMicros money.Micros
	}](ctx, db, "CheckBaseline", pgx.NamedArgs{"account_id": account, "up_to_id": upTo, "before": before})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, nil
	}
	return row.UpToID, row.BalanceMicros, err
}

// SumToCheck is the sum of a stretch of entries, and where the next stretch begins.
type SumToCheck struct {
	Entries int64
	Micros  money.Micros
	NextID  int64
}

// SumEntries adds up a stretch of an account's entries, from after on up to a final one; fewer than limit is the last stretch.
func SumEntries(ctx context.Context, db DB, account id.Account, after, upTo int64, limit int) (SumToCheck, error) {
	return one[SumToCheck](ctx, db, "CheckSum", pgx.NamedArgs{"account_id": account, "after_id": after, "up_to_id": upTo, "row_limit": limit})
}

// PaymentToCheck is a payment beside the provider's.
type PaymentToCheck struct {
	ID              id.Payment
	TenantID        id.Tenant
	AccountID       id.Account
	Currency        string
	AmountMicros    money.Micros
	State           payment.State
	PaymentIntentID *string
	CreatedAt       time.Time
}

// PaymentsOfIntents reads the payments that these attempts to be paid belong to, by the provider's names or by ours.
func PaymentsOfIntents(ctx context.Context, db DB, intents, ids []string) ([]PaymentToCheck, error) {
	return many[PaymentToCheck](ctx, db, "CheckPaymentsOfIntents", pgx.NamedArgs{"intents": intents, "ids": ids})
}

// CreditedPayments reads a stretch of the payments that were credited within a time.
func CreditedPayments(ctx context.Context, db DB, since, until time.Time, after id.Payment, limit int) ([]PaymentToCheck, error) {
	return many[PaymentToCheck](ctx, db, "CheckCreditedPayments", pgx.NamedArgs{"since": since, "until": until, "after_id": after, "row_limit": limit})
}

// KeyedEntry is an entry by its idempotency key.
type KeyedEntry struct {
	ID              int64
	IdempotencyKey  string
	AmountMicros    money.Micros
	CreditAccountID id.Account
}

// EntriesByKey reads the entries with these idempotency keys.
func EntriesByKey(ctx context.Context, db DB, keys []string) (map[string]KeyedEntry, error) {
	rows, err := many[KeyedEntry](ctx, db, "CheckEntriesByKey", pgx.NamedArgs{"keys": keys})
	return keyed(rows, func(row KeyedEntry) string { return row.IdempotencyKey }), err
}

// RefundToCheck is a refund beside the provider's.
type RefundToCheck struct {
	ID             id.Refund
	AccountID      id.Account
	Currency       string
	AmountMicros   money.Micros
	State          payment.RefundState
	StripeRefundID *string
}

// RefundsOfStripe reads refunds by the provider's names or by ours.
func RefundsOfStripe(ctx context.Context, db DB, stripeRefunds, ids []string) ([]RefundToCheck, error) {
	return many[RefundToCheck](ctx, db, "CheckRefundsOfStripe", pgx.NamedArgs{"stripe_refund_ids": stripeRefunds, "ids": ids})
}

// SentRefunds reads a stretch of the refunds that were sent within a time.
func SentRefunds(ctx context.Context, db DB, since, until time.Time, after id.Refund, limit int) ([]RefundToCheck, error) {
	return many[RefundToCheck](ctx, db, "CheckSentRefunds", pgx.NamedArgs{"since": since, "until": until, "after_id": after, "row_limit": limit})
}

// DisputeToCheck is a dispute beside the provider's.
type DisputeToCheck struct {
	ID              id.Dispute
	StripeDisputeID string
	AccountID       id.Account
	Currency        string
	AmountMicros    money.Micros
	State           payment.DisputeState
}

// DisputesOfStripe reads disputes by the provider's names.
func DisputesOfStripe(ctx context.Context, db DB, ids []string) ([]DisputeToCheck, error) {
	return many[DisputeToCheck](ctx, db, "CheckDisputes", pgx.NamedArgs{"stripe_dispute_ids": ids})
}
