package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// ProviderReconciliation compares payments, refunds and disputes with Stripe's books. Its tools are the database, Stripe and the log.
type ProviderReconciliation struct {
	Pool   *pgxpool.Pool
	Stripe *stripe.Client
	Log    *slog.Logger
}

// Bind registers the step of Reconciliation that asks the payment provider.
func (p *ProviderReconciliation) Bind(registry worker.ActivityRegistry) {
	workflows.StepCheckProvider.Bind(registry, p.Check)
}

// providerRead is one reading of both books.
type providerRead struct {
	*ProviderReconciliation
	// since bounds what is read, before what may be wrong: later than it, somebody may still be at work.
	since, before time.Time
	examined      int64
	found         []reconciliation.Found
	// charged and repaid are what Stripe's books name.
	charged, repaid map[string]bool
	// disputed is what banks hold or have taken back of each payment, in Stripe's units.
	disputed map[string]int64
	// news are Stripe's events since before; nil while nobody needed them.
	news []stripe.Event
}

// Check reads Stripe's books and ours, each held beside the other. Faults of Stripe's are retried.
func (p *ProviderReconciliation) Check(ctx context.Context, in workflows.CheckIn) (workflows.CheckOut, error) {
	out := workflows.CheckOut{Done: true}
	reading := &providerRead{
		ProviderReconciliation: p, since: in.Terms.ProviderSince, before: in.Terms.StartedAt.Add(-in.Terms.Lag()), charged: map[string]bool{}, repaid: map[string]bool{},
		disputed: map[string]int64{},
	}
	// What was found before is looked at again, however old it is.
	oldest, err := queries.OldestFinding(ctx, p.Pool, reconciliation.Provider)
	if err != nil {
		return out, err
	}
	if oldest != nil {
		if again := oldest.Add(in.Terms.ProviderSince.Sub(in.Terms.StartedAt)); again.Before(reading.since) {
			reading.since = again
		}
	}
	for _, part := range []func(context.Context) error{reading.disputesOfStripe, reading.chargesOfStripe, reading.creditsOfOurs, reading.refundsOfStripe, reading.refundsOfOurs} {
		if err := part(ctx); err != nil {
			return out, err
		}
	}
	found, err := uncorrected(ctx, p.Pool, reading.found)
	if err != nil {
		return out, err
	}
	out.Cursor.Examined, out.Cursor.Found = reading.examined, int64(len(found))
	return out, report(ctx, p.Pool, p.Log, in.Terms.RunID, found)
}

// depositKey is the ledger key of a payment that was made.
func depositKey(intent string) string { return "stripe:pi:" + intent }

// nameOf is what Stripe calls a payment that was made.
func nameOf(charge stripe.Charge) string {
	if charge.PaymentIntentID == "" {
		return charge.ID
	}
	return charge.PaymentIntentID
}

func (r *providerRead) chargesOfStripe(ctx context.Context) error {
	return r.Stripe.Charges(ctx, r.since, func(charges []stripe.Charge) error {
		var keys, intents, ids []string
		for _, charge := range charges {
			r.charged[nameOf(charge)] = true
			keys, intents = append(keys, depositKey(nameOf(charge))), append(intents, nameOf(charge))
			if named := charge.Metadata[metadataPayment]; named != "" {
				ids = append(ids, named)
			}
		}
		entries, err := queries.EntriesByKey(ctx, r.Pool, keys)
		if err != nil {
			return err
		}
		payments, err := queries.PaymentsOfIntents(ctx, r.Pool, intents, ids)
		if err != nil {
			return err
		}
		entryIDs := make([]int64, 0, len(entries))
		for _, entry := range entries {
			entryIDs = append(entryIDs, entry.ID)
		}
		corrected, err := queries.CorrectionEntries(ctx, r.Pool, entryIDs)
		if err != nil {
			return err
		}
		for _, charge := range charges {
			r.examined++
			if entry, credited := entries[depositKey(nameOf(charge))]; credited && corrected[entry.ID] {
				continue // what two people saw to is what it was to be
			}
			if err := r.judgeCharge(ctx, charge, entries, payments); err != nil {
				return err
			}
		}
		return nil
	})
}

// judgeCharge holds money that Stripe took beside the entry that credits it.
func (r *providerRead) judgeCharge(ctx context.Context, charge stripe.Charge, entries map[string]queries.KeyedEntry, payments []queries.PaymentToCheck) error {
	found := reconciliation.Found{Subject: nameOf(charge), Detail: map[string]any{
		"charge_id": charge.ID, "amount": charge.Amount, "refunded": charge.Refunded, "disputed": r.disputed[nameOf(charge)], "currency": charge.Currency,
		"paid_at": charge.PaidAt,
	}}
	paid, err := payment.Micros(charge.Currency, charge.Amount)
	if err != nil {
		found.Detail["unusable"] = err.Error()
	}
	entry, credited := entries[depositKey(nameOf(charge))]
	switch {
	case credited && entry.AmountMicros == paid:
		return nil
	case credited:
		found.Kind, found.Sentence = reconciliation.PaymentDiffers, fmt.Sprintf("Stripe took %d micros of %s, and %d are credited.", paid, nameOf(charge), entry.AmountMicros)
		found.Detail["entry_id"] = entry.ID
		accounts, err := queries.KnownAccounts(ctx, r.Pool, []id.Account{entry.CreditAccountID})
		if err != nil {
			return err
		}
		if account := accounts[entry.CreditAccountID]; account.Currency == charge.Currency {
			found.AccountID, found.Currency, found.AmountMicros, found.Manner = account.ID, account.Currency, paid-entry.AmountMicros, reconciliation.Adjust
		}
	case charge.PaidAt.After(r.before):
		return nil // whoever credits it may be at work
	default:
		// What went back to whoever paid it is nobody's.
		left := charge.Amount - charge.Refunded - r.disputed[nameOf(charge)]
		if left <= 0 {
			return nil
		}
		if paid, err = payment.Micros(charge.Currency, left); err != nil {
			found.Detail["unusable"] = err.Error()
		}
		found.Kind, found.Sentence = reconciliation.PaymentUnmatched, fmt.Sprintf("Stripe has %d micros of %s, and nobody is credited with them.", paid, nameOf(charge))
		account, err := r.whose(ctx, charge, payments, &found)
		if err != nil {
			return err
		}
		if account.Currency == charge.Currency && paid > 0 && charge.PaymentIntentID != "" {
			found.AccountID, found.Currency, found.AmountMicros, found.Manner = account.ID, account.Currency, paid, reconciliation.Deposit
		}
	}
	r.found = append(r.found, found)
	return nil
}

// whose finds the account that a payment is meant for: that of our payment, or the one that it names at Stripe.
func (r *providerRead) whose(ctx context.Context, charge stripe.Charge, payments []queries.PaymentToCheck, found *reconciliation.Found) (queries.KnownAccount, error) {
	named := id.Account(charge.Metadata[metadataAccount])
	for _, known := range payments {
		if known.PaymentIntentID != nil && *known.PaymentIntentID == charge.PaymentIntentID || string(known.ID) == charge.Metadata[metadataPayment] {
			found.Detail["payment_id"], found.Detail["payment_state"] = known.ID, known.State
			named = known.AccountID
		}
	}
	accounts, err := queries.KnownAccounts(ctx, r.Pool, []id.Account{named})
	account := accounts[named]
	if account.TenantID == "" {
		return queries.KnownAccount{}, err // a platform's account is nobody's deposit
	}
	return account, err
}

// creditsOfOurs asks Stripe for the payments that we credited and its list did not name.
func (r *providerRead) creditsOfOurs(ctx context.Context) error {
	for after := id.Payment(""); ; {
		rows, err := queries.CreditedPayments(ctx, r.Pool, r.since, r.before, after, checkRows)
		if err != nil {
			return err
		}
		for _, row := range rows {
			after = row.ID
			r.examined++
			if row.PaymentIntentID == nil || r.charged[*row.PaymentIntentID] {
				continue
			}
			intent, err := r.Stripe.GetIntent(ctx, *row.PaymentIntentID)
			if err != nil && !errors.Is(err, fault.PaymentRefused) {
				return err
			}
			if err == nil && intent.Paid() {
				continue
			}
			r.found = append(r.found, reconciliation.Found{
				Kind: reconciliation.PaymentUnfounded, Subject: *row.PaymentIntentID, AccountID: row.AccountID, Currency: row.Currency,
				AmountMicros: -row.AmountMicros, Manner: reconciliation.Adjust,
				Sentence: fmt.Sprintf("%s is credited with %d micros, and Stripe knows of no such payment.", row.ID, row.AmountMicros),
				Detail:   map[string]any{"payment_id": row.ID, "status": intent.Status},
			})
		}
		if len(rows) < checkRows {
			return nil
		}
	}
}

func (r *providerRead) refundsOfStripe(ctx context.Context) error {
	return r.Stripe.Refunds(ctx, r.since, func(refunds []stripe.Refund) error {
		var names, ids, intents []string
		for _, refund := range refunds {
			r.repaid[refund.ID] = true
			names, intents = append(names, refund.ID), append(intents, refund.PaymentIntentID)
			if named := refund.Metadata[metadataRefund]; named != "" {
				ids = append(ids, named)
			}
		}
		known, err := queries.RefundsOfStripe(ctx, r.Pool, names, ids)
		if err != nil {
			return err
		}
		payments, err := queries.PaymentsOfIntents(ctx, r.Pool, intents, nil)
		if err != nil {
			return err
		}
		for _, refund := range refunds {
			r.examined++
			if refund.CreatedAt.Before(r.before) && refund.Status != "failed" && refund.Status != "canceled" {
				r.judgeRefund(refund, known, payments)
			}
		}
		return nil
	})
}

// judgeRefund holds money that Stripe sent back beside the refund that took it out of a balance.
func (r *providerRead) judgeRefund(refund stripe.Refund, known []queries.RefundToCheck, payments []queries.PaymentToCheck) {
	found := reconciliation.Found{Subject: refund.ID, Detail: map[string]any{
		"payment_intent_id": refund.PaymentIntentID, "amount": refund.Amount, "currency": refund.Currency, "status": refund.Status,
	}}
	repaid, err := payment.Micros(refund.Currency, refund.Amount)
	if err != nil {
		found.Detail["unusable"] = err.Error()
	}
	owe := func(account id.Account, currency string, owed money.Micros) {
		if currency == refund.Currency && owed != 0 {
			found.AccountID, found.Currency, found.AmountMicros, found.Manner = account, currency, owed, reconciliation.Adjust
		}
	}
	for _, row := range known {
		if (row.StripeRefundID == nil || *row.StripeRefundID != refund.ID) && string(row.ID) != refund.Metadata[metadataRefund] {
			continue
		}
		taken := row.AmountMicros
		if row.State == payment.RefundFailed {
			taken = 0 // it is in the balance again
		}
		if taken == repaid {
			return
		}
		found.Kind = reconciliation.RefundDiffers
		found.Sentence = fmt.Sprintf("Stripe paid %d micros back by %s, and %d were taken out of the balance.", repaid, refund.ID, taken)
		found.Detail["refund_id"], found.Detail["state"] = row.ID, row.State
		owe(row.AccountID, row.Currency, taken-repaid)
		r.found = append(r.found, found)
		return
	}
	found.Kind, found.Sentence = reconciliation.RefundUnmatched, fmt.Sprintf("Stripe paid %d micros back by %s, which nobody asked for here.", repaid, refund.ID)
	for _, paid := range payments {
		if paid.PaymentIntentID != nil && *paid.PaymentIntentID == refund.PaymentIntentID && paid.State == payment.Credited {
			found.Detail["payment_id"] = paid.ID
			owe(paid.AccountID, paid.Currency, -repaid)
		}
	}
	r.found = append(r.found, found)
}

// refundsOfOurs asks Stripe for the refunds that we sent and its list did not name.
func (r *providerRead) refundsOfOurs(ctx context.Context) error {
	for after := id.Refund(""); ; {
		rows, err := queries.SentRefunds(ctx, r.Pool, r.since, r.before, after, checkRows)
		if err != nil {
			return err
		}
		for _, row := range rows {
			after = row.ID
			r.examined++
			if r.repaid[*row.StripeRefundID] {
				continue
			}
			if _, err := r.Stripe.GetRefund(ctx, *row.StripeRefundID); err == nil {
				continue
			} else if !errors.Is(err, fault.PaymentRefused) {
				return err
			}
			r.found = append(r.found, reconciliation.Found{
				Kind: reconciliation.RefundUnfounded, Subject: string(row.ID), AccountID: row.AccountID, Currency: row.Currency, AmountMicros: row.AmountMicros, Manner: reconciliation.Adjust,
				Sentence: fmt.Sprintf("%s took %d micros out of the balance, and Stripe knows of no such refund.", row.ID, row.AmountMicros),
				Detail:   map[string]any{"stripe_refund_id": row.StripeRefundID, "state": row.State},
			})
		}
		if len(rows) < checkRows {
			return nil
		}
	}
}

func (r *providerRead) disputesOfStripe(ctx context.Context) error {
	return r.Stripe.Disputes(ctx, r.since, func(disputes []stripe.Dispute) error {
		names := make([]string, len(disputes))
		for i, dispute := range disputes {
			names[i] = dispute.ID
		}
		rows, err := queries.DisputesOfStripe(ctx, r.Pool, names)
		if err != nil {
			return err
		}
		known := map[string]queries.DisputeToCheck{}
		for _, row := range rows {
			known[row.StripeDisputeID] = row
		}
		for _, dispute := range disputes {
			r.examined++
			if !dispute.Inquiry() && !dispute.Won() {
				r.disputed[dispute.PaymentIntentID] += dispute.Amount
			}
			row, here := known[dispute.ID]
			taken, _ := payment.Micros(dispute.Currency, dispute.Amount) // an amount that is not ours differs
			found := reconciliation.Found{Subject: dispute.ID, Detail: map[string]any{
				"payment_intent_id": dispute.PaymentIntentID, "amount": dispute.Amount, "currency": dispute.Currency, "status": dispute.Status,
			}}
			switch {
			case !dispute.CreatedAt.Before(r.before):
				continue
			case here && row.AmountMicros == taken && row.Currency == dispute.Currency:
				state, differs, err := r.decidedOtherwise(ctx, row, dispute)
				if err != nil {
					return err
				}
				if !differs {
					continue
				}
				found.Kind, found.Sentence = reconciliation.DisputeDiffers, fmt.Sprintf("The dispute %s is %s at Stripe, and stands here as %s.", dispute.ID, state, row.State)
			case here:
				found.Kind, found.Sentence = reconciliation.DisputeDiffers, fmt.Sprintf("The dispute %s is of %d micros, and stands here with %d.", dispute.ID, taken, row.AmountMicros)
			default:
				found.Kind, found.Sentence = reconciliation.DisputeUnmatched, fmt.Sprintf("The dispute %s about %d micros is not known here.", dispute.ID, taken)
			}
			r.found = append(r.found, found)
		}
		return nil
	})
}

// decidedOtherwise says that a dispute was decided at Stripe, a while ago, and here otherwise or not at all. A suspect is asked for by its id,
// and nothing is wrong yet while the news of its decision may be on the way.
func (r *providerRead) decidedOtherwise(ctx context.Context, row queries.DisputeToCheck, listed stripe.Dispute) (payment.DisputeState, bool, error) {
	if listed.State() == row.State {
		return row.State, false, nil
	}
	told, err := r.Stripe.GetDispute(ctx, listed.ID)
	if err != nil || told.State() == row.State {
		return row.State, false, err
	}
	if r.news == nil {
		if r.news, err = r.Stripe.EventsSince(ctx, r.before); err != nil {
			return row.State, false, err
		}
	}
	for _, event := range r.news {
		if event.ObjectID == listed.ID {
			return row.State, false, nil
		}
	}
	rows, err := queries.DisputesOfStripe(ctx, r.Pool, []string{listed.ID})
	return told.State(), len(rows) == 1 && rows[0].State != told.State(), err
}
