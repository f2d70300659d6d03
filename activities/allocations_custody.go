package activities

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Who may close a lease, as node_leases.closed_by has it.
const (
	closedByScrub    = "scrub_verify"
	closedByOperator = "operator"
)

// ClaimAnother claims a node that this allocation never held, after one was given up. A repeat answers the claim that
// followed the given lease; no lease in the answer means that every node of the SKU is taken.
func (a *Allocations) ClaimAnother(ctx context.Context, in workflows.ClaimAnotherIn) (workflows.ClaimAnotherOut, error) {
	var out workflows.ClaimAnotherOut
	err := store.InTx(ctx, a.Pool, func(ctx context.Context, tx pgx.Tx) error {
		locked, err := queries.LockAllocation(ctx, tx, in.TenantID, in.AllocationID)
		if err != nil {
			return orFault(err, fault.AllocationNotFound)
		}
		leases, err := queries.ListLeases(ctx, tx, in.AllocationID)
		if err != nil {
			return err
		}
		var held []id.Node
		next := 0
		for _, lease := range leases {
			if next > 0 && lease.Ordinal == next {
				claimed := lease.Key()
				out.Lease = &claimed
				return nil
			}
			if lease.Key() == in.After {
				next = lease.Ordinal + 1
			}
			held = append(held, lease.NodeID)
		}
		if next == 0 {
			return fault.Newf(fault.NodeGenerationStale, "%s never held generation %d of %s.", in.AllocationID, in.After.Generation, in.After.NodeID)
		}
		if locked.State != allocation.Requested && locked.State != allocation.Provisioning {
			return fault.Newf(fault.AllocationStateConflict, "%s is %s and takes no further node.", in.AllocationID, locked.State)
		}
		out.Lease, err = queries.ClaimNode(ctx, tx, in.SKU, in.AllocationID, next, held)
		if err != nil || out.Lease == nil {
			return err
		}
		if err := queries.SetAllocationNode(ctx, tx, in.TenantID, *out.Lease); err != nil {
			return err
		}
		return auditLease(ctx, tx, identity.Platform(), "lease.claim", *out.Lease, "", map[string]any{"ordinal": next})
	})
	return out, err
}

// GiveUpNode marks the lease as given up, leaves it open and quarantines the node, so that nobody gets a half-made
// node. A repeat changes nothing.
func (a *Allocations) GiveUpNode(ctx context.Context, in workflows.GiveUpNodeIn) (workflows.Nothing, error) {
	return workflows.Nothing{}, store.InTx(ctx, a.Pool, func(ctx context.Context, tx pgx.Tx) error {
		locked, err := queries.LockNode(ctx, tx, in.Lease.NodeID)
		if err != nil {
			return orFault(err, fault.NodeNotFound)
		}
		if _, err := queries.LockLease(ctx, tx, in.Lease); err != nil {
			return orFault(err, fault.NodeGenerationStale)
		}
		fresh, err := queries.GiveUpLease(ctx, tx, in.Lease)
		if err != nil || !fresh {
			return err
		}
		if locked.Scheduling != node.Quarantined && locked.Scheduling != node.Denied {
			if _, err := queries.TransitionNode(ctx, tx, locked.ID, locked.Version, locked.Reachability, node.Quarantined, in.Reason); err != nil {
				return err
			}
		}
		return auditLease(ctx, tx, identity.Platform(), "lease.give_up", in.Lease, in.CorrelationID,
			map[string]any{"reason": in.Reason, "abandoned": in.Abandoned})
	})
}

// CloseLease ends custody on the evidence of scrub.verify at that generation. A repeat changes nothing.
func (a *Allocations) CloseLease(ctx context.Context, in workflows.CloseLeaseIn) (workflows.Nothing, error) {
	return workflows.Nothing{}, store.InTx(ctx, a.Pool, func(ctx context.Context, tx pgx.Tx) error {
		return closeLease(ctx, tx, workflows.CloseNodeLeaseIn{
			Lease: in.Lease, Evidence: in.Evidence, By: closedByScrub, Actor: identity.Platform(), CorrelationID: in.CorrelationID,
		})
	})
}

// closeLease frees the node, unless the evidence does not say what it must.
func closeLease(ctx context.Context, tx pgx.Tx, in workflows.CloseNodeLeaseIn) error {
	switch {
	case in.By == closedByScrub && len(in.Evidence.Checks) == 0:
		return fault.Newf(fault.ScrubUnverified, "No check passed on %s, so its lease stays open.", in.Lease.NodeID)
	case in.By != closedByScrub && in.By != closedByOperator:
		return fault.Newf(fault.InvalidRequest, "A lease is closed by %s or %s, not by %q.", closedByScrub, closedByOperator, in.By)
	}
	if _, err := queries.LockNode(ctx, tx, in.Lease.NodeID); err != nil {
		return orFault(err, fault.NodeNotFound)
	}
	lease, err := queries.LockLease(ctx, tx, in.Lease)
	if err != nil {
		return orFault(err, fault.NodeGenerationStale)
	}
	if lease.ClosedAt != nil {
		return nil
	}
	evidence, err := json.Marshal(in.Evidence)
	if err != nil {
		return fmt.Errorf("the evidence of %s: %w", in.Lease.NodeID, err)
	}
	if _, err := queries.CloseLease(ctx, tx, in.Lease, in.By, evidence); err != nil {
		return err
	}
	return auditLease(ctx, tx, in.Actor, "lease.close", in.Lease, in.CorrelationID, map[string]any{"by": in.By, "checks": in.Evidence.Checks})
}

func auditLease(ctx context.Context, tx pgx.Tx, actor identity.Actor, action string, lease node.Lease, correlationID string, details map[string]any) error {
	details["allocation_id"], details["generation"] = lease.AllocationID, lease.Generation
	return queries.InsertAudit(ctx, tx, queries.Audit{
		Actor: actor, Action: action, TargetType: "node", TargetID: string(lease.NodeID), Details: details, CorrelationID: correlationID,
	})
}

// RuntimePolicy reads what a running allocation may re-read.
func (a *Allocations) RuntimePolicy(ctx context.Context, _ workflows.RuntimePolicyIn) (workflows.RuntimePolicy, error) {
	values, err := a.Policy.Values(ctx)
	if err != nil {
		return workflows.RuntimePolicy{}, err
	}
	return workflows.RuntimePolicy{
		MaxNodeAttempts:               int(values.Int(authored.ProvisioningMaxNodeAttempts)),
		TaskMaxAttempts:               int(values.Int(authored.ProvisioningTaskMaxAttempts)),
		TaskScheduleToStartSeconds:    values.Int(authored.ProvisioningTaskScheduleToStartSeconds),
		TaskStartToCloseSeconds:       values.Int(authored.ProvisioningTaskStartToCloseSeconds),
		TaskBackoffSeconds:            values.Int(authored.ProvisioningTaskBackoffSeconds),
		LoginProbeTimeoutSeconds:      values.Int(authored.ProvisioningLoginProbeTimeoutSeconds),
		ReleaseMaxAttempts:            int(values.Int(authored.ReleaseMaxAttempts)),
		ReleaseScheduleToStartSeconds: values.Int(authored.ReleaseTaskScheduleToStartSeconds),
		ReleaseStartToCloseSeconds:    values.Int(authored.ReleaseTaskStartToCloseSeconds),
		ReleaseBackoffInitialSeconds:  values.Int(authored.ReleaseBackoffInitialSeconds),
		ReleaseBackoffMaximumSeconds:  values.Int(authored.ReleaseBackoffMaximumSeconds),
	}, nil
}
