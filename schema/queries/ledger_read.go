package queries

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Costs is what each allocation was charged less what it was credited, in micros; one without entries is absent.
// The caller has established that it may see these allocations.
func Costs(ctx context.Context, db DB, allocations []id.Allocation) (map[id.Allocation]money.Micros, error) {
	rows, err := many[struct {
		AllocationID id.Allocation
		CostMicros   money.Micros
	}](ctx, db, "LedgerCosts", pgx.NamedArgs{"allocation_ids": texts(allocations)})
	if err != nil {
		return nil, err
	}
	costs := make(map[id.Allocation]money.Micros, len(rows))
	for _, row := range rows {
		costs[row.AllocationID] = row.CostMicros
	}
	return costs, nil
}
