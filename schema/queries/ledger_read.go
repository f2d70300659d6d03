package queries

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

type allocationCost struct {
	AllocationID id.Allocation
	CostMicros   money.Micros
}

// Costs is what each allocation was charged less what it was credited, in micros; one without entries is absent.
// The caller has established that it may see these allocations.
func Costs(ctx context.Context, db DB, allocations []id.Allocation) (map[id.Allocation]money.Micros, error) {
	rows, err := many[allocationCost](ctx, db, "LedgerCosts", pgx.NamedArgs{"allocation_ids": texts(allocations)})
	if err != nil {
		return nil, err
	}
	costs := make(map[id.Allocation]money.Micros, len(rows))
	for _, row := range rows {
		costs[row.AllocationID] = row.CostMicros
	}
	return costs, nil
}

// BilledAllocation is an allocation with what it was charged less what it was credited.
type BilledAllocation struct {
	Allocation Allocation
	CostMicros money.Micros
}

// GetBilledAllocation reads one allocation, of whichever tenant, and its cost in one round trip; the caller has yet to establish
// that it may see it. pgx.ErrNoRows when there is none.
func GetBilledAllocation(ctx context.Context, db Sender, allocationID id.Allocation) (billed BilledAllocation, err error) {
	batch := &pgx.Batch{}
	queue(batch, "AllocationGet", pgx.NamedArgs{"id": allocationID, "tenant_id": optional(id.Tenant(""))})
	queue(batch, "LedgerCosts", pgx.NamedArgs{"allocation_ids": texts([]id.Allocation{allocationID})})
	answers := db.SendBatch(ctx, batch)
	defer func() { err = errors.Join(err, answers.Close()) }()
	row, _ := answers.Query() // its error is that of the rows
	if billed.Allocation, err = pgx.CollectExactlyOneRow(row, pgx.RowToStructByName[Allocation]); err != nil {
		return billed, fmt.Errorf("AllocationGet: %w", err)
	}
	costs, _ := answers.Query()
	found, err := pgx.CollectRows(costs, pgx.RowToStructByName[allocationCost])
	if err != nil {
		return billed, fmt.Errorf("LedgerCosts: %w", err)
	}
	for _, cost := range found {
		billed.CostMicros = cost.CostMicros
	}
	return billed, nil
}
