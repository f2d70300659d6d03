package api

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/serviceerror"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type releaseIn struct {
	AllocationPath
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
}

type forceReleaseIn struct {
	AllocationPath
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	Body           struct {
		AbandonNode bool   `json:"abandon_node,omitempty" default:"false"`
		Reason      string `json:"reason" minLength:"1" maxLength:"500"`
	}
}

// releaseAllocation is the word of its owner, or of who manages the tenant's allocations. The meter stops at the moment of
// asking, which is stamped here; a request that was begun before and lost its answer was asked then.
func (s *server) releaseAllocation(ctx context.Context, _ *releaseIn) (*allocationOut, error) {
	askedAt, request := s.config.Now().UTC(), middleware.RequestOf(ctx)
	if request.TakenOver {
		askedAt = request.AskedAt
	}
	who := middleware.Principal(ctx)
	row, err := theAllocation(ctx)
	switch {
	case err != nil:
		return nil, err
	case request.TakenOver && (row.State == allocation.Releasing || row.State.Terminal()):
		return s.withCost(ctx, row) // what it asked for is under way or done
	case row.State.Terminal():
		return nil, fault.Newf(fault.AllocationNotActive, "The allocation is %s.", row.State).With(map[string]any{"state": row.State})
	case row.State == allocation.Releasing:
		return nil, fault.New(fault.AllocationAlreadyReleasing, "")
	}
	reason := "asked for by its owner"
	if row.UserID != who.UserID {
		reason = "asked for by a manager of its tenant"
	}
	if err := s.signalAllocation(ctx, row.ID, workflows.ReleaseSignal, workflows.ReleaseRequest{
		AskedAt: askedAt, Actor: who.Actor(), Cause: allocation.CauseTenant, Reason: reason, CorrelationID: telemetry.Correlation(ctx),
	}); err != nil {
		return nil, err
	}
	return s.withCost(ctx, row)
}

// forceReleaseAllocation is an admin's word, accepted in every state that is not terminal. It is written down before it
// is given, so that no order is carried out that the audit log does not know; a repeat finds it there and gives it again,
// which counts once.
func (s *server) forceReleaseAllocation(ctx context.Context, in *forceReleaseIn) (*allocationOut, error) {
	askedAt, request := s.config.Now().UTC(), middleware.RequestOf(ctx)
	if request.TakenOver {
		askedAt = request.AskedAt
	}
	who := middleware.Principal(ctx)
	row, err := queries.GetAllocation(ctx, s.config.Pool, "", in.AllocationID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fault.New(fault.AllocationNotFound, "")
	case err != nil:
		return nil, err
	}
	_, written, err := s.changed(ctx)
	switch {
	case err != nil:
		return nil, err
	case row.State.Terminal() && written:
		return s.withCost(ctx, row)
	case row.State.Terminal():
		return nil, fault.Newf(fault.AllocationNotActive, "The allocation is %s.", row.State).With(map[string]any{"state": row.State})
	}
	if !written {
		if err := queries.InsertAudit(ctx, s.config.Pool, queries.Audit{
			TenantID: string(row.TenantID), Actor: who.Actor(), Action: "allocation.force_release", TargetType: "allocation", TargetID: string(row.ID),
			CorrelationID: telemetry.Correlation(ctx), RequestID: request.ID,
			Details: map[string]any{"reason": in.Body.Reason, "abandon_node": in.Body.AbandonNode, "state": row.State},
		}); err != nil {
			return nil, err
		}
	}
	if err := s.signalAllocation(ctx, row.ID, workflows.ForceReleaseSignal, workflows.ForceReleaseRequest{
		AskedAt: askedAt, Actor: who.Actor(), Reason: in.Body.Reason, AbandonNode: in.Body.AbandonNode, CorrelationID: telemetry.Correlation(ctx),
	}); err != nil {
		return nil, err
	}
	return s.withCost(ctx, row)
}

// changed says what this very request changed before it lost its answer: its row in the audit log is the proof.
func (s *server) changed(ctx context.Context) (queries.AuditRecord, bool, error) {
	record, err := queries.AuditOfRequest(ctx, s.config.Pool, middleware.RequestOf(ctx).ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return record, false, nil
	}
	return record, err == nil, err
}

func (s *server) signalAllocation(ctx context.Context, allocationID id.Allocation, signal string, payload any) error {
	cluster, err := s.temporal()
	if err != nil {
		return err
	}
	ctx = temporal.WithRequestID(ctx, middleware.RequestOf(ctx).ID)
	err = cluster.SignalWorkflow(ctx, workflows.AllocationWorkflowID(allocationID), "", signal, payload)
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		// Its row is not terminal, so the run either ended this moment or is missing; a repeat tells which.
		return fault.Wrap(err, fault.AllocationStateConflict, "")
	}
	if err != nil {
		return temporal.FromError(err)
	}
	return nil
}
