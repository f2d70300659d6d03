package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// User is one person, keyed by (issuer, subject).
type User struct {
	ID       id.User
	TenantID id.Tenant
	Issuer   string
	Subject  string
	Username string
	// Kind is person or service.
	Kind         string
	Status       string
	StatusReason string
	StatusAt     *time.Time
	CreatedAt    time.Time
}

// Account is a tenant's ledger account.
type Account struct {
	ID       id.Account
	Currency string
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

// LockUser locks a user against other admissions, and not against rows that merely name the user; pgx.ErrNoRows when
// there is none.
func LockUser(ctx context.Context, db DB, tenant id.Tenant, user id.User) (status string, err error) {
	row, err := one[struct{ Status string }](ctx, db, "UserLock", pgx.NamedArgs{"id": user, "tenant_id": tenant})
	return row.Status, err
}

// ShareTenant reads a tenant's status and holds it until the transaction ends; pgx.ErrNoRows when there is none.
func ShareTenant(ctx context.Context, db DB, tenant id.Tenant) (status string, err error) {
	row, err := one[struct{ Status string }](ctx, db, "TenantShare", pgx.NamedArgs{"id": tenant})
	return row.Status, err
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

// AccountMadeAt is when a tenant's account was made; pgx.ErrNoRows when there is none.
func AccountMadeAt(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (time.Time, error) {
	row, err := one[struct{ CreatedAt time.Time }](ctx, db, "AccountMadeAt", pgx.NamedArgs{"tenant_id": tenant, "id": account})
	return row.CreatedAt, err
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

// ClaimOpeningCredit answers the account that somebody's one opening credit goes to: this one, unless they had theirs before.
// subjectHMAC is a keyed hash of issuer and subject, 32 bytes.
func ClaimOpeningCredit(ctx context.Context, db DB, subjectHMAC []byte, account id.Account) (id.Account, error) {
	if _, err := execute(ctx, db, "OpeningCreditClaim", pgx.NamedArgs{"subject_hmac": subjectHMAC, "account_id": account}); err != nil {
		return "", err
	}
	row, err := one[struct{ AccountID id.Account }](ctx, db, "OpeningCreditOf", pgx.NamedArgs{"subject_hmac": subjectHMAC})
	return row.AccountID, err
}
