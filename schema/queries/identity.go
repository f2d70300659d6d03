package queries

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// User is one person, keyed by (issuer, subject).
type User struct {
	ID        id.User
	TenantID  id.Tenant
	Issuer    string
	Subject   string
	Username  string
	CreatedAt time.Time
}

// Account is a tenant's ledger account.
type Account struct {
	ID       id.Account
	Currency string
}

// Project is the folder allocations live in.
type Project struct {
	ID   id.Project
	Name string
}

// SignIn is who a token speaks for, and the ids to use if the platform meets them for the first time.
type SignIn struct {
	Issuer, Subject, Username string
	// Currency is the new account's, for ever.
	Currency  string
	TenantID  id.Tenant
	UserID    id.User
	ProjectID id.Project
	AccountID id.Account
}

// SignedIn is the person with the personal tenant, default project and account.
type SignedIn struct {
	User    User
	Project Project
	Account Account
	// Created says that this sign-in made them.
	Created bool
}

// FindSignedIn reads what an earlier sign-in made; pgx.ErrNoRows when there was none.
func FindSignedIn(ctx context.Context, db DB, issuer, subject string) (SignedIn, error) {
	user, err := one[User](ctx, db, "UserBySubject", pgx.NamedArgs{"issuer": issuer, "subject": subject})
	if err != nil {
		return SignedIn{}, err
	}
	project, err := one[Project](ctx, db, "ProjectDefault", pgx.NamedArgs{"tenant_id": user.TenantID})
	if err != nil {
		return SignedIn{}, err
	}
	account, err := AccountOfTenant(ctx, db, user.TenantID)
	if err != nil {
		return SignedIn{}, err
	}
	return SignedIn{User: user, Project: project, Account: account}, nil
}

// EnsureSignedIn makes user, personal tenant, default project, membership and account at the first sign-in and finds
// them at every other, in the transaction it is given. Two first sign-ins at once make one user: they take turns.
func EnsureSignedIn(ctx context.Context, db DB, in SignIn) (SignedIn, error) {
	if _, err := execute(ctx, db, "SignInLock", pgx.NamedArgs{"issuer": in.Issuer, "subject": in.Subject}); err != nil {
		return SignedIn{}, err
	}
	found, err := FindSignedIn(ctx, db, in.Issuer, in.Subject)
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return found, err
	}
	const projectName = "default"
	for _, insert := range []struct {
		statement string
		arguments pgx.NamedArgs
	}{
		{"TenantInsert", pgx.NamedArgs{"id": in.TenantID, "name": in.Username}},
		{"UserInsert", pgx.NamedArgs{"id": in.UserID, "tenant_id": in.TenantID, "issuer": in.Issuer, "subject": in.Subject, "username": in.Username}},
		{"ProjectInsert", pgx.NamedArgs{"id": in.ProjectID, "tenant_id": in.TenantID, "name": projectName, "is_default": true}},
		{"ProjectMemberInsert", pgx.NamedArgs{"tenant_id": in.TenantID, "project_id": in.ProjectID, "user_id": in.UserID, "role": "owner"}},
		{"AccountInsert", pgx.NamedArgs{"id": in.AccountID, "tenant_id": in.TenantID, "currency": in.Currency}},
	} {
		if _, err := execute(ctx, db, insert.statement, insert.arguments); err != nil {
			return SignedIn{}, err
		}
	}
	made, err := FindSignedIn(ctx, db, in.Issuer, in.Subject)
	made.Created = true
	return made, err
}

// GetUser reads one user of a tenant; pgx.ErrNoRows when there is none.
func GetUser(ctx context.Context, db DB, tenant id.Tenant, user id.User) (User, error) {
	return one[User](ctx, db, "UserGet", pgx.NamedArgs{"id": user, "tenant_id": tenant})
}

// FindUsersByUsername lists up to two users of that name, for an admin who names a person: two mean that the name is
// not enough.
func FindUsersByUsername(ctx context.Context, db DB, username string) ([]User, error) {
	return many[User](ctx, db, "UserFindByUsername", pgx.NamedArgs{"username": username})
}

// RenameUser follows a changed name in the token.
func RenameUser(ctx context.Context, db DB, tenant id.Tenant, user id.User, username string) error {
	_, err := execute(ctx, db, "UserRename", pgx.NamedArgs{"id": user, "tenant_id": tenant, "username": username})
	return err
}

// LockUser locks a user against other admissions, and not against rows that merely name the user; pgx.ErrNoRows when
// there is none.
func LockUser(ctx context.Context, db DB, tenant id.Tenant, user id.User) error {
	_, err := one[struct{ ID id.User }](ctx, db, "UserLock", pgx.NamedArgs{"id": user, "tenant_id": tenant})
	return err
}

// LockAccount locks an account against other admissions and debits, and not against postings; pgx.ErrNoRows when
// there is none.
func LockAccount(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (Account, error) {
	return one[Account](ctx, db, "AccountLock", pgx.NamedArgs{"id": account, "tenant_id": tenant})
}

// AccountOfTenant is the tenant's account; pgx.ErrNoRows when there is none.
func AccountOfTenant(ctx context.Context, db DB, tenant id.Tenant) (Account, error) {
	return one[Account](ctx, db, "AccountOfTenant", pgx.NamedArgs{"tenant_id": tenant})
}

// TenantAccount is an account with its owner.
type TenantAccount struct {
	ID       id.Account
	TenantID id.Tenant
	Currency string
}

// GetAccount reads a tenant's account by its id, for admins; pgx.ErrNoRows when there is none.
func GetAccount(ctx context.Context, db DB, account id.Account) (TenantAccount, error) {
	return one[TenantAccount](ctx, db, "AccountGet", pgx.NamedArgs{"id": account})
}

// GetProject reads a project of a tenant; pgx.ErrNoRows when there is none.
func GetProject(ctx context.Context, db DB, tenant id.Tenant, project id.Project) (Project, error) {
	return one[Project](ctx, db, "ProjectGet", pgx.NamedArgs{"id": project, "tenant_id": tenant})
}

// ProjectRole is the user's role in a project; pgx.ErrNoRows when the user is no member.
func ProjectRole(ctx context.Context, db DB, tenant id.Tenant, project id.Project, user id.User) (string, error) {
	row, err := one[struct{ Role string }](ctx, db, "ProjectMemberRole", pgx.NamedArgs{"project_id": project, "user_id": user, "tenant_id": tenant})
	return row.Role, err
}
