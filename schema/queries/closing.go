package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// ConstraintAccountOpen is violated by a correction of a closed tenant's balance.
const ConstraintAccountOpen = "ledger_account_open"

// CloseTenant closes an active tenant, to be erased at an instant, and ends at once what could act for it: invitations, service
// accounts, the tokens of those and of people who belong nowhere else, its automatic top-up and its saved card. False when the tenant is not active.
func CloseTenant(ctx context.Context, db DB, tenant id.Tenant, reason string, eraseAt time.Time) (bool, error) {
	changed, err := execute(ctx, db, "TenantClose", pgx.NamedArgs{"tenant_id": tenant, "reason": reason, "erase_at": eraseAt})
	if err != nil || changed == 0 {
		return false, err
	}
	people, err := closingPeople(ctx, db, tenant)
	if err != nil {
		return false, err
	}
	for _, statement := range []string{"ClosingRevokeInvitations", "ClosingDisableServiceAccounts", "ClosingRevokeCredentials", "ClosingStopAutoTopUp", "ClosingDropCards"} {
		if _, err := execute(ctx, db, statement, pgx.NamedArgs{"tenant_id": tenant, "user_ids": people}); err != nil {
			return false, err
		}
	}
	return true, nil
}

// ReopenTenant makes a closed tenant active again; false when it is not closed, or was erased.
func ReopenTenant(ctx context.Context, db DB, tenant id.Tenant, reason string) (bool, error) {
	changed, err := execute(ctx, db, "TenantReopen", pgx.NamedArgs{"tenant_id": tenant, "reason": reason})
	return changed == 1, err
}

// TenantInUse says whether something of the tenant has not ended.
func TenantInUse(ctx context.Context, db DB, tenant id.Tenant) (bool, error) {
	row, err := one[struct{ InUse bool }](ctx, db, "TenantInUse", pgx.NamedArgs{"tenant_id": tenant})
	return row.InUse, err
}

// UserInUse says whether something that the user began has not ended.
func UserInUse(ctx context.Context, db DB, user id.User) (bool, error) {
	row, err := one[struct{ InUse bool }](ctx, db, "UserInUse", pgx.NamedArgs{"user_id": user})
	return row.InUse, err
}

// closingPeople lists who belongs to the tenant and to no other, service accounts among them.
func closingPeople(ctx context.Context, db DB, tenant id.Tenant) ([]id.User, error) {
	rows, err := many[struct{ ID id.User }](ctx, db, "ClosingPeople", pgx.NamedArgs{"tenant_id": tenant})
	people := make([]id.User, len(rows))
	for i, row := range rows {
		people[i] = row.ID
	}
	return people, err
}

// EraseTenant removes every piece of personal data that the tenant holds, and that of everybody who belongs to no other. Its id
// stays, and with it the ledger and the audit log. False when it is not closed, or was erased before.
func EraseTenant(ctx context.Context, db DB, tenant id.Tenant) (bool, error) {
	people, err := closingPeople(ctx, db, tenant)
	if err != nil {
		return false, err
	}
	changed, err := execute(ctx, db, "EraseTenant", pgx.NamedArgs{"tenant_id": tenant})
	if err != nil || changed == 0 {
		return false, err
	}
	for _, user := range people {
		if err := EraseUser(ctx, db, user); err != nil {
			return false, err
		}
	}
	for _, statement := range []string{
		"EraseTenantProjects", "EraseTenantKeys", "EraseTenantAllocations", "EraseTenantInvitations", "EraseTenantMembers",
		"EraseTenantProjectMembers", "EraseTenantAnswers", "EraseTenantNotifications",
		"EraseTenantStripeCustomer", "EraseTenantStripeEvents", "EraseTenantWebhooks", "EraseTenantCards", "EraseTenantEmailMessages",
	} {
		if _, err := execute(ctx, db, statement, pgx.NamedArgs{"tenant_id": tenant}); err != nil {
			return false, err
		}
	}
	return true, nil
}

// EraseUser removes every piece of personal data of a user and ends what they belong to; their id stays. ConstraintLastOwner is
// violated where an open tenant would be without an owner, ConstraintLastAdmin where nobody would operate the platform.
func EraseUser(ctx context.Context, db DB, user id.User) error {
	for _, statement := range []string{
		"EraseUserFromTenants", "EraseUserFromProjects", "EraseUserKeys", "EraseUserCredentials", "EraseUserAllocations",
		"EraseUserInvitations", "EraseServiceAccount", "EraseUserAnswers", "EraseUserNotifications", "EraseUserEmailPreferences", "EraseUserEmailMessages",
		"EraseUser", "EraseUserFromPlatform", // in this order: whether somebody else operates the platform is asked of an operator's row
	} {
		if _, err := execute(ctx, db, statement, pgx.NamedArgs{"user_id": user}); err != nil {
			return err
		}
	}
	return nil
}

// InsertDeparture remembers until an instant that somebody deleted themselves by a request, in the transaction that did it, and forgets what
// has expired by now. The HMAC, of 32 bytes, is over who they were and the request's key.
func InsertDeparture(ctx context.Context, db DB, departureHMAC []byte, now, expiresAt time.Time) error {
	arguments := pgx.NamedArgs{"departure_hmac": departureHMAC, "now": now, "expires_at": expiresAt}
	for _, statement := range []string{"DeparturePurge", "DepartureInsert"} {
		if _, err := execute(ctx, db, statement, arguments); err != nil {
			return err
		}
	}
	return nil
}

// HasDeparted says whether somebody deleted themselves by the very request.
func HasDeparted(ctx context.Context, db DB, departureHMAC []byte, now time.Time) (bool, error) {
	row, err := one[struct{ Departed bool }](ctx, db, "DepartureExists", pgx.NamedArgs{"departure_hmac": departureHMAC, "now": now})
	return row.Departed, err
}

// ClosedTenantsOf lists the closed tenants that have nobody else as their owner.
func ClosedTenantsOf(ctx context.Context, db DB, user id.User) ([]id.Tenant, error) {
	rows, err := many[struct{ ID id.Tenant }](ctx, db, "UserClosedTenants", pgx.NamedArgs{"user_id": user})
	tenants := make([]id.Tenant, len(rows))
	for i, row := range rows {
		tenants[i] = row.ID
	}
	return tenants, err
}

// RefundDue is what remained of a tenant's balance when it was closed, to be paid out. EntryID is its ledger entry.
type RefundDue struct {
	EntryID      int64
	TenantID     id.Tenant
	AccountID    id.Account
	Currency     string
	AmountMicros money.Micros
	Reason       string
	CreatedAt    time.Time
}

// InsertRefundDue writes it beside its entry, in the same transaction.
func InsertRefundDue(ctx context.Context, db DB, due RefundDue) error {
	_, err := execute(ctx, db, "RefundDueInsert", pgx.NamedArgs{
		"entry_id": due.EntryID, "tenant_id": due.TenantID, "account_id": due.AccountID, "currency": due.Currency,
		"amount_micros": due.AmountMicros, "reason": due.Reason,
	})
	return err
}

// ReadRefundsDue reads one page of them, newest first; beforeID is zero for the first page.
func ReadRefundsDue(ctx context.Context, db DB, beforeTime time.Time, beforeID int64, limit int) ([]RefundDue, error) {
	var before *int64
	if beforeID != 0 {
		before = &beforeID
	}
	return many[RefundDue](ctx, db, "RefundDuePage", pgx.NamedArgs{"before_time": beforeTime, "before_id": before, "limit": limit})
}
