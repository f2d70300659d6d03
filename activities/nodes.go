package activities

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Nodes writes what the Node workflow decides. Its tool is the database.
type Nodes struct {
	Pool *pgxpool.Pool
}

// Bind registers the steps of Node.
func (n *Nodes) Bind(registry worker.ActivityRegistry) {
	workflows.StepNodeRecord.Bind(registry, n.Record)
	workflows.StepNodeTransition.Bind(registry, n.Transition)
	workflows.StepCloseNodeLease.Bind(registry, n.CloseLease)
}

// Record reads what Postgres knows of a node, its open lease included; fault.NodeNotFound when it was never enrolled.
func (n *Nodes) Record(ctx context.Context, nodeID id.Node) (workflows.NodeRecord, error) {
	row, err := queries.GetNode(ctx, n.Pool, nodeID)
	if err != nil {
		return workflows.NodeRecord{}, orFault(err, fault.NodeNotFound)
	}
	record := workflows.NodeRecord{Version: row.Version, Reachability: row.Reachability, Scheduling: row.Scheduling}
	lease, err := queries.OpenLease(ctx, n.Pool, nodeID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return record, nil
	case err != nil:
		return workflows.NodeRecord{}, err
	}
	open := lease.Key()
	record.Lease, record.GivenUp = &open, lease.GivenUpAt != nil
	return record, nil
}

// Transition writes reachability, scheduling and reason with an audit row. A repeat answers as before; a version that
// does not stand is fault.NodeStateConflict, and the workflow reads the record again.
func (n *Nodes) Transition(ctx context.Context, in workflows.NodeTransition) (workflows.NodeTransitionDone, error) {
	var done workflows.NodeTransitionDone
	err := store.InTx(ctx, n.Pool, func(ctx context.Context, tx pgx.Tx) error {
		locked, err := queries.LockNode(ctx, tx, in.NodeID)
		if err != nil {
			return orFault(err, fault.NodeNotFound)
		}
		done.Lease = locked.Lease()
		repeated := locked.Version == in.Version+1 && locked.Reachability == in.Reachability &&
			locked.Scheduling == in.Scheduling && locked.Reason == in.Reason
		if repeated {
			done.Version = locked.Version
			return nil
		}
		if locked.Version != in.Version {
			return fault.Newf(fault.NodeStateConflict, "%s stands at version %d, not %d.", in.NodeID, locked.Version, in.Version)
		}
		if done.Version, err = queries.TransitionNode(ctx, tx, in.NodeID, in.Version, in.Reachability, in.Scheduling, in.Reason); err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			Actor: in.Actor, Action: in.Action, TargetType: "node", TargetID: string(in.NodeID), CorrelationID: in.CorrelationID, RequestID: in.RequestID,
			Details: map[string]any{
				"reachability": in.Reachability, "scheduling": in.Scheduling, "reason": in.Reason,
				"reachability_before": locked.Reachability, "scheduling_before": locked.Scheduling,
			},
		})
	})
	return done, err
}

// CloseLease ends custody on evidence or on an operator's word. A repeat changes nothing.
func (n *Nodes) CloseLease(ctx context.Context, in workflows.CloseNodeLeaseIn) (workflows.Nothing, error) {
	return workflows.Nothing{}, store.InTx(ctx, n.Pool, func(ctx context.Context, tx pgx.Tx) error {
		return closeLease(ctx, tx, in)
	})
}
