package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// Constraints of the tables of tenancy, by which a caller knows what a change was refused for; see Violates.
const (
	ConstraintLastOwner     = "tenant_members_last_owner"
	ConstraintProjectInUse  = "projects_in_use"
	ConstraintProjectName   = "projects_one_of_a_name"
	ConstraintDefaultStays  = "projects_default_stays"
	ConstraintLastAdmin     = "platform_admins_last"
	ConstraintInvitation    = "tenant_invitations_pkey"
	ConstraintOrganisation  = "tenants_org_id_key"
	ConstraintAwaitedPerson = "users_awaited"
)

// Tenant is who owns projects and an account.
type Tenant struct {
	ID id.Tenant
	// Kind is personal or organisation.
	Kind string
	// OrgID is what the issuer calls an organisation, empty for a personal tenant.
	OrgID        string
	Name         string
	Status       string
	StatusReason string
	StatusAt     *time.Time
	// EraseAt is when a closed tenant's personal data is to be erased, ErasedAt when it was; nil before.
	EraseAt   *time.Time
	ErasedAt  *time.Time
	CreatedAt time.Time
}

// GetTenant reads a tenant; pgx.ErrNoRows when there is none.
func GetTenant(ctx context.Context, db DB, tenant id.Tenant) (Tenant, error) {
	return one[Tenant](ctx, db, "TenantGet", pgx.NamedArgs{"id": tenant})
}

// HoldTenant reads a tenant and keeps every other change of it and of its members waiting; pgx.ErrNoRows when there is none.
func HoldTenant(ctx context.Context, db DB, tenant id.Tenant) (Tenant, error) {
	return one[Tenant](ctx, db, "TenantHold", pgx.NamedArgs{"id": tenant})
}

// TenantPage selects a page of tenants, newest first: all of them, or those that a user belongs to.
type TenantPage struct {
	UserID     id.User
	Name       string
	OrgID      string
	Status     string
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

// ReadTenants reads one page of tenants.
func ReadTenants(ctx context.Context, db DB, page TenantPage) ([]Tenant, error) {
	return many[Tenant](ctx, db, "TenantPage", pgx.NamedArgs{
		"user_id": optional(page.UserID), "name": optional(page.Name), "org_id": optional(page.OrgID), "status": optional(page.Status),
		"before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// RenameTenant changes what a tenant is called.
func RenameTenant(ctx context.Context, db DB, tenant id.Tenant, name string) error {
	_, err := execute(ctx, db, "TenantRename", pgx.NamedArgs{"id": tenant, "name": name})
	return err
}

// SetTenantStatus moves a tenant from one status to another; false when it was in another one.
func SetTenantStatus(ctx context.Context, db DB, tenant id.Tenant, from, to, reason string) (bool, error) {
	changed, err := execute(ctx, db, "TenantSetStatus", pgx.NamedArgs{"id": tenant, "from": from, "status": to, "reason": reason})
	return changed == 1, err
}

// Member is somebody with a role in all of a tenant.
type Member struct {
	UserID   id.User
	Username string
	Role     identity.Role
	// Source is how they came in: sign_up, organisation, invitation or operator.
	Source    string
	CreatedAt time.Time
	// Managed says that the issuer counts them among the tenant's organisation now, so that only it can remove them.
	Managed bool
}

// GetMember reads a member of a tenant; pgx.ErrNoRows when there is none.
func GetMember(ctx context.Context, db DB, tenant id.Tenant, user id.User) (Member, error) {
	return one[Member](ctx, db, "MemberGet", pgx.NamedArgs{"tenant_id": tenant, "user_id": user})
}

// MemberPage selects a page of members, newest first.
type MemberPage struct {
	TenantID   id.Tenant
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

// ReadMembers reads one page of a tenant's members.
func ReadMembers(ctx context.Context, db DB, page MemberPage) ([]Member, error) {
	return many[Member](ctx, db, "MemberPage", pgx.NamedArgs{
		"tenant_id": page.TenantID, "before_time": page.BeforeTime, "before_id": optional(page.BeforeID), "limit": page.Limit,
	})
}

// SetMemberRole gives a member another role, and ends what they offered others in the old one. ConstraintLastOwner is violated where the tenant would be without an owner.
func SetMemberRole(ctx context.Context, db DB, tenant id.Tenant, user id.User, role identity.Role) error {
	arguments := pgx.NamedArgs{"tenant_id": tenant, "user_id": user, "role": role}
	if _, err := execute(ctx, db, "MemberSetRole", arguments); err != nil {
		return err
	}
	_, err := execute(ctx, db, "MemberRevokeInvitations", arguments)
	return err
}

// PutOwner makes a user an owner of a tenant, whether they were a member of it or not.
func PutOwner(ctx context.Context, db DB, tenant id.Tenant, user id.User) error {
	_, err := execute(ctx, db, "MemberPutOwner", pgx.NamedArgs{"tenant_id": tenant, "user_id": user})
	return err
}

// RemoveMember ends what a user is in a tenant: their role in it, those in its projects, and what they offered others.
// ConstraintLastOwner is violated where the tenant would be without an owner.
func RemoveMember(ctx context.Context, db DB, tenant id.Tenant, user id.User) error {
	for _, statement := range []string{"MemberDelete", "MemberDeleteFromProjects", "MemberRevokeInvitations"} {
		if _, err := execute(ctx, db, statement, pgx.NamedArgs{"tenant_id": tenant, "user_id": user}); err != nil {
			return err
		}
	}
	return nil
}
