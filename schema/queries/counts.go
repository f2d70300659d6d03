package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
)

// CountAllocations counts the allocations of all tenants that have not ended, by state. A state that none has is missing.
func CountAllocations(ctx context.Context, db DB) (map[allocation.State]int64, error) {
	rows, err := many[struct {
		State       allocation.State
		Allocations int64
	}](ctx, db, "CountAllocations")
	counts := make(map[allocation.State]int64, len(rows))
	for _, row := range rows {
		counts[row.State] = row.Allocations
	}
	return counts, err
}

// NodeCount is how many nodes stand so, and how many of them are claimed.
type NodeCount struct {
	Reachability   node.Reachability
	Scheduling     node.Scheduling
	Nodes, Claimed int64
}

// CountNodes counts the fleet.
func CountNodes(ctx context.Context, db DB) ([]NodeCount, error) {
	return many[NodeCount](ctx, db, "CountNodes")
}

// CountFunds counts the accounts of all tenants that stand on a rung. A rung on which none stands is missing.
func CountFunds(ctx context.Context, db DB) (map[billing.Rung]int64, error) {
	rows, err := many[struct {
		Rung     billing.Rung
		Accounts int64
	}](ctx, db, "CountFunds")
	counts := make(map[billing.Rung]int64, len(rows))
	for _, row := range rows {
		counts[row.Rung] = row.Accounts
	}
	return counts, err
}

// CountOverdueFunds counts the accounts of all tenants that were found to be used up before an instant, and of which something costs money
// all the same.
func CountOverdueFunds(ctx context.Context, db DB, before time.Time) (int64, error) {
	rows, err := many[struct{ AccountID id.Account }](ctx, db, "DepletedAccounts", pgx.NamedArgs{"before": before})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	depleted := make([]id.Account, len(rows))
	for i, row := range rows {
		depleted[i] = row.AccountID
	}
	costing, err := one[struct{ Accounts int64 }](ctx, db, "CountCostingAccounts", pgx.NamedArgs{"account_ids": depleted})
	return costing.Accounts, err
}

// OpenFindings counts what is open, by kind. A kind of which none is open is missing.
func OpenFindings(ctx context.Context, db DB) (map[reconciliation.Kind]int64, error) {
	rows, err := many[struct {
		Kind     reconciliation.Kind
		Findings int64
	}](ctx, db, "OpenFindings")
	counts := make(map[reconciliation.Kind]int64, len(rows))
	for _, row := range rows {
		counts[row.Kind] = row.Findings
	}
	return counts, err
}

// ReconciliationCompleted is when the newest run ended that made every check; nil before the first.
func ReconciliationCompleted(ctx context.Context, db DB) (*time.Time, error) {
	row, err := one[struct{ EndedAt *time.Time }](ctx, db, "ReconciliationCompleted")
	return row.EndedAt, err
}
