package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Recall reads where an allocation stands whose run was lost: its row, the leases it ever had, what was billed of it and who is suspended. It
// writes nothing. Fault: AllocationNotFound.
func (a *Allocations) Recall(ctx context.Context, in workflows.RecallIn) (workflows.Recalled, error) {
	var found workflows.Recalled
	err := store.InTx(ctx, a.Pool, func(ctx context.Context, tx pgx.Tx) error {
		row, err := queries.GetAllocation(ctx, tx, "", in.AllocationID)
		if err != nil {
			return orFault(err, fault.AllocationNotFound)
		}
		recall := recall{tx: tx, row: row}
		if err := errors.Join(recall.terms(ctx), recall.custody(ctx), recall.bill(ctx), recall.holds(ctx)); err != nil {
			return err
		}
		recall.number(milliseconds(a.Now()))
		found = recall.found
		return nil
	})
	return found, err
}

// recall is one allocation being read back.
type recall struct {
	tx    pgx.Tx
	row   queries.Allocation
	found workflows.Recalled
}

// terms are what admission pinned. What the SKU says of its GPUs is read as it is now.
func (r *recall) terms(ctx context.Context) error {
	row := r.row
	sku, err := queries.GetSKU(ctx, r.tx, row.SKU)
	if err != nil {
		return orFault(err, fault.SKUNotFound)
	}
	r.found.State, r.found.Version = row.State, row.Version
	r.found.Terms = workflows.Terms{
		TenantID: row.TenantID, ProjectID: row.ProjectID, UserID: row.UserID, AccountID: row.AccountID, Currency: row.Currency,
		SKU: row.SKU, GPUModel: sku.GPUModel, GPUCount: sku.GPUCount, PriceID: row.PriceID, RateMicrosPerHour: row.RateMicrosPerHour,
		WindowSeconds: row.WindowSeconds, WindowsPerSettlement: row.WindowsPerSettlement,
		RuntimeMode: row.RuntimeMode, IsolationModel: row.IsolationModel, SSHKeys: row.SSHKeys, CorrelationID: row.CorrelationID,
	}
	if row.MaxSpendMicros != nil {
		r.found.Terms.MaxSpendMicros = *row.MaxSpendMicros
	}
	if row.MaxDurationSeconds != nil {
		r.found.Terms.MaxDurationSeconds = *row.MaxDurationSeconds
	}
	if row.SSHHost != "" {
		r.found.Access = &workflows.Access{Username: row.Username, SSHHost: row.SSHHost, SSHPort: row.SSHPort, SSHHostKey: row.SSHHostKey}
	}
	return nil
}

// custody is which node the allocation holds, and which it gave up and nobody has cleaned yet.
func (r *recall) custody(ctx context.Context) error {
	leases, err := queries.ListLeases(ctx, r.tx, r.row.ID)
	if err != nil || len(leases) == 0 {
		return err
	}
	r.found.Terms.Lease = leases[0].Key()
	for i, lease := range leases {
		if lease.GivenUpAt == nil {
			continue
		}
		// Of nodes that were in use the last alone can have been given up, and that is to abandon it; those before it failed while they were prepared.
		abandoned := i == len(leases)-1 && r.row.MeteredFrom != nil
		r.found.GivenUp = append(r.found.GivenUp, lease.NodeID)
		if lease.ClosedAt == nil {
			r.found.Reclaims = append(r.found.Reclaims, workflows.NodeReclaim{
				Lease: lease.Key(), Reason: "its allocation gave it up", Abandoned: abandoned, Again: true, CorrelationID: r.row.CorrelationID,
			})
		}
	}
	last := leases[len(leases)-1]
	key := last.Key()
	r.found.LastNode = last.NodeID
	if last.GivenUpAt == nil && last.ClosedAt == nil {
		r.found.Lease = &key
		return nil
	}
	r.found.LastLease = &key
	return r.certify(last)
}

// certify says what was proven of a node that was in custody to the end, where the allocation's row does not say so yet.
func (r *recall) certify(last queries.Lease) error {
	switch {
	case r.row.State.Terminal():
	case last.ClosedBy != nil && *last.ClosedBy == closedByScrub && last.GivenUpAt == nil:
		var evidence node.ScrubVerifyOut
		if err := json.Unmarshal(last.Evidence, &evidence); err != nil {
			return fmt.Errorf("the evidence of %s: %w", last.NodeID, err)
		}
		r.found.Certificate = workflows.WipedCertificate(last.Key(), evidence)
	case last.GivenUpAt != nil && r.row.MeteredFrom != nil:
		r.found.Certificate = workflows.AbandonedCertificate(last.Key())
	}
	return nil
}

// bill is how far the allocation is metered and charged.
func (r *recall) bill(ctx context.Context) error {
	if r.row.MeteredFrom == nil {
		return nil
	}
	anchor := milliseconds(*r.row.MeteredFrom)
	r.found.Anchor, r.found.PostedTo = &anchor, anchor
	if r.row.MeteredTo != nil {
		end := milliseconds(*r.row.MeteredTo)
		r.found.MeteredTo = &end
	}
	allocations := []id.Allocation{r.row.ID}
	ends, err := queries.LastPostedEnds(ctx, r.tx, allocations)
	if err != nil {
		return err
	}
	if posted := ends[r.row.ID]; posted.PostedTo != nil {
		r.found.PostedTo, r.found.Settled = milliseconds(*posted.PostedTo), posted.Settled
	} else {
		r.found.Settled = posted.Settled
	}
	costs, err := queries.Costs(ctx, r.tx, allocations)
	r.found.ChargedMicros = costs[r.row.ID]
	return err
}

// holds are the suspensions that the allocation is under. Access is cut again, because nobody knows whether it was.
func (r *recall) holds(ctx context.Context) error {
	if r.row.State != allocation.Active {
		return nil
	}
	if r.row.SuspendedAt != nil {
		since := milliseconds(*r.row.SuspendedAt)
		settled, err := queries.FindEntry(ctx, r.tx, suspensionKey(r.row.ID, since))
		if err != nil {
			return err
		}
		r.found.SuspendedAt, r.found.SuspensionSettled = &since, settled != nil
	}
	for _, subject := range []workflows.Subject{{TenantID: r.row.TenantID}, {UserID: r.row.UserID}} {
		standing, err := standingOf(ctx, r.tx, subject)
		if err != nil {
			return err
		}
		if standing.Suspended {
			r.found.Holds = append(r.found.Holds, workflows.Hold{
				Subject: subject.ID(), At: standing.At, ReleaseAt: standing.ReleaseAt, Actor: identity.Platform(),
				Reason: "suspended when the allocation was resumed", CorrelationID: r.row.CorrelationID,
			})
		}
	}
	return nil
}

// number has the tasks of the new run begin where none of the lost one can have come: at the allocation's age in milliseconds, of which no
// attempt takes less than one. A node answers a number that it knows from its journal.
func (r *recall) number(now time.Time) {
	age := int(now.Sub(r.row.CreatedAt).Milliseconds())
	r.found.NumberedFrom, r.found.AccessTasks, r.found.WipeAttempts, r.found.BudgetFrom = age, age, age, age
}
