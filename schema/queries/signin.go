package queries

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// Identity is one user with every place they may act in.
type Identity struct {
	User        IdentityUser
	Tenants     []IdentityTenant
	Memberships []IdentityMembership
	// Created says that this sign-in made the user.
	Created bool
	// Credential is the token by which they were found, the zero value for a sign-in; Account is the service account that
	// they are, nil for a person.
	Credential Credential
	Account    *ServiceAccount
}

// IdentityUser is what authentication needs to know of a user.
type IdentityUser struct {
	ID       id.User
	TenantID id.Tenant
	Issuer   string
	Subject  string
	Username string
	Kind     string
	Status   string
	OrgID    string
	// Email is the address that the issuer named last, empty for none; EmailVerified says that it called it verified.
	Email         string
	EmailVerified bool
	CreatedAt     time.Time
	// PlatformAdmin says that the user operates the platform, AdminByIssuer that it is the issuer's word alone.
	PlatformAdmin bool
	AdminByIssuer bool
}

// IdentityTenant is a tenant that the user belongs to.
type IdentityTenant struct {
	TenantID  id.Tenant
	Status    string
	OrgID     string
	Kind      string
	ProjectID id.Project
	AccountID id.Account
	Currency  string
}

// IdentityMembership is a role in a tenant, or in the project that is named.
type IdentityMembership struct {
	TenantID  id.Tenant
	ProjectID id.Project
	Role      identity.Role
	Source    string
}

// Home is the tenant in which the user acts where nothing else is said; false when they belong to it no longer.
func (i Identity) Home() (IdentityTenant, bool) {
	for _, tenant := range i.Tenants {
		if tenant.TenantID == i.User.TenantID {
			return tenant, true
		}
	}
	return IdentityTenant{}, false
}

// UserService is the kind of a user that is a program.
const UserService = "service"

// Statuses of a user.
const (
	UserActive    = "active"
	UserPending   = "pending"
	UserSuspended = "suspended"
	UserErased    = "erased"
)

// Statuses of a tenant.
const (
	TenantActive    = "active"
	TenantSuspended = "suspended"
	TenantClosing   = "closing"
	TenantClosed    = "closed"
)

// How a member came into a tenant.
const (
	MemberBySignUp       = "sign_up"
	MemberByOrganisation = "organisation"
	MemberByInvitation   = "invitation"
	MemberByOperator     = "operator"
)

// SignIn is who a token speaks for, and the ids to use if the platform meets them for the first time.
type SignIn struct {
	Issuer, Subject, Username string
	// OrgID is the organisation the token names, empty for none.
	OrgID string
	// Email is the address that the token names, empty where it says nothing of one: then what is known stays.
	Email         string
	EmailVerified bool
	// Admin says that the token carries the platform's admin role.
	Admin bool
	// Pending says that somebody new waits for an operator's approval.
	Pending bool
	// Currency is a new account's, for ever.
	Currency  string
	TenantID  id.Tenant
	UserID    id.User
	ProjectID id.Project
	AccountID id.Account
}

// FindIdentity reads what earlier sign-ins made; pgx.ErrNoRows when there was none.
func FindIdentity(ctx context.Context, db DB, issuer, subject string) (Identity, error) {
	user, err := one[IdentityUser](ctx, db, "IdentityBySubject", pgx.NamedArgs{"issuer": issuer, "subject": subject})
	if err != nil {
		return Identity{}, err
	}
	return places(ctx, db, user)
}

// GetIdentity reads a user by id with their places; pgx.ErrNoRows when there is none.
func GetIdentity(ctx context.Context, db DB, user id.User) (Identity, error) {
	found, err := one[IdentityUser](ctx, db, "IdentityOfUser", pgx.NamedArgs{"id": user})
	if err != nil {
		return Identity{}, err
	}
	return places(ctx, db, found)
}

func places(ctx context.Context, db DB, user IdentityUser) (Identity, error) {
	tenants, err := many[IdentityTenant](ctx, db, "IdentityTenants", pgx.NamedArgs{"user_id": user.ID})
	if err != nil {
		return Identity{}, err
	}
	memberships, err := many[IdentityMembership](ctx, db, "IdentityMemberships", pgx.NamedArgs{"user_id": user.ID})
	return Identity{User: user, Tenants: tenants, Memberships: memberships}, err
}

// Follows says whether what is stored agrees with what a token says, so that EnsureIdentity has nothing to do.
func (i Identity) Follows(in SignIn) bool {
	home, there := i.Home()
	return there && i.User.Username == in.Username && i.User.OrgID == in.OrgID && (in.OrgID != "") == (home.OrgID != "" && home.OrgID == in.OrgID) &&
		(in.Admin && i.User.PlatformAdmin || !in.Admin && !i.User.AdminByIssuer) &&
		(in.Email == "" || i.User.Email == in.Email && i.User.EmailVerified == in.EmailVerified)
}

// EnsureIdentity makes what a sign-in needs and follows what the token says, in the transaction it is given: the user, their
// organisation's tenant or one of their own, its default project and account, the membership. Two sign-ins at once
// make one of each: they take turns.
func EnsureIdentity(ctx context.Context, db DB, in SignIn) (Identity, error) {
	if _, err := execute(ctx, db, "SignInLock", pgx.NamedArgs{"issuer": in.Issuer, "subject": in.Subject}); err != nil {
		return Identity{}, err
	}
	user, created, err := meet(ctx, db, in)
	if err != nil {
		return Identity{}, err
	}
	home, source, role, err := ensureHome(ctx, db, in, user.ID, created)
	if err != nil {
		return Identity{}, err
	}
	if err := ensureUser(ctx, db, in, user.ID, home, created); err != nil {
		return Identity{}, err
	}
	if err := AddTenantMember(ctx, db, home, user.ID, role, source); err != nil {
		return Identity{}, err
	}
	standing := "PlatformAdminNoLongerByIssuer"
	if in.Admin {
		standing = "PlatformAdminByIssuer"
	}
	if _, err := execute(ctx, db, standing, pgx.NamedArgs{"user_id": user.ID}); err != nil {
		return Identity{}, err
	}
	found, err := FindIdentity(ctx, db, in.Issuer, in.Subject)
	found.Created = created
	return found, err
}

// meet finds the user of a token: one who was here before, or one whom an operator registered by this name and who comes for the first
// time. Anybody else is to be created.
func meet(ctx context.Context, db DB, in SignIn) (user IdentityUser, created bool, err error) {
	who := pgx.NamedArgs{"issuer": in.Issuer, "subject": in.Subject, "username": in.Username}
	user, err = one[IdentityUser](ctx, db, "IdentityBySubject", who)
	if !errors.Is(err, pgx.ErrNoRows) {
		return user, false, err
	}
	claimed, err := execute(ctx, db, "UserClaimAwaited", who)
	if err != nil || claimed == 0 {
		return IdentityUser{ID: in.UserID}, true, err
	}
	user, err = one[IdentityUser](ctx, db, "IdentityBySubject", who)
	return user, false, err
}

// ensureHome finds or makes the tenant that the token speaks for, and says as what its user belongs to it. Whoever comes
// first from an organisation owns its tenant, for somebody must be able to invite and to pay.
func ensureHome(ctx context.Context, db DB, in SignIn, user id.User, created bool) (id.Tenant, string, identity.Role, error) {
	if in.OrgID == "" {
		if !created {
			own, err := one[struct{ ID id.Tenant }](ctx, db, "TenantPersonal", pgx.NamedArgs{"user_id": user})
			if err == nil || !errors.Is(err, pgx.ErrNoRows) {
				return own.ID, MemberBySignUp, identity.Owner, err
			}
		}
		return in.TenantID, MemberBySignUp, identity.Owner, makeTenant(ctx, db, in, "personal", in.Username)
	}
	if _, err := execute(ctx, db, "OrganisationLock", pgx.NamedArgs{"org_id": in.OrgID}); err != nil {
		return "", "", "", err
	}
	home := in.TenantID
	organisation, err := one[struct{ ID id.Tenant }](ctx, db, "TenantByOrganisation", pgx.NamedArgs{"org_id": in.OrgID})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		err = makeTenant(ctx, db, in, "organisation", in.OrgID)
	case err == nil:
		home = organisation.ID
	}
	if err != nil {
		return "", "", "", err
	}
	owned, err := one[struct{ Has bool }](ctx, db, "TenantHasOwner", pgx.NamedArgs{"tenant_id": home})
	if err != nil {
		return "", "", "", err
	}
	if owned.Has {
		return home, MemberByOrganisation, identity.Member, nil
	}
	return home, MemberByOrganisation, identity.Owner, nil
}

// makeTenant makes a tenant with its default project and its account.
func makeTenant(ctx context.Context, db DB, in SignIn, kind, name string) error {
	for _, insert := range []struct {
		statement string
		arguments pgx.NamedArgs
	}{
		{"TenantInsert", pgx.NamedArgs{"id": in.TenantID, "kind": kind, "org_id": optional(in.OrgID), "name": name}},
		{"ProjectInsert", pgx.NamedArgs{"id": in.ProjectID, "tenant_id": in.TenantID, "name": "default", "is_default": true}},
		{"AccountInsert", pgx.NamedArgs{"id": in.AccountID, "tenant_id": in.TenantID, "currency": in.Currency}},
	} {
		if _, err := execute(ctx, db, insert.statement, insert.arguments); err != nil {
			return err
		}
	}
	return nil
}

// ensureUser makes the user, or follows what the token says of one.
func ensureUser(ctx context.Context, db DB, in SignIn, user id.User, home id.Tenant, created bool) error {
	arguments := pgx.NamedArgs{
		"id": user, "tenant_id": home, "username": in.Username, "org_id": in.OrgID, "email": in.Email, "email_verified": in.EmailVerified,
	}
	if !created {
		_, err := execute(ctx, db, "UserFollow", arguments)
		return err
	}
	status := UserActive
	if in.Pending {
		status = UserPending
	}
	arguments["issuer"], arguments["subject"], arguments["status"] = in.Issuer, in.Subject, status
	_, err := execute(ctx, db, "UserInsert", arguments)
	return err
}

// AddTenantMember gives a user a role in a tenant, unless they hold one there.
func AddTenantMember(ctx context.Context, db DB, tenant id.Tenant, user id.User, role identity.Role, source string) error {
	_, err := execute(ctx, db, "TenantMemberInsert", pgx.NamedArgs{"tenant_id": tenant, "user_id": user, "role": role, "source": source})
	return err
}
