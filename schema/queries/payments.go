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

// How a payment is made.
const (
	PaymentByCheckout  = "checkout"
	PaymentByAutoTopUp = "auto_topup"
)

// Payment is a row of payments. UserID is nil for an automatic one, and CardID for every other.
type Payment struct {
	ID                id.Payment
	TenantID          id.Tenant
	AccountID         id.Account
	UserID            *id.User
	Method            string
	Currency          string
	AmountMicros      money.Micros
	SaveCard          bool
	CardID            *id.Card
	State             payment.State
	StateReason       string
	CheckoutSessionID *string
	CheckoutURL       string
	PaymentIntentID   *string
	EntryID           *int64
	CorrelationID     string
	ExpiresAt         *time.Time
	CreditedAt        *time.Time
	CreatedAt         time.Time
}

// InsertPayment writes a payment that is asked for; false when it stands already.
func InsertPayment(ctx context.Context, db DB, p Payment) (bool, error) {
	changed, err := execute(ctx, db, "PaymentInsert", pgx.NamedArgs{
		"id": p.ID, "tenant_id": p.TenantID, "account_id": p.AccountID, "user_id": p.UserID, "method": p.Method, "currency": p.Currency,
		"amount_micros": p.AmountMicros, "save_card": p.SaveCard, "card_id": p.CardID, "correlation_id": p.CorrelationID, "expires_at": p.ExpiresAt,
	})
	return changed == 1, err
}

// GetPayment reads a payment, of any tenant where none is named; pgx.ErrNoRows when there is none.
func GetPayment(ctx context.Context, db DB, tenant id.Tenant, paymentID id.Payment) (Payment, error) {
	return one[Payment](ctx, db, "PaymentGet", pgx.NamedArgs{"id": paymentID, "tenant_id": optional(tenant)})
}

// HoldPayment reads a payment and holds it until the transaction ends.
func HoldPayment(ctx context.Context, db DB, paymentID id.Payment) (Payment, error) {
	return one[Payment](ctx, db, "PaymentHold", pgx.NamedArgs{"id": paymentID})
}

// PaymentOf finds the payment that a page, or an attempt to be paid, of Stripe belongs to; pgx.ErrNoRows for none.
func PaymentOf(ctx context.Context, db DB, checkoutSession, paymentIntent string) (Payment, error) {
	return one[Payment](ctx, db, "PaymentOf", pgx.NamedArgs{"checkout_session_id": checkoutSession, "payment_intent_id": paymentIntent})
}

// Page is a page of a list, newest first: the rows behind (BeforeTime, BeforeID), from the beginning where BeforeID is empty.
type Page struct {
	BeforeTime time.Time
	BeforeID   string
	Limit      int
}

func (p Page) arguments(more pgx.NamedArgs) pgx.NamedArgs {
	more["before_time"], more["before_id"], more["row_limit"] = p.BeforeTime, optional(p.BeforeID), p.Limit
	return more
}

// PaymentsOfTenant reads a page of a tenant's payments.
func PaymentsOfTenant(ctx context.Context, db DB, tenant id.Tenant, page Page) ([]Payment, error) {
	return many[Payment](ctx, db, "PaymentPage", page.arguments(pgx.NamedArgs{"tenant_id": tenant}))
}

// AllPayments reads a page of everybody's payments, in one state where it is named.
func AllPayments(ctx context.Context, db DB, state payment.State, page Page) ([]Payment, error) {
	return many[Payment](ctx, db, "PaymentPageOfAll", page.arguments(pgx.NamedArgs{"state": optional(state)}))
}

// OpenPayment writes down the page on which a payment is made; false when it was opened before.
func OpenPayment(ctx context.Context, db DB, p Payment, session, address string) (bool, error) {
	changed, err := execute(ctx, db, "PaymentOpened", pgx.NamedArgs{
		"id": p.ID, "tenant_id": p.TenantID, "checkout_session_id": session, "checkout_url": address,
	})
	return changed == 1, err
}

// MovePayment writes a state that is not credited; false when it is in that state already, or has ended.
func MovePayment(ctx context.Context, db DB, p Payment, to payment.State, reason, paymentIntent string) (bool, error) {
	changed, err := execute(ctx, db, "PaymentMove", pgx.NamedArgs{
		"id": p.ID, "tenant_id": p.TenantID, "state": to, "state_reason": reason, "payment_intent_id": optional(paymentIntent),
	})
	return changed == 1, err
}

// CreditPayment writes that a payment is in the ledger.
func CreditPayment(ctx context.Context, db DB, p Payment, paymentIntent string, entryID int64, at time.Time) (bool, error) {
	changed, err := execute(ctx, db, "PaymentCredited", pgx.NamedArgs{
		"id": p.ID, "tenant_id": p.TenantID, "payment_intent_id": paymentIntent, "entry_id": entryID, "credited_at": at,
	})
	return changed == 1, err
}

// StripeCustomer is what the tenant is at Stripe; empty while it is nothing there.
func StripeCustomer(ctx context.Context, db DB, tenant id.Tenant) (string, error) {
	row, err := one[struct{ CustomerID string }](ctx, db, "StripeCustomerGet", pgx.NamedArgs{"tenant_id": tenant})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return row.CustomerID, err
}

// LeavingCustomer is an erased tenant of which Stripe still knows.
type LeavingCustomer struct {
	TenantID   id.Tenant
	CustomerID string
}

// LeavingCustomers lists some of those whom Stripe is still to forget, once nothing of theirs is under way there.
func LeavingCustomers(ctx context.Context, db DB, limit int) ([]LeavingCustomer, error) {
	return many[LeavingCustomer](ctx, db, "StripeCustomersLeaving", pgx.NamedArgs{"row_limit": limit})
}

// ForgetCustomer removes what an erased tenant was at Stripe.
func ForgetCustomer(ctx context.Context, db DB, gone LeavingCustomer) error {
	_, err := execute(ctx, db, "StripeCustomerForget", pgx.NamedArgs{"tenant_id": gone.TenantID, "customer_id": gone.CustomerID})
	return err
}

// InsertStripeCustomer writes what the tenant is at Stripe; the first one stays.
func InsertStripeCustomer(ctx context.Context, db DB, tenant id.Tenant, customer string) error {
	_, err := execute(ctx, db, "StripeCustomerInsert", pgx.NamedArgs{"tenant_id": tenant, "customer_id": customer})
	return err
}

// Where a stored event of Stripe came from.
const (
	StripeEventByWebhook = "webhook"
	StripeEventAsked     = "asked"
)

// StripeEvent is an event as it is stored. Body is exactly what was received.
type StripeEvent struct {
	EventID, Type, APIVersion, ObjectID, Source string
	Body                                        []byte
	HappenedAt                                  time.Time
}

// InsertStripeEvent stores an event; false when it was stored before.
func InsertStripeEvent(ctx context.Context, db DB, e StripeEvent) (bool, error) {
	changed, err := execute(ctx, db, "StripeEventInsert", pgx.NamedArgs{
		"event_id": e.EventID, "type": e.Type, "api_version": e.APIVersion, "object_id": e.ObjectID, "source": e.Source, "body": e.Body, "happened_at": e.HappenedAt,
	})
	return changed == 1, err
}

// StripeEventBody reads what was received.
func StripeEventBody(ctx context.Context, db DB, eventID string) ([]byte, error) {
	row, err := one[struct{ Body []byte }](ctx, db, "StripeEventBody", pgx.NamedArgs{"event_id": eventID})
	return row.Body, err
}

// Outcomes of a stored event.
const (
	StripeEventTold      = "told"
	StripeEventUnmatched = "unmatched"
	StripeEventIgnored   = "ignored"
)

// EndStripeEvent writes what became of an event; the first word stands, and false is answered where there was one.
func EndStripeEvent(ctx context.Context, db DB, eventID, outcome string, tenant id.Tenant, about string) (bool, error) {
	written, err := execute(ctx, db, "StripeEventOutcomeInsert", pgx.NamedArgs{"event_id": eventID, "outcome": outcome, "tenant_id": optional(tenant), "about": about})
	return written == 1, err
}

// UndoneStripeEvents lists stored events that nobody has looked at, received before an instant, oldest first.
func UndoneStripeEvents(ctx context.Context, db DB, before time.Time, limit int) ([]string, error) {
	rows, err := many[struct{ EventID string }](ctx, db, "StripeEventsUndone", pgx.NamedArgs{"before": before, "row_limit": limit})
	events := make([]string, len(rows))
	for i, row := range rows {
		events[i] = row.EventID
	}
	return events, err
}

// UnmatchedDisputes lists the disputes, as Stripe calls them, that were about nothing of ours when somebody heard of them, and are not known.
func UnmatchedDisputes(ctx context.Context, db DB, since time.Time, limit int) ([]string, error) {
	rows, err := many[struct{ ObjectID string }](ctx, db, "StripeDisputesUnmatched", pgx.NamedArgs{"since": since, "row_limit": limit})
	disputes := make([]string, len(rows))
	for i, row := range rows {
		disputes[i] = row.ObjectID
	}
	return disputes, err
}

// NewestStripeEvent is when the newest event that is known happened; nil when none is.
func NewestStripeEvent(ctx context.Context, db DB) (*time.Time, error) {
	row, err := one[struct{ HappenedAt *time.Time }](ctx, db, "StripeEventNewest")
	return row.HappenedAt, err
}
