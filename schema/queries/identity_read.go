package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// IdentityPage selects a page of users or accounts of all tenants, newest first.
type IdentityPage struct {
	Username   string
	TenantID   id.Tenant
	Status     string
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

func (p IdentityPage) arguments() pgx.NamedArgs {
	return pgx.NamedArgs{
		"username": optional(p.Username), "tenant_id": optional(p.TenantID), "status": optional(p.Status),
		"before_time": p.BeforeTime, "before_id": optional(p.BeforeID), "limit": p.Limit,
	}
}

// ReadUsers reads one page of users of all tenants, for admins.
func ReadUsers(ctx context.Context, db DB, page IdentityPage) ([]User, error) {
	return many[User](ctx, db, "UserPage", page.arguments())
}

// AccountRow is a tenant's account with the instant it was made.
type AccountRow struct {
	ID        id.Account
	TenantID  id.Tenant
	Currency  string
	CreatedAt time.Time
}

// ReadAccounts reads one page of the accounts of all tenants, for admins.
func ReadAccounts(ctx context.Context, db DB, page IdentityPage) ([]AccountRow, error) {
	return many[AccountRow](ctx, db, "AccountPage", page.arguments())
}

// TenantOfProject says whose a project is; pgx.ErrNoRows when there is none.
func TenantOfProject(ctx context.Context, db DB, project id.Project) (id.Tenant, error) {
	row, err := one[struct{ TenantID id.Tenant }](ctx, db, "ProjectTenant", pgx.NamedArgs{"id": project})
	return row.TenantID, err
}
