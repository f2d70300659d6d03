package activities

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// RecordSuspension shows in an allocation's row that its meter stands still, or runs again, with an audit row that the tenant
// reads. A repeat changes nothing.
func (a *Allocations) RecordSuspension(ctx context.Context, in workflows.RecordSuspensionIn) (workflows.Nothing, error) {
	action, change := "allocation.resumed", queries.ResumeAllocation
	if in.At != nil {
		action, change = "allocation.suspended", queries.SuspendAllocation
	}
	err := store.InTx(ctx, a.Pool, func(ctx context.Context, tx pgx.Tx) error {
		changed, err := change(ctx, tx, in.TenantID, in.AllocationID, milliseconds(in.Since))
		if err != nil || !changed {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(in.TenantID), Actor: in.Actor, Action: action, TargetType: "allocation", TargetID: string(in.AllocationID),
			CorrelationID: in.CorrelationID, Details: map[string]any{"since": milliseconds(in.Since).Format(time.RFC3339Nano), "reason": in.Reason},
		})
	})
	if err != nil {
		return workflows.Nothing{}, err
	}
	return workflows.Nothing{}, a.meterChanged(ctx, in.TenantID, in.AllocationID, "", action, in.CorrelationID)
}
