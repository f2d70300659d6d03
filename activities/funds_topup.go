package activities

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// topUp is what a review found out about the automatic top-up: the payment that waits for the card to be charged, or when to look again.
type topUp struct {
	charge id.Payment
	next   *time.Time
}

// judgeTopUp records an automatic deposit when it is due, under the account's lock: one at a time, never beyond the month's cap, and never
// while something says that it would fail. What the database refuses beyond that is a fault of ours.
func (r *fundsReview) judgeTopUp(ctx context.Context, tx pgx.Tx) error {
	wish, err := queries.GetAutoTopUp(ctx, tx, r.in.TenantID, r.in.AccountID)
	if err != nil || wish == nil || !wish.Enabled {
		return err
	}
	flying, err := queries.FindTopUpInFlight(ctx, tx, r.in.TenantID, r.in.AccountID)
	if err != nil {
		return err
	}
	if flying != nil {
		if flying.State == payment.Requested {
			r.topUp.charge = flying.ID // also for the step itself, run again
		}
		return nil
	}
	card, err := r.chargeable(ctx, tx, *wish)
	if err != nil || card == nil {
		return err
	}
	rule := billing.TopUp{LevelMicros: max(wish.ThresholdMicros, r.ladder.ThresholdMicros), Lead: r.lead}
	if wish.RetryAt != nil {
		rule.NotBefore = *wish.RetryAt
	}
	due, err := rule.Due(r.funds.Funds, r.now)
	if err != nil {
		return fault.Wrap(err, fault.AmountOutOfRange, "What the account's meters cost does not fit the ledger.")
	}
	if due == nil || due.After(r.now) {
		r.topUp.next = due
		return nil
	}
	charged, err := queries.ReadTopUpCharged(ctx, tx, r.in.TenantID, r.in.AccountID)
	if err != nil {
		return err
	}
	if charged.ChargedMicros+wish.AmountMicros > wish.MonthlyCapMicros {
		r.topUp.next = &charged.MonthEndsAt
		return nil
	}
	return r.recordTopUp(ctx, tx, *wish, *card)
}

// chargeable is the card that may be charged; nil where there is none, charges are paused, or a bank decides about an earlier payment.
func (r *fundsReview) chargeable(ctx context.Context, tx pgx.Tx, wish queries.AutoTopUp) (*queries.Card, error) {
	if wish.PausedAt != nil {
		return nil, nil
	}
	disputed, err := queries.Disputed(ctx, tx, r.in.TenantID, r.in.AccountID)
	if err != nil || disputed {
		return nil, err
	}
	return queries.SavedCard(ctx, tx, r.in.TenantID, r.in.AccountID)
}

func (r *fundsReview) recordTopUp(ctx context.Context, tx pgx.Tx, wish queries.AutoTopUp, card queries.Card) error {
	var entropy [16]byte
	_, _ = rand.Read(entropy[:]) // never fails since Go 1.24
	paymentID, expires := id.New[id.Payment](entropy), r.now.Add(r.chargeWithin)
	if _, err := queries.InsertPayment(ctx, tx, queries.Payment{
		ID: paymentID, TenantID: r.in.TenantID, AccountID: r.in.AccountID, Method: queries.PaymentByAutoTopUp, Currency: r.currency,
		AmountMicros: wish.AmountMicros, CardID: &card.ID, CorrelationID: string(paymentID), ExpiresAt: &expires,
	}); err != nil {
		return err
	}
	r.topUp.charge = paymentID
	return queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(r.in.TenantID), Actor: identity.Platform(), Action: "payment.auto_topup", TargetType: "payment", TargetID: string(paymentID),
		Details: map[string]any{
			"account_id": r.in.AccountID, "amount_micros": wish.AmountMicros, "currency": r.currency, "available_micros": r.verdict.AvailableMicros,
			"wanted_by": wish.UserID,
		},
		CorrelationID: string(paymentID),
	})
}
