package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
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

// FundsCount is how many accounts of all tenants stand on a rung; Overdue are those whose money ended, by what they were told, and of which
// nobody has looked since.
type FundsCount struct {
	Rung              billing.Rung
	Accounts, Overdue int64
}

// CountFunds counts accounts by rung; overdue is what ended before an instant. A rung on which none stands is missing.
func CountFunds(ctx context.Context, db DB, before time.Time) ([]FundsCount, error) {
	return many[FundsCount](ctx, db, "CountFunds", pgx.NamedArgs{"before": before})
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
