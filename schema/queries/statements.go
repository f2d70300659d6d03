package queries

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// postingSkew is how far the times of two entries may stand against the order of their ids. Both are taken when the row is made,
// so it is the time between two instructions; a machine may stand still in between.
const postingSkew = time.Minute

// EntryRange is the ids among which every entry of a time is: After is below all of them, UpTo at or above all of them.
type EntryRange struct{ After, UpTo int64 }

// EntriesWithin finds the ids among which the entries that were posted in [from, to) are, by a search of some forty looks.
func EntriesWithin(ctx context.Context, db DB, from, to time.Time) (EntryRange, error) {
	newest, err := one[struct{ ID int64 }](ctx, db, "LedgerNewestID")
	if err != nil {
		return EntryRange{}, err
	}
	first, err := firstEntryFrom(ctx, db, from.Add(-postingSkew), newest.ID)
	if err != nil {
		return EntryRange{}, err
	}
	behind, err := firstEntryFrom(ctx, db, to.Add(postingSkew), newest.ID)
	return EntryRange{After: first - 1, UpTo: behind - 1}, err
}

// firstEntryFrom is an id that every entry posted at the instant or later has at least, give or take the skew; one more than the
// newest when there is none.
func firstEntryFrom(ctx context.Context, db DB, instant time.Time, newest int64) (int64, error) {
	low, high := int64(1), newest+1
	for low < high {
		middle := low + (high-low)/2
		entry, err := one[struct {
			ID        int64
			CreatedAt time.Time
		}](ctx, db, "LedgerEntryAfter", pgx.NamedArgs{"id": middle})
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			high = middle
		case err != nil:
			return 0, err
		case entry.CreatedAt.Before(instant):
			low = entry.ID + 1
		default:
			high = middle
		}
	}
	return low, nil
}

// LedgerTime is a stretch of time of an account's ledger, [From, To), with the ids among which its entries are.
type LedgerTime struct {
	TenantID  id.Tenant
	AccountID id.Account
	From, To  time.Time
	EntryRange
}

// LedgerActivity is what the entries of a time add up to, by kind, allocation and day.
func LedgerActivity(ctx context.Context, db DB, within LedgerTime) ([]billing.Activity, error) {
	activity, err := many[billing.Activity](ctx, db, "LedgerActivity", pgx.NamedArgs{
		"tenant_id": within.TenantID, "account_id": within.AccountID, "from_time": within.From, "to_time": within.To,
		"after_id": within.After, "up_to_id": within.UpTo,
	})
	for i := range activity {
		activity[i].Day = activity[i].Day.UTC()
		if activity[i].Day.Unix() == 0 {
			activity[i].Day = time.Time{}
		}
	}
	return activity, err
}

// BalanceBefore is an account's balance of everything that was posted before an instant. Of the ids up to sure, all were; of those
// up to upTo, some may have been.
func BalanceBefore(ctx context.Context, db DB, tenant id.Tenant, account id.Account, before time.Time, sure, upTo int64) (money.Micros, error) {
	row, err := one[struct{ BalanceMicros money.Micros }](ctx, db, "LedgerBalanceBefore", pgx.NamedArgs{
		"tenant_id": tenant, "account_id": account, "before_time": before, "sure_id": sure, "up_to_id": upTo,
	})
	return row.BalanceMicros, err
}

// Metered is what an account's allocations were metered in [from, to) and given back of it, whenever that was posted, and what they are.
func Metered(ctx context.Context, db DB, tenant id.Tenant, account id.Account, from, to time.Time) ([]billing.Activity, map[id.Allocation]billing.Held, error) {
	held, err := allocationsHeld(ctx, db, "AllocationsMetered", pgx.NamedArgs{"tenant_id": tenant, "account_id": account, "from_time": from, "to_time": to})
	if err != nil || len(held) == 0 {
		return nil, held, err
	}
	allocations := make([]string, 0, len(held))
	for allocation := range held {
		allocations = append(allocations, string(allocation))
	}
	activity, err := many[billing.Activity](ctx, db, "LedgerMetered", pgx.NamedArgs{
		"tenant_id": tenant, "account_id": account, "allocation_ids": allocations, "from_time": from, "to_time": to,
	})
	for i := range activity {
		activity[i].Day = activity[i].Day.UTC()
	}
	return activity, held, err
}

// AllocationsHeld answers project and SKU of a tenant's allocations.
func AllocationsHeld(ctx context.Context, db DB, tenant id.Tenant, allocations []id.Allocation) (map[id.Allocation]billing.Held, error) {
	return allocationsHeld(ctx, db, "AllocationsHeld", pgx.NamedArgs{"tenant_id": tenant, "ids": texts(allocations)})
}

func allocationsHeld(ctx context.Context, db DB, statement string, arguments pgx.NamedArgs) (map[id.Allocation]billing.Held, error) {
	rows, err := many[struct {
		ID        id.Allocation
		ProjectID id.Project
		SKU       id.SKU
	}](ctx, db, statement, arguments)
	held := make(map[id.Allocation]billing.Held, len(rows))
	for _, row := range rows {
		held[row.ID] = billing.Held{ProjectID: row.ProjectID, SKU: row.SKU}
	}
	return held, err
}
