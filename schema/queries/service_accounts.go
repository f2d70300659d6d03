package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// MemberByServiceAccount is how a service account belongs to its tenant.
const MemberByServiceAccount = "service_account"

// ServiceAccount is a user that is a program: a member of a tenant, or of the one project that is named.
type ServiceAccount struct {
	UserID     id.User
	TenantID   id.Tenant
	ProjectID  id.Project
	Name       string
	Role       identity.Role
	CreatedBy  string
	CreatedAt  time.Time
	DisabledAt *time.Time
}

// InsertServiceAccount makes the user, the account and the membership, in the transaction it is given; false, with
// nothing of them to be kept, when the tenant has one of that name.
func InsertServiceAccount(ctx context.Context, db DB, a ServiceAccount) (bool, error) {
	if _, err := execute(ctx, db, "ServiceAccountUserInsert", pgx.NamedArgs{"id": a.UserID, "tenant_id": a.TenantID, "name": a.Name}); err != nil {
		return false, err
	}
	inserted, err := execute(ctx, db, "ServiceAccountInsert", pgx.NamedArgs{
		"user_id": a.UserID, "tenant_id": a.TenantID, "project_id": optional(a.ProjectID), "name": a.Name, "created_by": a.CreatedBy,
	})
	if err != nil || inserted == 0 {
		return false, err
	}
	if a.ProjectID == "" {
		return true, AddTenantMember(ctx, db, a.TenantID, a.UserID, a.Role, MemberByServiceAccount)
	}
	_, err = execute(ctx, db, "ProjectMemberPut", pgx.NamedArgs{"tenant_id": a.TenantID, "project_id": a.ProjectID, "user_id": a.UserID, "role": a.Role})
	return true, err
}

// GetServiceAccount reads one, of whatever tenant; pgx.ErrNoRows when there is none.
func GetServiceAccount(ctx context.Context, db DB, user id.User) (ServiceAccount, error) {
	return one[ServiceAccount](ctx, db, "ServiceAccountGet", pgx.NamedArgs{"user_id": user})
}

// ServiceAccountPage selects a page of a tenant's service accounts, newest first; a project narrows it.
type ServiceAccountPage struct {
	TenantID   id.Tenant
	ProjectID  id.Project
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

// ReadServiceAccounts reads one page.
func ReadServiceAccounts(ctx context.Context, db DB, page ServiceAccountPage) ([]ServiceAccount, error) {
	return many[ServiceAccount](ctx, db, "ServiceAccountPage", pgx.NamedArgs{
		"tenant_id": page.TenantID, "project_id": optional(page.ProjectID), "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// DisableServiceAccount disables an account at an instant, or enables it where the instant is nil; false when it stood so
// already.
func DisableServiceAccount(ctx context.Context, db DB, tenant id.Tenant, user id.User, at *time.Time) (bool, error) {
	changed, err := execute(ctx, db, "ServiceAccountDisable", pgx.NamedArgs{"user_id": user, "tenant_id": tenant, "at": at})
	return changed > 0, err
}

// LockServiceAccount lets one transaction at a time make secrets of the account.
func LockServiceAccount(ctx context.Context, db DB, tenant id.Tenant, user id.User) error {
	_, err := one[struct{ UserID id.User }](ctx, db, "ServiceAccountLock", pgx.NamedArgs{"user_id": user, "tenant_id": tenant})
	return err
}
