package activities

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Standings writes whether tenants and users may use the platform. Its tool is the database.
type Standings struct {
	Pool *pgxpool.Pool
}

// Bind registers the steps of Suspension.
func (s *Standings) Bind(registry worker.ActivityRegistry) {
	workflows.StepSuspend.Bind(registry, s.Suspend)
	workflows.StepRestore.Bind(registry, s.Restore)
	workflows.StepAllocationsUnder.Bind(registry, s.AllocationsUnder)
}

// Suspend ends what a tenant or a user may do. Faults: TenantNotFound, UserNotFound; TenantStateConflict, UserStateConflict
// where it is not active; LastPlatformAdmin.
func (s *Standings) Suspend(ctx context.Context, in workflows.StandingChange) (workflows.Standing, error) {
	return s.change(ctx, in, standingChange{
		action: "suspend", tenantFrom: queries.TenantActive, tenantTo: queries.TenantSuspended,
		userFrom: []string{queries.UserActive, queries.UserPending}, userTo: queries.UserSuspended,
	})
}

// Restore gives it back. A user who was let in beside it, on the database itself, is restored as long as something of theirs is suspended.
// Faults: TenantNotFound, UserNotFound; TenantStateConflict, UserStateConflict where it is not suspended.
func (s *Standings) Restore(ctx context.Context, in workflows.StandingChange) (workflows.Standing, error) {
	return s.change(ctx, in, standingChange{
		action: "restore", tenantFrom: queries.TenantSuspended, tenantTo: queries.TenantActive,
		userFrom: []string{queries.UserSuspended}, userTo: queries.UserActive,
	})
}

type standingChange struct {
	action               string
	tenantFrom, tenantTo string
	userFrom             []string
	userTo               string
}

// change moves the subject's status once for its request and answers how it stands then.
func (s *Standings) change(ctx context.Context, in workflows.StandingChange, change standingChange) (standing workflows.Standing, err error) {
	err = store.InTx(ctx, s.Pool, func(ctx context.Context, tx pgx.Tx) error {
		switch _, err := queries.AuditOfRequest(ctx, tx, in.RequestID); {
		case errors.Is(err, pgx.ErrNoRows):
			if err := changeSubject(ctx, tx, in, change); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		standing, err = standingOf(ctx, tx, in.Subject)
		return err
	})
	return standing, err
}

func changeSubject(ctx context.Context, tx pgx.Tx, in workflows.StandingChange, change standingChange) error {
	if in.Subject.TenantID != "" {
		return changeTenant(ctx, tx, in, change)
	}
	return changeUser(ctx, tx, in, change)
}

func changeTenant(ctx context.Context, tx pgx.Tx, in workflows.StandingChange, change standingChange) error {
	tenant, err := queries.HoldTenant(ctx, tx, in.Subject.TenantID)
	if err != nil {
		return orFault(err, fault.TenantNotFound)
	}
	changed, err := queries.SetTenantStatus(ctx, tx, in.Subject.TenantID, change.tenantFrom, change.tenantTo, in.Reason)
	if err != nil {
		return err
	}
	if !changed {
		return fault.Newf(fault.TenantStateConflict, "The tenant is %s.", tenant.Status).With(map[string]any{"status": tenant.Status})
	}
	return queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(tenant.ID), Actor: in.Actor, Action: "tenant." + change.action, TargetType: "tenant", TargetID: string(tenant.ID),
		CorrelationID: in.CorrelationID, RequestID: in.RequestID, Details: map[string]any{"reason": in.Reason},
	})
}

func changeUser(ctx context.Context, tx pgx.Tx, in workflows.StandingChange, change standingChange) error {
	user, err := queries.HoldUser(ctx, tx, in.Subject.UserID)
	if err != nil {
		return orFault(err, fault.UserNotFound)
	}
	changed, err := queries.SetUserStatus(ctx, tx, in.Subject.UserID, change.userFrom, change.userTo, in.Reason)
	if err == nil && !changed && user.Status == queries.UserActive && change.userTo == queries.UserActive {
		changed, err = queries.SuspendedUnder(ctx, tx, in.Subject.UserID)
	}
	switch {
	case queries.Violates(err, queries.ConstraintLastAdmin):
		return fault.New(fault.LastPlatformAdmin, "")
	case err != nil:
		return err
	case !changed:
		return fault.Newf(fault.UserStateConflict, "The user is %s.", user.Status).With(map[string]any{"status": user.Status})
	}
	return queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(user.TenantID), Actor: in.Actor, Action: "user." + change.action, TargetType: "user", TargetID: string(user.ID),
		CorrelationID: in.CorrelationID, RequestID: in.RequestID,
		Details: map[string]any{"reason": in.Reason, "from": user.Status, "to": change.userTo},
	})
}

// standingOf reads how a subject stands: suspended since its status was written, and its allocations released when the notice
// in force for its tenant has passed.
func standingOf(ctx context.Context, db queries.DB, subject workflows.Subject) (workflows.Standing, error) {
	status, at, tenant, suspended := "", (*time.Time)(nil), subject.TenantID, ""
	if tenant != "" {
		row, err := queries.GetTenant(ctx, db, tenant)
		if err != nil {
			return workflows.Standing{}, orFault(err, fault.TenantNotFound)
		}
		status, at, suspended = row.Status, row.StatusAt, queries.TenantSuspended
	} else {
		row, err := queries.UserOfAll(ctx, db, subject.UserID)
		if err != nil {
			return workflows.Standing{}, orFault(err, fault.UserNotFound)
		}
		status, at, tenant, suspended = row.Status, row.StatusAt, row.TenantID, queries.UserSuspended
	}
	if status != suspended || at == nil {
		return workflows.Standing{}, nil
	}
	values, err := policy.ReadForTenant(ctx, db, tenant)
	if err != nil {
		return workflows.Standing{}, err
	}
	since := milliseconds(*at)
	return workflows.Standing{Suspended: true, At: since, ReleaseAt: since.Add(values.Seconds(authored.SuspensionNoticeSeconds))}, nil
}

// AllocationsUnder lists what a subject holds that has not ended.
func (s *Standings) AllocationsUnder(ctx context.Context, in workflows.AllocationsUnderIn) (workflows.AllocationsUnderOut, error) {
	found, err := queries.AllocationsUnder(ctx, s.Pool, in.Subject.TenantID, in.Subject.UserID, in.After, in.Limit)
	return workflows.AllocationsUnderOut{Allocations: append([]id.Allocation{}, found...)}, err
}
