package activities

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

const allocationPrefix = "alloc_"

// checkCustody holds a stretch of nodes beside their leases and the allocations that claim them, and then a stretch of active allocations
// beside their nodes, each as of one instant.
func (r *Reconciliation) checkCustody(ctx context.Context, terms workflows.ReconciliationTerms, cursor *workflows.CheckCursor) (all []reconciliation.Found, done bool, err error) {
	before := milliseconds(r.Now()).Add(-terms.Lag())
	err = snapshot(ctx, r.Pool, func(tx pgx.Tx) error {
		if strings.HasPrefix(cursor.After, allocationPrefix) {
			all, done, err = unclaimedAllocations(ctx, tx, cursor)
			return err
		}
		nodes, err := queries.NodesToCheck(ctx, tx, id.Node(cursor.After), checkRows)
		if err != nil {
			return err
		}
		if all, err = oddClaims(ctx, tx, nodes, before); err != nil {
			return err
		}
		cursor.Examined += int64(len(nodes))
		if len(nodes) < checkRows {
			cursor.After = allocationPrefix // nodes are done; allocations begin
		} else {
			cursor.After = string(nodes[len(nodes)-1].ID)
		}
		return nil
	})
	return all, done, err
}

// oddClaims finds nodes whose claim, lease and allocation do not say the same.
func oddClaims(ctx context.Context, tx pgx.Tx, nodes []queries.NodeToCheck, before time.Time) ([]reconciliation.Found, error) {
	var nodeIDs []id.Node
	var claimants []id.Allocation
	for _, node := range nodes {
		nodeIDs = append(nodeIDs, node.ID)
		if node.ClaimedBy != nil {
			claimants = append(claimants, *node.ClaimedBy)
		}
	}
	leases, err := queries.OpenLeases(ctx, tx, nodeIDs)
	if err != nil {
		return nil, err
	}
	allocations, err := queries.KnownAllocations(ctx, tx, claimants)
	if err != nil {
		return nil, err
	}
	var all []reconciliation.Found
	for _, node := range nodes {
		lease, leased := leases[node.ID]
		var found *reconciliation.Found
		if node.ClaimedBy == nil {
			found = unclaimed(node, leased, lease)
		} else {
			found = oddClaim(node, *node.ClaimedBy, leased, lease, allocations, before)
		}
		if found != nil {
			all = append(all, *found)
		}
	}
	return all, nil
}

func unclaimed(node queries.NodeToCheck, leased bool, lease queries.LeaseToCheck) *reconciliation.Found {
	if !leased {
		return nil
	}
	return &reconciliation.Found{
		Kind: reconciliation.LeaseWithoutClaim, Subject: string(node.ID),
		Sentence: fmt.Sprintf("The lease of %s on %s, generation %d, is open, and nobody claims the node.", lease.AllocationID, node.ID, lease.Generation),
		Detail:   map[string]any{"allocation_id": lease.AllocationID, "generation": lease.Generation, "node_generation": node.Generation},
	}
}

// oddClaim judges a node that is claimed. An allocation that has just ended may have its claim until before.
func oddClaim(node queries.NodeToCheck, claimant id.Allocation, leased bool, lease queries.LeaseToCheck, allocations map[id.Allocation]queries.KnownAllocation, before time.Time) *reconciliation.Found {
	found := &reconciliation.Found{Subject: string(node.ID), Detail: map[string]any{"claimed_by": claimant, "generation": node.Generation}}
	holder, known := allocations[claimant]
	switch {
	case !leased:
		found.Kind, found.Sentence = reconciliation.ClaimWithoutLease, fmt.Sprintf("%s claims %s, and no lease of it is open.", claimant, node.ID)
	case lease.AllocationID != claimant || lease.Generation != node.Generation:
		found.Kind = reconciliation.ClaimDiffers
		found.Sentence = fmt.Sprintf("%s claims %s at generation %d, and its open lease is that of %s at generation %d.", claimant, node.ID, node.Generation, lease.AllocationID, lease.Generation)
		found.Detail["lease_allocation_id"], found.Detail["lease_generation"] = lease.AllocationID, lease.Generation
	case !known:
		found.Kind, found.Sentence = reconciliation.ClaimOrphaned, fmt.Sprintf("%s claims %s, and there is no such allocation.", claimant, node.ID)
	case holder.EndedAt != nil && holder.EndedAt.Before(before) && lease.GivenUpAt == nil:
		found.Kind, found.Sentence = reconciliation.ClaimOrphaned, fmt.Sprintf("%s ended as %s and still claims %s, which it did not give up.", claimant, holder.State, node.ID)
		found.Detail["ended_at"] = holder.EndedAt
	default:
		return nil
	}
	return found
}

// unclaimedAllocations finds active allocations whose node is not theirs.
func unclaimedAllocations(ctx context.Context, tx pgx.Tx, cursor *workflows.CheckCursor) (all []reconciliation.Found, done bool, err error) {
	rows, err := queries.OpenAllocations(ctx, tx, id.Allocation(cursor.After), checkRows)
	if err != nil {
		return nil, false, err
	}
	var nodes []id.Node
	for _, row := range rows {
		if row.NodeID != nil {
			nodes = append(nodes, *row.NodeID)
		}
	}
	leases, err := queries.OpenLeases(ctx, tx, nodes)
	if err != nil {
		return nil, false, err
	}
	for _, row := range rows {
		cursor.After = string(row.ID)
		if row.State != allocation.Active || row.NodeID == nil {
			continue
		}
		lease, leased := leases[*row.NodeID]
		if leased && lease.AllocationID == row.ID && row.Generation != nil && lease.Generation == *row.Generation {
			continue
		}
		all = append(all, reconciliation.Found{
			Kind: reconciliation.ClaimMissing, Subject: string(row.ID), Sentence: fmt.Sprintf("%s is active on %s, and has no open lease of it.", row.ID, *row.NodeID),
			Detail: map[string]any{"node_id": row.NodeID, "generation": row.Generation, "lease_allocation_id": lease.AllocationID, "lease_generation": lease.Generation},
		})
	}
	cursor.Examined += int64(len(rows))
	return all, len(rows) < checkRows, nil
}
