package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// What the database refuses of a refund.
const (
	ConstraintRefundCovered       = "ledger_refund_covered"
	ConstraintRefundWithinPayment = "refunds_within_payment"
	ConstraintRefundUndisputed    = "refunds_undisputed"
)

// Refund is a row of refunds.
type Refund struct {
	ID              id.Refund
	PaymentID       id.Payment
	TenantID        id.Tenant
	AccountID       id.Account
	UserID          id.User
	Currency        string
	AmountMicros    money.Micros
	Reason          string
	State           payment.RefundState
	FailureReason   string
	StripeRefundID  *string
	EntryID         int64
	OutcomeEntryID  *int64
	ReturnedEntryID *int64
	CorrelationID   string
	CreatedAt       time.Time
	EndedAt         *time.Time
}

// InsertRefund writes a refund whose amount is on the pending account.
func InsertRefund(ctx context.Context, db DB, r Refund) error {
	_, err := execute(ctx, db, "RefundInsert", pgx.NamedArgs{
		"id": r.ID, "payment_id": r.PaymentID, "tenant_id": r.TenantID, "account_id": r.AccountID, "user_id": r.UserID, "currency": r.Currency,
		"amount_micros": r.AmountMicros, "reason": r.Reason, "entry_id": r.EntryID, "correlation_id": r.CorrelationID,
	})
	return err
}

// GetRefund reads a refund, of any tenant where none is named; pgx.ErrNoRows when there is none.
func GetRefund(ctx context.Context, db DB, tenant id.Tenant, refundID id.Refund) (Refund, error) {
	return one[Refund](ctx, db, "RefundGet", pgx.NamedArgs{"id": refundID, "tenant_id": optional(tenant)})
}

// HoldRefund reads a refund and holds it until the transaction ends.
func HoldRefund(ctx context.Context, db DB, refundID id.Refund) (Refund, error) {
	return one[Refund](ctx, db, "RefundHold", pgx.NamedArgs{"id": refundID})
}

// RefundByStripe finds the refund that one of Stripe's is; pgx.ErrNoRows for none.
func RefundByStripe(ctx context.Context, db DB, stripeRefund string) (Refund, error) {
	return one[Refund](ctx, db, "RefundByStripe", pgx.NamedArgs{"stripe_refund_id": stripeRefund})
}

// RefundsOfTenant reads a page of a tenant's refunds, of one payment where it is named.
func RefundsOfTenant(ctx context.Context, db DB, tenant id.Tenant, paymentID id.Payment, page Page) ([]Refund, error) {
	return many[Refund](ctx, db, "RefundPage", page.arguments(pgx.NamedArgs{"tenant_id": tenant, "payment_id": optional(paymentID)}))
}

// Refunded is what of a payment was refunded, or is on its way.
func Refunded(ctx context.Context, db DB, tenant id.Tenant, paymentID id.Payment) (money.Micros, error) {
	row, err := one[struct{ RefundedMicros money.Micros }](ctx, db, "RefundedOfPayment", pgx.NamedArgs{"tenant_id": tenant, "payment_id": paymentID})
	return row.RefundedMicros, err
}

// RefundSent writes what a refund is at Stripe.
func RefundSent(ctx context.Context, db DB, r Refund, stripeRefund string) error {
	_, err := execute(ctx, db, "RefundSent", pgx.NamedArgs{"id": r.ID, "tenant_id": r.TenantID, "stripe_refund_id": stripeRefund})
	return err
}

// EndRefund writes how a pending refund ended, with the entry that says so; false when it had ended before.
func EndRefund(ctx context.Context, db DB, r Refund, to payment.RefundState, failure string, entryID int64, at time.Time) (bool, error) {
	changed, err := execute(ctx, db, "RefundEnded", pgx.NamedArgs{
		"id": r.ID, "tenant_id": r.TenantID, "state": to, "failure_reason": failure, "outcome_entry_id": entryID, "ended_at": at,
	})
	return changed == 1, err
}

// ReturnRefund writes that the money of a refund that had succeeded came back.
func ReturnRefund(ctx context.Context, db DB, r Refund, failure string, entryID int64) (bool, error) {
	changed, err := execute(ctx, db, "RefundReturned", pgx.NamedArgs{"id": r.ID, "tenant_id": r.TenantID, "failure_reason": failure, "returned_entry_id": entryID})
	return changed == 1, err
}

// Dispute is a row of disputes.
type Dispute struct {
	ID               id.Dispute
	StripeDisputeID  string
	PaymentID        id.Payment
	TenantID         id.Tenant
	AccountID        id.Account
	Currency         string
	AmountMicros     money.Micros
	Reason           string
	State            payment.DisputeState
	WithdrawnEntryID *int64
	OutcomeEntryID   *int64
	EvidenceDueAt    *time.Time
	CreatedAt        time.Time
	ClosedAt         *time.Time
}

// InsertDispute writes a dispute; false when it is known.
func InsertDispute(ctx context.Context, db DB, d Dispute) (bool, error) {
	changed, err := execute(ctx, db, "DisputeInsert", pgx.NamedArgs{
		"id": d.ID, "stripe_dispute_id": d.StripeDisputeID, "payment_id": d.PaymentID, "tenant_id": d.TenantID, "account_id": d.AccountID,
		"currency": d.Currency, "amount_micros": d.AmountMicros, "reason": d.Reason, "evidence_due_at": d.EvidenceDueAt,
	})
	return changed == 1, err
}

// HoldDispute reads a dispute and holds it until the transaction ends; pgx.ErrNoRows for none.
func HoldDispute(ctx context.Context, db DB, disputeID id.Dispute) (Dispute, error) {
	return one[Dispute](ctx, db, "DisputeHold", pgx.NamedArgs{"id": disputeID})
}

// AllDisputes reads a page of everybody's disputes, in one state where it is named.
func AllDisputes(ctx context.Context, db DB, state payment.DisputeState, page Page) ([]Dispute, error) {
	return many[Dispute](ctx, db, "DisputePage", page.arguments(pgx.NamedArgs{"state": optional(state)}))
}

// Disputed says whether a payment into the account is disputed and undecided.
func Disputed(ctx context.Context, db DB, tenant id.Tenant, account id.Account) (bool, error) {
	row, err := one[struct{ Disputed bool }](ctx, db, "DisputeOpenOfAccount", pgx.NamedArgs{"tenant_id": tenant, "account_id": account})
	return row.Disputed, err
}

// WithdrawDispute writes the entry by which the money of an open dispute was taken.
func WithdrawDispute(ctx context.Context, db DB, d Dispute, entryID int64) (bool, error) {
	changed, err := execute(ctx, db, "DisputeWithdrawn", pgx.NamedArgs{"id": d.ID, "tenant_id": d.TenantID, "withdrawn_entry_id": entryID})
	return changed == 1, err
}

// CloseDispute writes how an open dispute was decided; entryID is nil where nothing had been taken.
func CloseDispute(ctx context.Context, db DB, d Dispute, to payment.DisputeState, entryID *int64, at time.Time) (bool, error) {
	changed, err := execute(ctx, db, "DisputeClosed", pgx.NamedArgs{"id": d.ID, "tenant_id": d.TenantID, "state": to, "outcome_entry_id": entryID, "closed_at": at})
	return changed == 1, err
}
