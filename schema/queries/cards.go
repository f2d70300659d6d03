package queries

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// Constraints that an automatic charge violates.
const (
	// ConstraintTopUpWanted: nobody wants the account to be charged this.
	ConstraintTopUpWanted = "payments_topup_wanted"
	// ConstraintTopUpCap: more would be charged in a month than the cap.
	ConstraintTopUpCap = "payments_topup_cap"
	// ConstraintOneTopUp: another one is under way.
	ConstraintOneTopUp = "payments_one_topup"
)

// Card is a row of cards. PaymentMethodID is what Stripe calls it, from when it was saved until Stripe has forgotten it.
type Card struct {
	ID                id.Card
	TenantID          id.Tenant
	AccountID         id.Account
	UserID            id.User
	State             payment.CardState
	CheckoutSessionID *string
	CheckoutURL       string
	PaymentMethodID   *string
	Brand             string
	Last4             string `db:"last4"`
	ExpMonth          int
	ExpYear           int
	CorrelationID     string
	ExpiresAt         *time.Time
	SavedAt           *time.Time
	CreatedAt         time.Time
}

// InsertCard writes that somebody wants to save a card; false when it stands already.
func InsertCard(ctx context.Context, db DB, card Card) (bool, error) {
	changed, err := execute(ctx, db, "CardInsert", pgx.NamedArgs{
		"id": card.ID, "tenant_id": card.TenantID, "account_id": card.AccountID, "user_id": card.UserID, "correlation_id": card.CorrelationID,
		"expires_at": card.ExpiresAt,
	})
	return changed == 1, err
}

// GetCard reads a card, of any tenant where none is named; pgx.ErrNoRows when there is none.
func GetCard(ctx context.Context, db DB, tenant id.Tenant, cardID id.Card) (Card, error) {
	return one[Card](ctx, db, "CardGet", pgx.NamedArgs{"id": cardID, "tenant_id": optional(tenant)})
}

// HoldCard reads a card and holds it until the transaction ends.
func HoldCard(ctx context.Context, db DB, cardID id.Card) (Card, error) {
	return one[Card](ctx, db, "CardHold", pgx.NamedArgs{"id": cardID})
}

// SavedCard is the card that an account is charged by; nil for none.
func SavedCard(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (*Card, error) {
	card, err := one[Card](ctx, db, "CardSaved", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &card, err
}

// OpenCard writes down the page on which a card is saved; false when it was opened before.
func OpenCard(ctx context.Context, db DB, card Card, session, address string) (bool, error) {
	changed, err := execute(ctx, db, "CardOpened", pgx.NamedArgs{
		"id": card.ID, "tenant_id": card.TenantID, "checkout_session_id": session, "checkout_url": address,
	})
	return changed == 1, err
}

// ExpireCard writes that nobody saved it in time.
func ExpireCard(ctx context.Context, db DB, card Card) error {
	_, err := execute(ctx, db, "CardExpired", pgx.NamedArgs{"id": card.ID, "tenant_id": card.TenantID})
	return err
}

// KeepCard writes that a card was saved, in its State; false when it was before. Another one of the account must have left.
func KeepCard(ctx context.Context, db DB, card Card) (bool, error) {
	changed, err := execute(ctx, db, "CardKeep", pgx.NamedArgs{
		"id": card.ID, "tenant_id": card.TenantID, "account_id": card.AccountID, "user_id": card.UserID, "state": card.State,
		"payment_method_id": card.PaymentMethodID, "brand": card.Brand, "last4": card.Last4, "exp_month": card.ExpMonth, "exp_year": card.ExpYear,
		"correlation_id": card.CorrelationID, "saved_at": card.SavedAt,
	})
	return changed == 1, err
}

// DropCard has the saved card of an account leave; false when there is none.
func DropCard(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (bool, error) {
	changed, err := execute(ctx, db, "CardLeave", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	return changed == 1, err
}

// ForgetCard writes that Stripe has forgotten a card, and forgets it here.
func ForgetCard(ctx context.Context, db DB, card Card, at time.Time) error {
	_, err := execute(ctx, db, "CardGone", pgx.NamedArgs{"id": card.ID, "tenant_id": card.TenantID, "gone_at": at})
	return err
}

// LeavingCards lists what Stripe is still to forget, of one account or, where it is empty, of all.
func LeavingCards(ctx context.Context, db DB, account id.Account, limit int) ([]Card, error) {
	return many[Card](ctx, db, "CardsLeaving", pgx.NamedArgs{"account_id": optional(account), "row_limit": limit})
}

// AutoTopUp is what a tenant wants to be charged by itself. Failures counts those in a row.
type AutoTopUp struct {
	AccountID        id.Account
	TenantID         id.Tenant
	UserID           id.User
	Enabled          bool
	ThresholdMicros  money.Micros
	AmountMicros     money.Micros
	MonthlyCapMicros money.Micros
	Failures         int64
	RetryAt          *time.Time
	PausedAt         *time.Time
	PausedReason     string
	UpdatedAt        time.Time
}

// GetAutoTopUp reads an account's; nil where it was never set.
func GetAutoTopUp(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (*AutoTopUp, error) {
	wish, err := one[AutoTopUp](ctx, db, "AutoTopUpGet", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &wish, err
}

// PutAutoTopUp sets it; what failed before counts no more.
func PutAutoTopUp(ctx context.Context, db DB, wish AutoTopUp) error {
	_, err := execute(ctx, db, "AutoTopUpPut", pgx.NamedArgs{
		"account_id": wish.AccountID, "tenant_id": wish.TenantID, "user_id": wish.UserID, "enabled": wish.Enabled, "threshold_micros": wish.ThresholdMicros,
		"amount_micros": wish.AmountMicros, "monthly_cap_micros": wish.MonthlyCapMicros,
	})
	return err
}

// TopUpFailure is an automatic charge that came to nothing.
type TopUpFailure struct {
	TenantID  id.Tenant
	AccountID id.Account
	At        time.Time
	RetryAt   time.Time
	Reason    string
	// MostFailures in a row pause it, and PauseNow does at once.
	MostFailures int64
	PauseNow     bool
}

// NoteTopUpFailure counts it. Paused is set when no more is charged until somebody sets the automatic top-up again.
func NoteTopUpFailure(ctx context.Context, db DB, failure TopUpFailure) (failures int64, paused *time.Time, err error) {
	row, err := one[struct {
		Failures int64
		PausedAt *time.Time
	}](ctx, db, "AutoTopUpFailed", pgx.NamedArgs{
		"tenant_id": failure.TenantID, "account_id": failure.AccountID, "at": failure.At, "retry_at": failure.RetryAt, "reason": failure.Reason,
		"most_failures": failure.MostFailures, "pause_now": failure.PauseNow,
	})
	return row.Failures, row.PausedAt, err
}

// NoteTopUpSuccess ends a row of failures.
func NoteTopUpSuccess(ctx context.Context, db DB, tenant id.Tenant, account id.Account) error {
	_, err := execute(ctx, db, "AutoTopUpSucceeded", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	return err
}

// TopUpInFlight is the automatic charge of an account that is under way.
type TopUpInFlight struct {
	ID    id.Payment
	State payment.State
}

// FindTopUpInFlight finds it; nil for none.
func FindTopUpInFlight(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (*TopUpInFlight, error) {
	found, err := one[TopUpInFlight](ctx, db, "AutoTopUpInFlight", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &found, err
}

// TopUpCharged is what was charged by itself in this calendar month (UTC), what is under way included.
type TopUpCharged struct {
	ChargedMicros money.Micros
	MonthEndsAt   time.Time
}

// ReadTopUpCharged adds it up.
func ReadTopUpCharged(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (TopUpCharged, error) {
	return one[TopUpCharged](ctx, db, "AutoTopUpCharged", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
}
