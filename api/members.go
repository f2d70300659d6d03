package api

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type memberBody struct {
	UserID    id.User       `json:"user_id" pattern:"^user_[a-z2-7]{26}$"`
	Username  string        `json:"username"`
	Role      identity.Role `json:"role" enum:"owner,admin,member,viewer,billing"`
	Source    string        `json:"source" enum:"sign_up,organisation,invitation,operator,service_account" doc:"How they came in."`
	Managed   bool          `json:"managed" doc:"Whether the identity provider counts them among the organisation, so that only it can remove them."`
	CreatedAt moment        `json:"created_at"`
}

type (
	MemberPath struct {
		TenantPath
		UserID id.User `path:"user_id" pattern:"^user_[a-z2-7]{26}$"`
	}
	memberListIn struct {
		TenantPath
		Paging
	}
	memberListOut  struct{ Body list[memberBody] }
	memberOut      struct{ Body memberBody }
	updateMemberIn struct {
		MemberPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Role identity.Role `json:"role" enum:"owner,admin,member,viewer,billing"`
		}
	}
	removeMemberIn struct {
		MemberPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
)

func (s *server) listTenantMembers(ctx context.Context, in *memberListIn) (*memberListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReadMembers(ctx, s.config.Pool, queries.MemberPage{
		TenantID: middleware.At(ctx).TenantID, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &memberListOut{Body: paged(in.Paging, rows, func(row queries.Member) after { return after{row.CreatedAt, string(row.UserID)} }, renderMember)}, nil
}

func (s *server) updateTenantMember(ctx context.Context, in *updateMemberIn) (*memberOut, error) {
	tenantID := middleware.At(ctx).TenantID
	row := memberAudit(tenantID, in.UserID, "member.set_role")
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		member, err := memberToChange(ctx, tx, tenantID, in.UserID, in.Body.Role)
		if err != nil {
			return err
		}
		row.Details = map[string]any{"from": member.Role, "to": in.Body.Role}
		return orRefused(queries.SetMemberRole(ctx, tx, tenantID, in.UserID, in.Body.Role), map[string]fault.Code{queries.ConstraintLastOwner: fault.LastOwner})
	})
	if err != nil {
		return nil, err
	}
	member, err := queries.GetMember(ctx, s.config.Pool, tenantID, in.UserID)
	return &memberOut{Body: renderMember(member)}, orMissing(err, fault.MemberNotFound)
}

// removeTenantMember ends somebody's membership, and with it their roles in single projects; everybody may leave by removing
// themselves. What they run stays and is managed by those who manage what others own.
func (s *server) removeTenantMember(ctx context.Context, in *removeMemberIn) (*struct{}, error) {
	tenantID := middleware.At(ctx).TenantID
	row := memberAudit(tenantID, in.UserID, "member.remove")
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		member, err := memberToChange(ctx, tx, tenantID, in.UserID, "")
		if err != nil {
			return err
		}
		if member.Managed {
			return fault.New(fault.ManagedByIssuer, "")
		}
		row.Details = map[string]any{"role": member.Role}
		return orRefused(queries.RemoveMember(ctx, tx, tenantID, in.UserID), map[string]fault.Code{queries.ConstraintLastOwner: fault.LastOwner})
	})
	return nil, err
}

func memberAudit(tenant id.Tenant, user id.User, action string) *queries.Audit {
	return &queries.Audit{TenantID: string(tenant), Action: action, TargetType: "user", TargetID: string(user)}
}

// memberToChange holds the tenant and reads one of its members, whom the caller would give another role, or none. Roles are read again
// here: what the caller was a moment ago does not count. Only an owner makes or unmakes owners.
func memberToChange(ctx context.Context, tx pgx.Tx, tenantID id.Tenant, userID id.User, to identity.Role) (queries.Member, error) {
	who := middleware.Principal(ctx)
	if _, err := queries.HoldTenant(ctx, tx, tenantID); err != nil {
		return queries.Member{}, orMissing(err, fault.TenantNotFound)
	}
	member, err := queries.GetMember(ctx, tx, tenantID, userID)
	if err != nil {
		return member, orMissing(err, fault.MemberNotFound)
	}
	if userID == who.UserID && (to == "" || to == member.Role) {
		return member, nil
	}
	own, err := queries.GetMember(ctx, tx, tenantID, who.UserID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return member, err
	}
	needed := identity.MembersWrite
	if member.Role == identity.Owner || to == identity.Owner {
		needed = identity.TenantOwn
	}
	return member, grantedBy(own.Role, needed)
}

// grantedBy refuses what a role, read in the transaction of the change, does not permit.
func grantedBy(role identity.Role, permission identity.Permission) error {
	if role.Grants(permission) {
		return nil
	}
	return fault.Newf(fault.InsufficientPermissions, "Your role here does not include %s.", permission).With(map[string]any{"permission": permission, "role": role})
}

func renderMember(row queries.Member) memberBody {
	return memberBody{UserID: row.UserID, Username: row.Username, Role: row.Role, Source: row.Source, Managed: row.Managed, CreatedAt: moment(row.CreatedAt)}
}
