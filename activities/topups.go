package activities

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// What an automatic top-up comes to without Stripe having said so.
const (
	reasonCardRemoved    = "card_removed"
	reasonNeverCharged   = "never_charged"
	reasonAuthentication = "authentication_required"
)

// Charge charges the saved card for an automatic top-up, once. What it comes to is posted by a look alone, as of every payment.
func (p *Payments) Charge(ctx context.Context, in workflows.PaymentInput) (workflows.PaymentStanding, error) {
	row, err := queries.GetPayment(ctx, p.Pool, "", in.PaymentID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.PaymentStanding{}, nil
	}
	if err == nil && row.Method == queries.PaymentByAutoTopUp && row.State == payment.Requested {
		err = p.charge(ctx, row)
	}
	if err != nil {
		return workflows.PaymentStanding{}, err
	}
	return p.standing(ctx, row.ID)
}

func (p *Payments) charge(ctx context.Context, row queries.Payment) error {
	customer, err := queries.StripeCustomer(ctx, p.Pool, row.TenantID)
	if err != nil {
		return err
	}
	// An answer may have been lost, and longer ago than Stripe keeps an idempotency key.
	found, err := p.attempted(ctx, row, customer)
	if err != nil {
		return err
	}
	if found != nil {
		return p.noteAttempt(ctx, row, *found)
	}
	card, err := queries.GetCard(ctx, p.Pool, row.TenantID, *row.CardID)
	switch {
	case err != nil:
		return err
	case customer == "" || card.State != payment.CardSaved:
		return p.end(ctx, row, payment.Failed, reasonCardRemoved, "")
	case p.expired(row):
		return p.end(ctx, row, payment.Expired, reasonNeverCharged, "")
	}
	units, err := payment.Units(row.Currency, row.AmountMicros)
	if err != nil {
		return p.end(ctx, row, payment.Failed, string(fault.CurrencyUnsupported), "")
	}
	attempt, err := p.Stripe.ChargeCard(ctx, workflows.PaymentWorkflowID(row.ID), customer, *card.PaymentMethodID, row.Currency, units, about(row))
	if errors.Is(err, fault.PaymentRefused) {
		return p.giveUp(ctx, row, attempt, reasonOf(err))
	}
	if err != nil {
		return err
	}
	return p.noteAttempt(ctx, row, attempt)
}

// attempted is the charge that was made of a payment already; nil for none.
func (p *Payments) attempted(ctx context.Context, row queries.Payment, customer string) (*stripe.Intent, error) {
	if customer == "" {
		return nil, nil
	}
	return p.Stripe.FindIntent(ctx, customer, row.CreatedAt.Add(-sweepOverlap), metadataPayment, string(row.ID))
}

// noteAttempt writes down what Stripe calls the charge, or gives it up where a bank wants something that nobody is there to give.
func (p *Payments) noteAttempt(ctx context.Context, row queries.Payment, attempt stripe.Intent) error {
	if !attempt.Paid() && !attempt.Processing() {
		return p.giveUp(ctx, row, attempt, attempt.FailureCode)
	}
	_, err := queries.MovePayment(ctx, p.Pool, row, payment.Processing, "", attempt.ID)
	return err
}

// giveUp ends a charge that came to nothing, at Stripe first, so that it is not paid later after all.
func (p *Payments) giveUp(ctx context.Context, row queries.Payment, attempt stripe.Intent, reason string) error {
	if attempt.ID != "" && attempt.Status != stripe.IntentCanceled {
		if err := p.Stripe.CancelIntent(ctx, attempt.ID); errors.Is(err, fault.PaymentRefused) {
			return fmt.Errorf("the charge of %s changed meanwhile: %w", row.ID, fault.Wrap(err, fault.UpstreamError, ""))
		} else if err != nil {
			return err
		}
	}
	if reason == "" {
		reason = reasonAuthentication
	}
	return p.end(ctx, row, payment.Failed, reason, attempt.ID)
}

// followCharge makes what Stripe says of a charge true here.
func (p *Payments) followCharge(ctx context.Context, row queries.Payment) error {
	attempt, err := p.attemptOf(ctx, row)
	switch {
	case err != nil:
		return err
	case attempt == nil && p.expired(row):
		return p.end(ctx, row, payment.Expired, reasonNeverCharged, "")
	case attempt == nil:
		return nil
	case attempt.Paid():
		return p.credit(ctx, row, attempt.ID, attempt.Currency, attempt.AmountReceived, func(ctx context.Context, tx pgx.Tx) error {
			return queries.NoteTopUpSuccess(ctx, tx, row.TenantID, row.AccountID)
		})
	case row.State.Ended():
		return nil
	default:
		return p.noteAttempt(ctx, row, *attempt)
	}
}

func (p *Payments) attemptOf(ctx context.Context, row queries.Payment) (*stripe.Intent, error) {
	if row.PaymentIntentID != nil {
		attempt, err := p.Stripe.GetIntent(ctx, *row.PaymentIntentID)
		return &attempt, err
	}
	customer, err := queries.StripeCustomer(ctx, p.Pool, row.TenantID)
	if err != nil {
		return nil, err
	}
	return p.attempted(ctx, row, customer)
}

type autoTopUpPaused struct {
	TenantID     id.Tenant    `json:"tenant_id"`
	AccountID    id.Account   `json:"account_id"`
	PaymentID    id.Payment   `json:"payment_id"`
	Currency     string       `json:"currency"`
	AmountMicros money.Micros `json:"amount_micros"`
	Failures     int64        `json:"failures"`
	Reason       string       `json:"reason"`
	Message      string       `json:"message"`
}

// noteFailedTopUp counts a charge that came to nothing, and pauses the automatic top-up after as many as policy allows, at once where money
// came that fits nothing. The account is held.
func (p *Payments) noteFailedTopUp(ctx context.Context, tx pgx.Tx, row queries.Payment, to payment.State, reason string) error {
	values, err := policy.ReadForTenant(ctx, tx, row.TenantID)
	if err != nil {
		return err
	}
	before, err := queries.GetAutoTopUp(ctx, tx, row.TenantID, row.AccountID)
	if err != nil || before == nil {
		return err
	}
	at := milliseconds(p.Now())
	failures, paused, err := queries.NoteTopUpFailure(ctx, tx, queries.TopUpFailure{
		TenantID: row.TenantID, AccountID: row.AccountID, At: at, RetryAt: at.Add(values.Seconds(authored.PaymentsAutoTopupRetrySeconds)), Reason: reason,
		MostFailures: values.Int(authored.PaymentsAutoTopupFailures), PauseNow: to == payment.Held,
	})
	if err != nil || paused == nil || before.PausedAt != nil {
		return err
	}
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: event.PaymentsAutoTopUpPaused, Fact: workflows.PaymentWorkflowID(row.ID) + "/paused", AggregateID: string(row.AccountID), OccurredAt: at,
		CorrelationID: row.CorrelationID, Payload: autoTopUpPaused{
			TenantID: row.TenantID, AccountID: row.AccountID, PaymentID: row.ID, Currency: row.Currency, AmountMicros: row.AmountMicros, Failures: failures,
			Reason: reason, Message: fmt.Sprintf("The saved card could not be charged %s (%s). It is not charged by itself any more until the automatic top-up is "+
				"set again.", amount(row.AmountMicros, row.Currency), reason),
		},
	})
}
