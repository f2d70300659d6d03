package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type platformAdminBody struct {
	UserID    id.User `json:"user_id" pattern:"^user_[a-z2-7]{26}$"`
	Username  string  `json:"username"`
	Source    string  `json:"source" enum:"issuer,appointed" doc:"Whether the identity provider's role makes them one, or an appointment here."`
	GrantedBy string  `json:"granted_by" doc:"The user who appointed them, issuer, or break-glass."`
	Status    string  `json:"status" enum:"active,pending,suspended"`
	CreatedAt moment  `json:"created_at"`
}

type (
	platformAdminOut     struct{ Body platformAdminBody }
	platformAdminListOut struct{ Body list[platformAdminBody] }
	appointIn            struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			UserID id.User `json:"user_id" pattern:"^user_[a-z2-7]{26}$"`
			Reason string  `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
)

// personKind is the kind of a user who signs in; a service account operates no platform and owns no tenant.
const personKind = "person"

func (s *server) platformAdminOperations() {
	handle(s, "listPlatformAdmins", s.listPlatformAdmins)
	handle(s, "appointPlatformAdmin", s.appointPlatformAdmin)
	handle(s, "dismissPlatformAdmin", s.dismissPlatformAdmin)
}

func (s *server) listPlatformAdmins(ctx context.Context, in *Paging) (*platformAdminListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReadPlatformAdmins(ctx, s.config.Pool, from.Time, from.ID, in.fetch())
	if err != nil {
		return nil, err
	}
	return &platformAdminListOut{Body: paged(*in, rows,
		func(row queries.PlatformAdmin) after { return after{row.CreatedAt, string(row.UserID)} }, renderPlatformAdmin)}, nil
}

// appointPlatformAdmin makes somebody an operator of the platform, whatever their identity provider says. Who is one by
// appointment already stays one.
func (s *server) appointPlatformAdmin(ctx context.Context, in *appointIn) (*platformAdminOut, error) {
	row := &queries.Audit{Action: "platform_admin.appoint", TargetType: "user", TargetID: string(in.Body.UserID), Details: map[string]any{"reason": in.Body.Reason}}
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		user, err := queries.HoldUser(ctx, tx, in.Body.UserID)
		if err != nil {
			return orMissing(err, fault.UserNotFound)
		}
		if user.Kind != personKind || user.Status != queries.UserActive {
			return fault.New(fault.UserStateConflict, "Only an active person can operate the platform.")
		}
		_, err = queries.AppointPlatformAdmin(ctx, tx, in.Body.UserID, string(middleware.Principal(ctx).UserID))
		return err
	})
	if err != nil {
		return nil, err
	}
	found, err := queries.GetPlatformAdmin(ctx, s.config.Pool, in.Body.UserID)
	return &platformAdminOut{Body: renderPlatformAdmin(found)}, orMissing(err, fault.UserNotFound)
}

func (s *server) dismissPlatformAdmin(ctx context.Context, in *operateUserIn) (*struct{}, error) {
	row := &queries.Audit{Action: "platform_admin.dismiss", TargetType: "user", TargetID: string(in.UserID), Details: map[string]any{"reason": in.Body.Reason}}
	return nil, s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.HoldUser(ctx, tx, in.UserID); err != nil {
			return orMissing(err, fault.UserNotFound)
		}
		admin, err := queries.GetPlatformAdmin(ctx, tx, in.UserID)
		if err != nil {
			return orMissing(err, fault.UserNotFound)
		}
		if admin.Source == queries.AdminByIssuer {
			return fault.New(fault.ManagedByIssuer, "The identity provider's role makes them an administrator; it has to be taken there.")
		}
		_, err = queries.DismissPlatformAdmin(ctx, tx, in.UserID)
		return orRefused(err, map[string]fault.Code{queries.ConstraintLastAdmin: fault.LastPlatformAdmin})
	})
}

func renderPlatformAdmin(row queries.PlatformAdmin) platformAdminBody {
	return platformAdminBody{UserID: row.UserID, Username: row.Username, Source: row.Source, GrantedBy: row.GrantedBy, Status: row.Status, CreatedAt: moment(row.CreatedAt)}
}
