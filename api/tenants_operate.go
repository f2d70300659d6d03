package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type (
	tenantFilter struct {
		Paging
		Name   string `query:"name" minLength:"1" maxLength:"200"`
		OrgID  string `query:"org_id" minLength:"1" maxLength:"255"`
		Status string `query:"status" enum:"active,suspended,closing,closed"`
	}
	createTenantIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			OrgID  string `json:"org_id" minLength:"1" maxLength:"255" pattern:"^[^\\x00-\\x1f\\x7f]+$" doc:"What the identity provider calls the organisation."`
			Name   string `json:"name" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
	setOwnerIn struct {
		TenantPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			UserID id.User `json:"user_id" pattern:"^user_[a-z2-7]{26}$"`
			Reason string  `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
	operateTenantIn struct {
		TenantPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
)

func (s *server) operatedTenantOperations() {
	handle(s, "adminListTenants", func(ctx context.Context, in *tenantFilter) (*tenantListOut, error) {
		return s.tenants(ctx, in.Paging, queries.TenantPage{Name: in.Name, OrgID: in.OrgID, Status: in.Status})
	})
	handle(s, "adminGetTenant", func(ctx context.Context, in *TenantPath) (*tenantOut, error) { return s.tenant(ctx, in.TenantID) })
	handle(s, "createTenant", s.createTenant)
	handle(s, "setTenantOwner", s.setTenantOwner)
	for operation, update := range map[string]string{"suspendTenant": workflows.SuspendUpdate, "restoreTenant": workflows.RestoreUpdate} {
		handle(s, operation, func(ctx context.Context, in *operateTenantIn) (*tenantOut, error) {
			if err := s.changeStanding(ctx, update, workflows.Subject{TenantID: in.TenantID}, in.Body.Reason); err != nil {
				return nil, err
			}
			return s.tenant(ctx, in.TenantID)
		})
	}
}

func (s *server) tenant(ctx context.Context, tenantID id.Tenant) (*tenantOut, error) {
	row, err := queries.GetTenant(ctx, s.config.Pool, tenantID)
	if err != nil {
		return nil, orMissing(err, fault.TenantNotFound)
	}
	return &tenantOut{Body: renderTenant(ctx, row)}, nil
}

// createTenant makes an organisation's tenant before anybody of it signed in. Who comes first from it owns it, unless an operator
// has made somebody its owner by then.
func (s *server) createTenant(ctx context.Context, in *createTenantIn) (*tenantOut, error) {
	request := middleware.RequestOf(ctx).ID
	wanted := queries.SignIn{
		OrgID: in.Body.OrgID, Currency: s.config.Currency, TenantID: deriveID[id.Tenant](s, "organisation", request),
		ProjectID: deriveID[id.Project](s, "organisation", request), AccountID: deriveID[id.Account](s, "organisation", request),
	}
	row := tenantAudit(wanted.TenantID, "tenant.create", in.Body.Reason)
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		err := queries.InsertOrganisation(ctx, tx, wanted, in.Body.Name)
		return orRefused(err, map[string]fault.Code{queries.ConstraintOrganisation: fault.TenantAlreadyExists})
	})
	if err != nil {
		return nil, err
	}
	return s.tenant(ctx, wanted.TenantID)
}

// setTenantOwner makes somebody an owner of a tenant that has lost touch with its own, or has none yet.
func (s *server) setTenantOwner(ctx context.Context, in *setOwnerIn) (*memberOut, error) {
	row := memberAudit(in.TenantID, in.Body.UserID, "member.set_role")
	row.Details = map[string]any{"to": identity.Owner, "reason": in.Body.Reason}
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		tenant, err := queries.HoldTenant(ctx, tx, in.TenantID)
		if err != nil {
			return orMissing(err, fault.TenantNotFound)
		}
		if tenant.Status == queries.TenantClosed {
			return fault.New(fault.TenantStateConflict, "The tenant is closed.")
		}
		user, err := queries.HoldUser(ctx, tx, in.Body.UserID)
		if err != nil {
			return orMissing(err, fault.UserNotFound)
		}
		if user.Kind != personKind {
			return fault.New(fault.UserStateConflict, "Only a person can own a tenant.")
		}
		return queries.PutOwner(ctx, tx, in.TenantID, in.Body.UserID)
	})
	if err != nil {
		return nil, err
	}
	member, err := queries.GetMember(ctx, s.config.Pool, in.TenantID, in.Body.UserID)
	return &memberOut{Body: renderMember(member)}, orMissing(err, fault.MemberNotFound)
}

func tenantAudit(tenant id.Tenant, action, reason string) *queries.Audit {
	return &queries.Audit{TenantID: string(tenant), Action: action, TargetType: "tenant", TargetID: string(tenant), Details: map[string]any{"reason": reason}}
}
