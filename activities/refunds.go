package activities

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// AuthoriseRefund decides under the account's lock and takes the amount out of the balance. A repeat answers as before. Faults:
// PaymentNotFound, PaymentNotCredited, RefundWindowExceeded, PaymentDisputed, RefundExceedsPayment, InsufficientBalance, CurrencyUnsupported,
// TenantClosed.
func (p *Payments) AuthoriseRefund(ctx context.Context, in workflows.RefundRequest) (moved workflows.Moved, err error) {
	row, err := queries.GetPayment(ctx, p.Pool, in.TenantID, in.PaymentID)
	if err != nil {
		return moved, orFault(err, fault.PaymentNotFound)
	}
	if err := p.Ledger.knowProvider(ctx, row.Currency); err != nil {
		return moved, err
	}
	err = store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
		moved = workflows.Moved{Changed: true, AccountID: row.AccountID, CorrelationID: in.CorrelationID}
		if _, err := queries.LockAccount(ctx, tx, row.TenantID, row.AccountID); err != nil {
			return err
		}
		switch _, err := queries.GetRefund(ctx, tx, in.TenantID, in.RefundID); {
		case err == nil:
			return nil // the step itself, run again
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		row, err := queries.HoldPayment(ctx, tx, row.ID)
		if err != nil {
			return err
		}
		if err := p.refundable(ctx, tx, row, in.AmountMicros); err != nil {
			return err
		}
		return p.takeOut(ctx, tx, row, in)
	})
	for constraint, code := range map[string]fault.Code{
		queries.ConstraintAccountOpen: fault.TenantClosed, queries.ConstraintRefundCovered: fault.InsufficientBalance,
		queries.ConstraintRefundWithinPayment: fault.RefundExceedsPayment, queries.ConstraintRefundUndisputed: fault.PaymentDisputed,
	} {
		if queries.Violates(err, constraint) {
			err = fault.New(code, "")
		}
	}
	return moved, err
}

// refundable refuses what may not be paid back. The account and the payment are held.
func (p *Payments) refundable(ctx context.Context, tx pgx.Tx, row queries.Payment, amount money.Micros) error {
	if row.State != payment.Credited {
		return fault.New(fault.PaymentNotCredited, "").With(map[string]any{"state": row.State})
	}
	if _, err := payment.Units(row.Currency, amount); err != nil || amount <= 0 {
		return fault.Wrap(err, fault.CurrencyUnsupported, "")
	}
	values, err := policy.ReadForTenant(ctx, tx, row.TenantID)
	if err != nil {
		return err
	}
	days := values.Int(authored.AllocationRefundWindowDays)
	if p.Now().After(row.CreditedAt.Add(time.Duration(days) * 24 * time.Hour)) {
		return fault.New(fault.RefundWindowExceeded, "").With(map[string]any{"refund_window_days": days, "credited_at": row.CreditedAt.UTC().Format(time.RFC3339)})
	}
	disputed, err := queries.Disputed(ctx, tx, row.TenantID, row.AccountID)
	if err != nil {
		return err
	}
	if disputed {
		return fault.New(fault.PaymentDisputed, "")
	}
	refunded, err := queries.Refunded(ctx, tx, row.TenantID, row.ID)
	if err != nil {
		return err
	}
	if refundable := row.AmountMicros - refunded; amount > refundable {
		return fault.New(fault.RefundExceedsPayment, "").With(map[string]any{"refundable_micros": refundable, "requested_micros": amount, "currency": row.Currency})
	}
	// In this order: a window posted between the two counts twice, which may refuse at the edge and never pays out too much.
	accrued, err := p.Ledger.accrued(ctx, tx, row.TenantID, row.AccountID)
	if err != nil {
		return err
	}
	balance, err := queries.Balance(ctx, tx, row.AccountID)
	if err != nil {
		return err
	}
	if available := balance - accrued; amount > available {
		return fault.New(fault.InsufficientBalance, "The balance less what has accrued does not cover this refund.").With(map[string]any{
			"available_micros": available, "requested_micros": amount, "shortfall_micros": amount - available, "currency": row.Currency,
		})
	}
	return nil
}

// takeOut posts the amount to the pending account, with the refund, its audit row and nothing at Stripe yet.
func (p *Payments) takeOut(ctx context.Context, tx pgx.Tx, row queries.Payment, in workflows.RefundRequest) error {
	pending, err := p.Ledger.platformAccount(ctx, queries.AccountPlatformRefundsPending, row.Currency)
	if err != nil {
		return err
	}
	entryID, _, err := p.Ledger.transfer(ctx, tx, queries.Entry{
		Kind: "refund", DebitAccountID: row.AccountID, CreditAccountID: pending, Currency: row.Currency, AmountMicros: in.AmountMicros,
		IdempotencyKey: workflows.RefundWorkflowID(in.RefundID),
	})
	if err != nil {
		return err
	}
	if err := queries.InsertRefund(ctx, tx, queries.Refund{
		ID: in.RefundID, PaymentID: row.ID, TenantID: row.TenantID, AccountID: row.AccountID, UserID: in.UserID, Currency: row.Currency,
		AmountMicros: in.AmountMicros, Reason: in.Reason, EntryID: entryID, CorrelationID: in.CorrelationID,
	}); err != nil {
		return err
	}
	return queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(row.TenantID), Actor: in.Actor, Action: "refund.create", TargetType: "refund", TargetID: string(in.RefundID),
		Details: map[string]any{
			"payment_id": row.ID, "account_id": row.AccountID, "amount_micros": in.AmountMicros, "currency": row.Currency, "reason": in.Reason, "entry_id": entryID,
		},
		CorrelationID: in.CorrelationID,
	})
}

// SendRefund has Stripe pay a refund back, once, or asks what became of it.
func (p *Payments) SendRefund(ctx context.Context, in workflows.RefundRef) (workflows.RefundNews, error) {
	row, err := queries.GetRefund(ctx, p.Pool, "", in.RefundID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.RefundNews{}, nil
	}
	if err != nil {
		return workflows.RefundNews{}, err
	}
	again, err := p.Policy.Int(ctx, authored.PaymentsReconcileSeconds)
	if err != nil {
		return workflows.RefundNews{}, err
	}
	news := workflows.RefundNews{Known: true, State: row.State, FailureReason: row.FailureReason, LookAgainSeconds: again}
	if row.State == payment.RefundFailed {
		return news, nil
	}
	found, err := p.refundAtStripe(ctx, row)
	switch {
	case errors.Is(err, fault.PaymentRefused) && row.StripeRefundID == nil:
		news.State, news.FailureReason = payment.RefundFailed, reasonOf(err)
		p.Log.WarnContext(ctx, "a refund was refused", "refund_id", string(row.ID), "error", err)
		return news, nil
	case err != nil:
		return workflows.RefundNews{}, err
	}
	switch found.Status {
	case "succeeded":
		news.State = payment.RefundSucceeded
	case "failed", "canceled":
		news.State, news.FailureReason = payment.RefundFailed, found.FailureReason
	default:
		news.State = payment.RefundPending
	}
	return news, nil
}

func (p *Payments) refundAtStripe(ctx context.Context, row queries.Refund) (stripe.Refund, error) {
	if row.StripeRefundID != nil {
		return p.Stripe.GetRefund(ctx, *row.StripeRefundID)
	}
	paid, err := queries.GetPayment(ctx, p.Pool, row.TenantID, row.PaymentID)
	if err != nil {
		return stripe.Refund{}, err
	}
	standing, err := p.Stripe.FindRefund(ctx, *paid.PaymentIntentID, metadataRefund, string(row.ID))
	if err != nil {
		return stripe.Refund{}, err
	}
	if standing == nil {
		units, err := payment.Units(row.Currency, row.AmountMicros)
		if err != nil {
			return stripe.Refund{}, err
		}
		made, err := p.Stripe.CreateRefund(ctx, workflows.RefundWorkflowID(row.ID), *paid.PaymentIntentID, units, stripe.Metadata{
			metadataRefund: string(row.ID), metadataPayment: string(row.PaymentID), metadataTenant: string(row.TenantID), metadataAccount: string(row.AccountID),
		})
		if err != nil {
			return stripe.Refund{}, err
		}
		standing = &made
	}
	return *standing, queries.RefundSent(ctx, p.Pool, row, standing.ID)
}

// SettleRefund posts what a refund came to: the pending account gives it to Stripe, or back to the balance. One that had succeeded and came
// back is in the balance again, too.
func (p *Payments) SettleRefund(ctx context.Context, in workflows.SettleRefund) (moved workflows.Moved, err error) {
	row, err := queries.GetRefund(ctx, p.Pool, "", in.RefundID)
	if err != nil {
		return moved, orFault(err, fault.RefundNotFound)
	}
	if err := p.Ledger.knowProvider(ctx, row.Currency); err != nil {
		return moved, err
	}
	err = store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
		// One that came back is in the balance again, by this step or by it as it ran before.
		moved = workflows.Moved{Changed: in.State == payment.RefundFailed, AccountID: row.AccountID, CorrelationID: row.CorrelationID}
		if _, err := queries.LockAccount(ctx, tx, row.TenantID, row.AccountID); err != nil {
			return err
		}
		row, err := queries.HoldRefund(ctx, tx, row.ID)
		if err != nil || in.State == payment.RefundPending {
			return err
		}
		switch {
		case row.State == payment.RefundPending && in.State == payment.RefundSucceeded:
			return p.settleRefund(ctx, tx, row)
		case row.State != payment.RefundFailed && in.State == payment.RefundFailed:
			return p.reverseRefund(ctx, tx, row, in.FailureReason)
		default:
			return nil // it stands so already
		}
	})
	return moved, err
}

func (p *Payments) settleRefund(ctx context.Context, tx pgx.Tx, row queries.Refund) error {
	pending, clearing, err := p.refundAccounts(ctx, row.Currency)
	if err != nil {
		return err
	}
	entryID, _, err := p.Ledger.transfer(ctx, tx, queries.Entry{
		Kind: "refund_settled", DebitAccountID: pending, CreditAccountID: clearing, Currency: row.Currency, AmountMicros: row.AmountMicros,
		IdempotencyKey: workflows.RefundWorkflowID(row.ID) + "/outcome",
	})
	if err != nil {
		return err
	}
	if done, err := queries.EndRefund(ctx, tx, row, payment.RefundSucceeded, "", entryID, milliseconds(p.Now())); err != nil || !done {
		return errors.Join(err, notWritten(done, "the end of "+string(row.ID)))
	}
	return p.announceRefund(ctx, tx, event.PaymentsRefundSettled, row, "", entryID)
}

// reverseRefund puts the amount into the balance again: out of the pending account, or of what Stripe holds when it had left that.
func (p *Payments) reverseRefund(ctx context.Context, tx pgx.Tx, row queries.Refund, reason string) error {
	pending, clearing, err := p.refundAccounts(ctx, row.Currency)
	if err != nil {
		return err
	}
	returned := row.State == payment.RefundSucceeded
	entry := queries.Entry{
		Kind: "refund_reversed", DebitAccountID: pending, CreditAccountID: row.AccountID, Currency: row.Currency, AmountMicros: row.AmountMicros,
		IdempotencyKey: workflows.RefundWorkflowID(row.ID) + "/outcome", ReversesID: &row.EntryID,
	}
	if returned {
		entry.DebitAccountID, entry.IdempotencyKey = clearing, workflows.RefundWorkflowID(row.ID)+"/returned"
	}
	entryID, _, err := p.Ledger.transfer(ctx, tx, entry)
	if err != nil {
		return err
	}
	var done bool
	if returned {
		done, err = queries.ReturnRefund(ctx, tx, row, reason, entryID)
	} else {
		done, err = queries.EndRefund(ctx, tx, row, payment.RefundFailed, reason, entryID, milliseconds(p.Now()))
	}
	if err != nil || !done {
		return errors.Join(err, notWritten(done, "the failure of "+string(row.ID)))
	}
	return p.announceRefund(ctx, tx, event.PaymentsRefundFailed, row, reason, entryID)
}

func (p *Payments) refundAccounts(ctx context.Context, currency string) (pending, clearing id.Account, err error) {
	if pending, err = p.Ledger.platformAccount(ctx, queries.AccountPlatformRefundsPending, currency); err != nil {
		return "", "", err
	}
	clearing, err = p.Ledger.platformAccount(ctx, queries.AccountPlatformStripeClearing, currency)
	return pending, clearing, err
}

type refundEvent struct {
	RefundID     id.Refund    `json:"refund_id"`
	PaymentID    id.Payment   `json:"payment_id"`
	TenantID     id.Tenant    `json:"tenant_id"`
	AccountID    id.Account   `json:"account_id"`
	UserID       id.User      `json:"user_id"`
	Currency     string       `json:"currency"`
	AmountMicros money.Micros `json:"amount_micros"`
	Reason       string       `json:"reason"`
	EntryIDs     []int64      `json:"entry_ids"`
}

func (p *Payments) announceRefund(ctx context.Context, tx pgx.Tx, kind event.Type, row queries.Refund, reason string, entryID int64) error {
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: kind, Fact: workflows.RefundWorkflowID(row.ID), AggregateID: string(row.AccountID), OccurredAt: milliseconds(p.Now()), CorrelationID: row.CorrelationID,
		Payload: refundEvent{
			RefundID: row.ID, PaymentID: row.PaymentID, TenantID: row.TenantID, AccountID: row.AccountID, UserID: row.UserID, Currency: row.Currency,
			AmountMicros: row.AmountMicros, Reason: reason, EntryIDs: []int64{entryID},
		},
	})
}
