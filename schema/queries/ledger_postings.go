package queries

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Sender is a DB that can also send several statements in one round trip.
type Sender interface {
	DB
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// UsageBatch is the windows of one statement, a column a field, all of one currency. Rows are sorted by allocation
// and period, so that two statements meet in the same order and wait for each other instead of deadlocking.
type UsageBatch struct {
	TxnID            string
	OccurredAt       time.Time
	Currency         string
	RevenueAccountID id.Account

	AllocationIDs   []id.Allocation
	AccountIDs      []id.Account
	Amounts         []money.Micros
	PeriodStarts    []time.Time
	PeriodEnds      []time.Time
	Heads           []bool
	IdempotencyKeys []string

	// Events has one element an account that occurs above.
	EventAccounts     []id.Account
	EventTenants      []id.Tenant
	EventIDs          []string
	EventCorrelations []string
}

// Len is how many windows the batch holds.
func (b *UsageBatch) Len() int { return len(b.AllocationIDs) }

func (b *UsageBatch) arguments() pgx.NamedArgs {
	return pgx.NamedArgs{
		"txn_id": b.TxnID, "occurred_at": b.OccurredAt.UTC().Format("2006-01-02T15:04:05.000Z"),
		"currency": b.Currency, "revenue_account_id": b.RevenueAccountID,
		"allocation_ids": b.AllocationIDs, "account_ids": b.AccountIDs, "amounts": b.Amounts,
		"period_starts": b.PeriodStarts, "period_ends": b.PeriodEnds, "heads": b.Heads, "idempotency_keys": b.IdempotencyKeys,
		"event_accounts": b.EventAccounts, "event_tenants": b.EventTenants, "event_ids": b.EventIDs, "event_correlations": b.EventCorrelations,
	}
}

// PostUsage takes the transaction's xid and posts the windows: two statements, one round trip, and outside a transaction one
// transaction. inserted is lower than the number of windows when some stood already.
func PostUsage(ctx context.Context, db Sender, usage *UsageBatch) (inserted int, err error) {
	batch := &pgx.Batch{}
	queue(batch, "TransactionID")
	queue(batch, "LedgerPostUsage", usage.arguments())
	results := db.SendBatch(ctx, batch)
	defer func() {
		if closeErr := results.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("LedgerPostUsage: %w", closeErr)
		}
	}()
	if _, err := results.Exec(); err != nil {
		return 0, fmt.Errorf("TransactionID: %w", err)
	}
	if err := results.QueryRow().Scan(&inserted); err != nil {
		return 0, fmt.Errorf("LedgerPostUsage: %w", err)
	}
	return inserted, nil
}

// StandingUsage is a window that is in the ledger.
type StandingUsage struct {
	AllocationID id.Allocation
	AccountID    id.Account
	AmountMicros money.Micros
	PeriodStart  time.Time
	PeriodEnd    time.Time
}

// StandingUsages reads the entries that stand for the windows of a batch.
func StandingUsages(ctx context.Context, db DB, usage *UsageBatch) ([]StandingUsage, error) {
	return many[StandingUsage](ctx, db, "LedgerUsageStanding",
		pgx.NamedArgs{"allocation_ids": usage.AllocationIDs, "period_starts": usage.PeriodStarts})
}

// Entry is one ledger entry that is not usage. AllocationID and the period are empty where the kind has none.
type Entry struct {
	Kind            string
	TxnID           string
	DebitAccountID  id.Account
	CreditAccountID id.Account
	Currency        string
	AmountMicros    money.Micros
	AllocationID    id.Allocation
	PeriodStart     *time.Time
	PeriodEnd       *time.Time
	IdempotencyKey  string
	// ReversesID is the entry that this one takes back; each can be taken back once.
	ReversesID *int64
}

// InsertEntry writes the entry and answers its id; inserted is false, and the id zero, when its key was used before.
func InsertEntry(ctx context.Context, db DB, e Entry) (entryID int64, inserted bool, err error) {
	row, err := one[struct{ ID int64 }](ctx, db, "LedgerCredit", pgx.NamedArgs{
		"kind": e.Kind, "txn_id": e.TxnID, "debit_account_id": e.DebitAccountID, "credit_account_id": e.CreditAccountID,
		"currency": e.Currency, "amount_micros": e.AmountMicros, "allocation_id": optional(e.AllocationID),
		"period_start": e.PeriodStart, "period_end": e.PeriodEnd, "idempotency_key": e.IdempotencyKey,
		"reverses_id": e.ReversesID,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return row.ID, err == nil, err
}

// StandingEntry is an entry found by its idempotency key.
type StandingEntry struct {
	ID              int64
	Kind            string
	DebitAccountID  id.Account
	CreditAccountID id.Account
	Currency        string
	AmountMicros    money.Micros
}

// FindEntry reads the entry with that idempotency key; nil when there is none.
func FindEntry(ctx context.Context, db DB, key string) (*StandingEntry, error) {
	found, err := one[StandingEntry](ctx, db, "LedgerEntryByKey", pgx.NamedArgs{"idempotency_key": key})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// UsageRecordedAt is when the window that ends at end was written; nil when there is none.
func UsageRecordedAt(ctx context.Context, db DB, allocation id.Allocation, end time.Time) (*time.Time, error) {
	row, err := one[struct{ CreatedAt time.Time }](ctx, db, "LedgerUsageEndingAt", pgx.NamedArgs{"allocation_id": allocation, "usage_end": end})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &row.CreatedAt, nil
}

// CloseMeter writes the end of an allocation's meter, after every posting in flight for it has ended; a meter
// that is closed stays as it is. It answers where the meter ends.
func CloseMeter(ctx context.Context, db DB, allocation id.Allocation, account id.Account, to time.Time) (closed bool, meteredTo time.Time, err error) {
	changed, err := execute(ctx, db, "LedgerSettlementInsert", pgx.NamedArgs{"allocation_id": allocation, "account_id": account, "metered_to": to})
	if err != nil {
		return false, time.Time{}, err
	}
	end, err := MeterEnd(ctx, db, allocation)
	if err != nil {
		return false, time.Time{}, err
	}
	if end == nil {
		return false, time.Time{}, fmt.Errorf("the settlement of %s is not there after it was written", allocation)
	}
	return changed == 1, *end, nil
}

// MeterEnd is where a closed meter ends; nil while it is open.
func MeterEnd(ctx context.Context, db DB, allocation id.Allocation) (*time.Time, error) {
	row, err := one[struct{ MeteredTo time.Time }](ctx, db, "LedgerSettlementGet", pgx.NamedArgs{"allocation_id": allocation})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &row.MeteredTo, nil
}

// ForgivenTime is a stretch of metered time that an outage or a suspension gave back.
type ForgivenTime struct {
	AmountMicros money.Micros
	PeriodStart  time.Time
	PeriodEnd    time.Time
}

// Forgiven lists what an allocation was forgiven.
func Forgiven(ctx context.Context, db DB, allocation id.Allocation) ([]ForgivenTime, error) {
	return many[ForgivenTime](ctx, db, "LedgerForgiven", pgx.NamedArgs{"allocation_id": allocation})
}
