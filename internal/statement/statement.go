// Package statement reads what happened to an account in a time out of the ledger, and writes it down as people file it: CSV and
// PDF. Every figure is a sum of entries, and a statement whose figures do not add up is an error. It may import domain, schema and
// the other rooms of internal.
package statement

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// settled is how long after the end of a time its statement can be final: longer than any transaction of a program lasts.
const settled = time.Hour

// Reader reads statements and usage of one database.
type Reader struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

// NewReader makes one.
func NewReader(pool *pgxpool.Pool, now func() time.Time) *Reader {
	return &Reader{pool: pool, now: now}
}

// Of is the statement of an account for [from, to), both UTC. Everything in it is read at one moment.
func (r *Reader) Of(ctx context.Context, tenantID id.Tenant, account queries.Account, from, to time.Time) (billing.Statement, error) {
	statement := billing.Statement{AccountID: account.ID, TenantID: tenantID, Currency: account.Currency, From: from, To: to}
	err := r.atOnce(ctx, func(tx pgx.Tx) error {
		within, activity, held, err := read(ctx, tx, tenantID, account.ID, from, to)
		if err != nil {
			return err
		}
		if err := describe(ctx, tx, &statement, to.Add(-time.Millisecond)); err != nil {
			return err
		}
		// Everything up to the ids of the time was posted before it; what is behind them was posted after it.
		if statement.OpeningMicros, err = queries.BalanceBefore(ctx, tx, tenantID, account.ID, from, within.After, within.UpTo); err != nil {
			return err
		}
		if statement.ClosingMicros, err = queries.BalanceBefore(ctx, tx, tenantID, account.ID, to, within.After, within.UpTo); err != nil {
			return err
		}
		sealed, err := queries.NewestSeal(ctx, tx, queries.SealedLedger)
		if err != nil {
			return err
		}
		statement.Final = sealed >= within.UpTo && r.now().After(to.Add(settled))
		statement, err = billing.NewStatement(statement, activity, held)
		return err
	})
	return statement, err
}

// Usage is what the allocations of an account used in [from, to), by when it was metered and whenever it was posted, a line an allocation and day.
func (r *Reader) Usage(ctx context.Context, tenantID id.Tenant, accountID id.Account, from, to time.Time) ([]billing.UsageLine, error) {
	var lines []billing.UsageLine
	err := r.atOnce(ctx, func(tx pgx.Tx) error {
		activity, held, err := queries.Metered(ctx, tx, tenantID, accountID, from, to)
		lines = billing.Usage(activity, held)
		return err
	})
	return lines, err
}

func (r *Reader) atOnce(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do)
}

func read(ctx context.Context, tx pgx.Tx, tenantID id.Tenant, accountID id.Account, from, to time.Time) (queries.LedgerTime, []billing.Activity, map[id.Allocation]billing.Held, error) {
	within := queries.LedgerTime{TenantID: tenantID, AccountID: accountID, From: from, To: to}
	var err error
	if within.EntryRange, err = queries.EntriesWithin(ctx, tx, from, to); err != nil {
		return within, nil, nil, err
	}
	activity, err := queries.LedgerActivity(ctx, tx, within)
	if err != nil {
		return within, nil, nil, err
	}
	var allocations []id.Allocation
	for _, one := range activity {
		if one.AllocationID != "" {
			allocations = append(allocations, one.AllocationID)
		}
	}
	held, err := queries.AllocationsHeld(ctx, tx, tenantID, allocations)
	return within, activity, held, err
}

// describe adds who sells, who buys and what tax the prices contain, as policy said at an instant: what is final does not change with it.
func describe(ctx context.Context, tx pgx.Tx, statement *billing.Statement, at time.Time) error {
	tenant, err := queries.GetTenant(ctx, tx, statement.TenantID)
	if err != nil {
		return err
	}
	values, err := policy.ReadForTenantAt(ctx, tx, statement.TenantID, at)
	if err != nil {
		return fmt.Errorf("the seller of a statement: %w", err)
	}
	statement.TenantName = tenant.Name
	statement.Seller = billing.Seller{
		LegalName: values.String(authored.BillingLegalName), Address: values.String(authored.BillingLegalAddress), TaxNumber: values.String(authored.BillingTaxNumber),
	}
	statement.Tax = billing.Tax{Name: values.String(authored.BillingTaxName), BasisPoints: values.Int(authored.BillingTaxBasisPoints)}
	return nil
}
