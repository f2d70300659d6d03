package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type tenantBody struct {
	ID           id.Tenant     `json:"id" pattern:"^tenant_[a-z2-7]{26}$"`
	Kind         string        `json:"kind" enum:"personal,organisation"`
	OrgID        string        `json:"org_id,omitempty" doc:"What the identity provider calls the organisation."`
	Name         string        `json:"name"`
	Status       string        `json:"status" enum:"active,suspended,closing,closed"`
	StatusReason string        `json:"status_reason,omitempty"`
	StatusAt     *moment       `json:"status_at,omitempty"`
	EraseAt      *moment       `json:"erase_at,omitempty" doc:"When personal data is erased; present while the tenant is closed."`
	ErasedAt     *moment       `json:"erased_at,omitempty"`
	Role         identity.Role `json:"role,omitempty" enum:"owner,admin,member,viewer,billing" doc:"Your own in all of the tenant; absent where you have none."`
	CreatedAt    moment        `json:"created_at"`
}

type (
	tenantOut     struct{ Body tenantBody }
	tenantListOut struct{ Body list[tenantBody] }
	renameIn      struct {
		TenantPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Name string `json:"name" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
		}
	}
)

func (s *server) tenantOperations() {
	handle(s, "listTenants", s.listTenants)
	handle(s, "getTenant", s.getTenant)
	handle(s, "updateTenant", s.updateTenant)
	handle(s, "listTenantMembers", s.listTenantMembers)
	handle(s, "updateTenantMember", s.updateTenantMember)
	handle(s, "removeTenantMember", s.removeTenantMember)
}

// listTenants lists the tenants of the caller.
func (s *server) listTenants(ctx context.Context, in *Paging) (*tenantListOut, error) {
	return s.tenants(ctx, *in, queries.TenantPage{UserID: middleware.Principal(ctx).UserID})
}

func (s *server) tenants(ctx context.Context, in Paging, page queries.TenantPage) (*tenantListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	page.BeforeTime, page.BeforeID, page.Limit = from.Time, from.ID, in.fetch()
	rows, err := queries.ReadTenants(ctx, s.config.Pool, page)
	if err != nil {
		return nil, err
	}
	return &tenantListOut{Body: paged(in, rows, func(row queries.Tenant) after { return after{row.CreatedAt, string(row.ID)} },
		func(row queries.Tenant) tenantBody { return renderTenant(ctx, row) })}, nil
}

func (s *server) getTenant(ctx context.Context, _ *TenantPath) (*tenantOut, error) {
	row, err := queries.GetTenant(ctx, s.config.Pool, middleware.At(ctx).TenantID)
	if err != nil {
		return nil, err
	}
	return &tenantOut{Body: renderTenant(ctx, row)}, nil
}

func (s *server) updateTenant(ctx context.Context, in *renameIn) (*tenantOut, error) {
	tenantID := middleware.At(ctx).TenantID
	err := s.change(ctx, &queries.Audit{TenantID: string(tenantID), Action: "tenant.rename", TargetType: "tenant", TargetID: string(tenantID)},
		func(ctx context.Context, tx pgx.Tx) error {
			return queries.RenameTenant(ctx, tx, tenantID, in.Body.Name)
		})
	if err != nil {
		return nil, err
	}
	return s.getTenant(ctx, &in.TenantPath)
}

func renderTenant(ctx context.Context, row queries.Tenant) tenantBody {
	return tenantBody{
		ID: row.ID, Kind: row.Kind, OrgID: row.OrgID, Name: row.Name, Status: row.Status, StatusReason: row.StatusReason,
		StatusAt: maybe(row.StatusAt), EraseAt: maybe(row.EraseAt), ErasedAt: maybe(row.ErasedAt), Role: middleware.Principal(ctx).RoleIn(row.ID), CreatedAt: moment(row.CreatedAt),
	}
}
