package activities

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/payment"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// RecordCard writes that somebody wants to save a card, with its audit row. A repeat answers how it stands. Faults: AccountNotFound,
// TenantClosed.
func (p *Payments) RecordCard(ctx context.Context, in workflows.OpenCard) (workflows.CardStanding, error) {
	err := store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
		values, err := policy.ReadForTenant(ctx, tx, in.TenantID)
		if err != nil {
			return err
		}
		if _, err := openAccount(ctx, tx, in.TenantID, in.AccountID); err != nil {
			return err
		}
		expires := milliseconds(p.Now()).Add(values.Seconds(authored.PaymentsCheckoutTTLSeconds)).Truncate(time.Second)
		fresh, err := queries.InsertCard(ctx, tx, queries.Card{
			ID: in.CardID, TenantID: in.TenantID, AccountID: in.AccountID, UserID: in.UserID, CorrelationID: in.CorrelationID, ExpiresAt: &expires,
		})
		if err != nil || !fresh {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(in.TenantID), Actor: in.Actor, Action: "card.create", TargetType: "card", TargetID: string(in.CardID),
			Details: map[string]any{"account_id": in.AccountID}, CorrelationID: in.CorrelationID,
		})
	})
	if err != nil {
		return workflows.CardStanding{}, err
	}
	return p.cardStanding(ctx, in.CardID)
}

// openAccount is an account of the tenant. Faults: AccountNotFound where it is not its own, TenantClosed.
func openAccount(ctx context.Context, tx pgx.Tx, tenant id.Tenant, accountID id.Account) (queries.TenantAccount, error) {
	account, err := queries.GetAccount(ctx, tx, accountID)
	if err != nil {
		return account, orFault(err, fault.AccountNotFound) // a database that is away has not said that there is none
	}
	if account.TenantID != tenant {
		return account, fault.New(fault.AccountNotFound, "")
	}
	status, err := queries.ShareTenant(ctx, tx, tenant)
	if err != nil {
		return account, orFault(err, fault.TenantNotFound)
	}
	if status == queries.TenantClosed {
		return account, fault.New(fault.TenantClosed, "")
	}
	return account, nil
}

// OpenCardPage opens the page on which a card is saved. A repeat finds the same page. Fault: PaymentRefused, which ends the wish.
func (p *Payments) OpenCardPage(ctx context.Context, in workflows.OpenCard) (workflows.CardStanding, error) {
	row, err := queries.GetCard(ctx, p.Pool, in.TenantID, in.CardID)
	if err != nil {
		return workflows.CardStanding{}, orFault(err, fault.CardNotFound)
	}
	if row.State != payment.CardRequested {
		return p.cardStanding(ctx, row.ID)
	}
	customer, err := p.customer(ctx, row.TenantID)
	if err != nil {
		return workflows.CardStanding{}, err
	}
	page, err := p.Stripe.CreateCheckout(ctx, stripe.NewCheckout{
		Key: workflows.CardWorkflowID(row.ID), CustomerID: customer, SuccessURL: in.SuccessURL, CancelURL: in.CancelURL, ExpiresAt: *row.ExpiresAt,
		About: stripe.Metadata{metadataCard: string(row.ID), metadataTenant: string(row.TenantID), metadataAccount: string(row.AccountID)},
	})
	if errors.Is(err, fault.PaymentRefused) {
		return workflows.CardStanding{}, errors.Join(err, queries.ExpireCard(ctx, p.Pool, row))
	}
	if err != nil {
		return workflows.CardStanding{}, err
	}
	if _, err := queries.OpenCard(ctx, p.Pool, row, page.ID, page.URL); err != nil {
		return workflows.CardStanding{}, err
	}
	return p.cardStanding(ctx, row.ID)
}

// cardStanding reads how a card stands; without a state when there is none.
func (p *Payments) cardStanding(ctx context.Context, cardID id.Card) (workflows.CardStanding, error) {
	row, err := queries.GetCard(ctx, p.Pool, "", cardID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.CardStanding{}, nil
	}
	if err != nil {
		return workflows.CardStanding{}, err
	}
	again, err := p.Policy.Int(ctx, authored.PaymentsReconcileSeconds)
	standing := workflows.CardStanding{State: row.State, LookAgainSeconds: again}
	if row.ExpiresAt != nil {
		standing.ExpiresAt = milliseconds(*row.ExpiresAt)
	}
	return standing, err
}

// LookCard asks Stripe how a card stands and makes it so here.
func (p *Payments) LookCard(ctx context.Context, in workflows.CardInput) (workflows.CardStanding, error) {
	row, err := queries.GetCard(ctx, p.Pool, "", in.CardID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.CardStanding{}, nil
	}
	if err == nil {
		err = p.followCard(ctx, row)
	}
	if err == nil {
		err = p.forgetLeaving(ctx, row.AccountID)
	}
	if err != nil {
		return workflows.CardStanding{}, err
	}
	return p.cardStanding(ctx, row.ID)
}

func (p *Payments) followCard(ctx context.Context, row queries.Card) error {
	switch {
	case row.State == payment.CardRequested && row.ExpiresAt != nil && p.Now().After(*row.ExpiresAt):
		return queries.ExpireCard(ctx, p.Pool, row)
	case row.State != payment.CardOpen && row.State != payment.CardExpired, row.CheckoutSessionID == nil:
		return nil
	}
	page, err := p.Stripe.GetCheckout(ctx, *row.CheckoutSessionID)
	switch {
	case err != nil:
		return err
	case page.Complete() && page.Card != nil:
		return store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := queries.LockAccount(ctx, tx, row.TenantID, row.AccountID); err != nil {
				return err
			}
			row, err := queries.HoldCard(ctx, tx, row.ID)
			if err != nil {
				return err
			}
			return p.keepCard(ctx, tx, row, *page.Card)
		})
	case page.Expired():
		return queries.ExpireCard(ctx, p.Pool, row)
	default:
		return nil
	}
}

// cardOfPayment is the card that somebody wanted saved with a deposit, under an id that derives from the payment's.
func cardOfPayment(row queries.Payment) queries.Card {
	_, rest, _ := strings.Cut(string(row.ID), "_")
	return queries.Card{
		ID: id.Card("card_" + rest), TenantID: row.TenantID, AccountID: row.AccountID, UserID: *row.UserID, State: payment.CardRequested,
		CorrelationID: row.CorrelationID,
	}
}

// keepCard makes a card that was saved the one of its account; the one before leaves. That of a closed tenant leaves at once. The account
// is held.
func (p *Payments) keepCard(ctx context.Context, tx pgx.Tx, row queries.Card, saved stripe.Card) error {
	if row.State != payment.CardRequested && row.State != payment.CardOpen && row.State != payment.CardExpired {
		return nil // it was kept before
	}
	status, err := queries.ShareTenant(ctx, tx, row.TenantID)
	if err != nil {
		return err
	}
	at := milliseconds(p.Now())
	row.State, row.SavedAt, row.PaymentMethodID = payment.CardSaved, &at, &saved.PaymentMethodID
	row.Brand, row.Last4, row.ExpMonth, row.ExpYear = saved.Brand, saved.Last4, int(saved.ExpMonth), int(saved.ExpYear)
	if status == queries.TenantClosed {
		row.State, row.Brand, row.Last4, row.ExpMonth, row.ExpYear = payment.CardLeaving, "", "", 0, 0
	} else if _, err := queries.DropCard(ctx, tx, row.TenantID, row.AccountID); err != nil {
		return err
	}
	fresh, err := queries.KeepCard(ctx, tx, row)
	if err != nil || !fresh {
		return err
	}
	return queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(row.TenantID), Actor: identity.Platform(), Action: "card.save", TargetType: "card", TargetID: string(row.ID),
		Details: map[string]any{"account_id": row.AccountID, "saved_by": row.UserID}, CorrelationID: row.CorrelationID,
	})
}

// forgetLeaving has Stripe forget the cards of an account that leave.
func (p *Payments) forgetLeaving(ctx context.Context, account id.Account) error {
	cards, err := queries.LeavingCards(ctx, p.Pool, account, undoneMost)
	if err != nil {
		return err
	}
	for _, card := range cards {
		if err := p.Stripe.DetachCard(ctx, *card.PaymentMethodID); err != nil {
			return err
		}
		if err := queries.ForgetCard(ctx, p.Pool, card, milliseconds(p.Now())); err != nil {
			return err
		}
	}
	return nil
}
