package activities

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Payments moves money from and to Stripe. Its tools are the database, the ledger's writer, Stripe, the policy, the clock and the log.
type Payments struct {
	Pool   *pgxpool.Pool
	Ledger *Ledger
	Stripe *stripe.Client
	Policy IntPolicy
	Now    func() time.Time
	Log    *slog.Logger
}

// Bind registers the steps of Payment, Refund, Dispute and Card.
func (p *Payments) Bind(registry worker.ActivityRegistry) {
	workflows.StepRecordPayment.Bind(registry, p.Record)
	workflows.StepOpenCheckout.Bind(registry, p.OpenCheckout)
	workflows.StepChargeCard.Bind(registry, p.Charge)
	workflows.StepLookPayment.Bind(registry, p.Look)
	workflows.StepAuthoriseRefund.Bind(registry, p.AuthoriseRefund)
	workflows.StepSendRefund.Bind(registry, p.SendRefund)
	workflows.StepSettleRefund.Bind(registry, p.SettleRefund)
	workflows.StepLookDispute.Bind(registry, p.LookDispute)
	workflows.StepRecordCard.Bind(registry, p.RecordCard)
	workflows.StepOpenCardPage.Bind(registry, p.OpenCardPage)
	workflows.StepLookCard.Bind(registry, p.LookCard)
}

// What our objects are called in Stripe's metadata.
const (
	metadataPayment = "payment_id"
	metadataRefund  = "refund_id"
	metadataTenant  = "tenant_id"
	metadataAccount = "account_id"
	metadataCard    = "card_id"
)

// product is what a customer reads on Stripe's page and on receipts.
const product = "GPUaaS balance"

// Record writes a payment that is asked for, with its audit row. A repeat answers how it stands. Faults: AccountNotFound, CurrencyMismatch,
// CurrencyUnsupported, DepositOutOfRange, TenantClosed.
func (p *Payments) Record(ctx context.Context, in workflows.OpenPayment) (workflows.PaymentStanding, error) {
	// What could be paid and not posted is refused before anybody pays it.
	if err := p.Ledger.knowProvider(ctx, in.Currency); err != nil {
		return workflows.PaymentStanding{}, err
	}
	err := store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
		values, err := policy.ReadForTenant(ctx, tx, in.TenantID)
		if err != nil {
			return err
		}
		if err := p.acceptable(ctx, tx, in, values); err != nil {
			return err
		}
		expires := milliseconds(p.Now()).Add(values.Seconds(authored.PaymentsCheckoutTTLSeconds)).Truncate(time.Second)
		fresh, err := queries.InsertPayment(ctx, tx, queries.Payment{
			ID: in.PaymentID, TenantID: in.TenantID, AccountID: in.AccountID, UserID: &in.UserID, Method: queries.PaymentByCheckout, Currency: in.Currency,
			AmountMicros: in.AmountMicros, SaveCard: in.SaveCard, CorrelationID: in.CorrelationID, ExpiresAt: &expires,
		})
		if err != nil || !fresh {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(in.TenantID), Actor: in.Actor, Action: "payment.create", TargetType: "payment", TargetID: string(in.PaymentID),
			Details: map[string]any{"account_id": in.AccountID, "amount_micros": in.AmountMicros, "currency": in.Currency}, CorrelationID: in.CorrelationID,
		})
	})
	if err != nil {
		return workflows.PaymentStanding{}, err
	}
	return p.standing(ctx, in.PaymentID)
}

// acceptable refuses a deposit that cannot be taken.
func (p *Payments) acceptable(ctx context.Context, tx pgx.Tx, in workflows.OpenPayment, values policy.Values) error {
	account, err := openAccount(ctx, tx, in.TenantID, in.AccountID)
	if err != nil {
		return err
	}
	if account.Currency != in.Currency {
		return fault.Newf(fault.CurrencyMismatch, "The account is kept in %s.", account.Currency)
	}
	if _, err := payment.Units(in.Currency, in.AmountMicros); err != nil {
		return fault.Wrap(err, fault.CurrencyUnsupported, "")
	}
	least, most := values.Int(authored.BillingMinimumDepositMinor), values.Int(authored.BillingMaximumDepositMinor)
	if minor := in.AmountMicros.Minor(); minor < least || minor > most {
		return fault.New(fault.DepositOutOfRange, "").With(map[string]any{"minimum_minor": least, "maximum_minor": most, "currency": in.Currency})
	}
	return nil
}

// OpenCheckout opens the page on which a payment is made. A repeat finds the same page. Fault: PaymentRefused, which ends the payment.
func (p *Payments) OpenCheckout(ctx context.Context, in workflows.OpenPayment) (workflows.PaymentStanding, error) {
	row, err := queries.GetPayment(ctx, p.Pool, in.TenantID, in.PaymentID)
	if err != nil {
		return workflows.PaymentStanding{}, orFault(err, fault.PaymentNotFound)
	}
	if row.State != payment.Requested {
		return p.standing(ctx, row.ID)
	}
	session, err := p.openPage(ctx, row, in)
	if errors.Is(err, fault.PaymentRefused) {
		return workflows.PaymentStanding{}, errors.Join(err, p.end(ctx, row, payment.Failed, reasonOf(err), ""))
	}
	if err != nil {
		return workflows.PaymentStanding{}, err
	}
	if _, err := queries.OpenPayment(ctx, p.Pool, row, session.ID, session.URL); err != nil {
		return workflows.PaymentStanding{}, err
	}
	return p.standing(ctx, row.ID)
}

func (p *Payments) openPage(ctx context.Context, row queries.Payment, in workflows.OpenPayment) (stripe.Checkout, error) {
	customer, err := p.customer(ctx, row.TenantID)
	if err != nil {
		return stripe.Checkout{}, err
	}
	units, err := payment.Units(row.Currency, row.AmountMicros)
	if err != nil {
		return stripe.Checkout{}, fault.Wrap(err, fault.CurrencyUnsupported, "")
	}
	return p.Stripe.CreateCheckout(ctx, stripe.NewCheckout{
		Key: workflows.PaymentWorkflowID(row.ID), CustomerID: customer, Currency: row.Currency, Amount: units, Product: product,
		SuccessURL: in.SuccessURL, CancelURL: in.CancelURL, ExpiresAt: *row.ExpiresAt, SaveCard: row.SaveCard, About: about(row),
	})
}

// about names a payment on Stripe's objects.
func about(row queries.Payment) stripe.Metadata {
	return stripe.Metadata{metadataPayment: string(row.ID), metadataTenant: string(row.TenantID), metadataAccount: string(row.AccountID)}
}

// customer is what the tenant is at Stripe, made when it is first needed.
func (p *Payments) customer(ctx context.Context, tenant id.Tenant) (string, error) {
	known, err := queries.StripeCustomer(ctx, p.Pool, tenant)
	if err != nil || known != "" {
		return known, err
	}
	made, err := p.Stripe.CreateCustomer(ctx, "customer/"+string(tenant), stripe.Metadata{metadataTenant: string(tenant)})
	if err != nil {
		return "", err
	}
	if err := queries.InsertStripeCustomer(ctx, p.Pool, tenant, made); err != nil {
		return "", err
	}
	return queries.StripeCustomer(ctx, p.Pool, tenant)
}

// standing reads how a payment stands; without a state when there is none.
func (p *Payments) standing(ctx context.Context, paymentID id.Payment) (workflows.PaymentStanding, error) {
	row, err := queries.GetPayment(ctx, p.Pool, "", paymentID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.PaymentStanding{}, nil
	}
	if err != nil {
		return workflows.PaymentStanding{}, err
	}
	again, err := p.Policy.Int(ctx, authored.PaymentsReconcileSeconds)
	standing := workflows.PaymentStanding{
		State: row.State, AccountID: row.AccountID, CorrelationID: row.CorrelationID, LookAgainSeconds: again, Automatic: row.Method == queries.PaymentByAutoTopUp,
	}
	if row.ExpiresAt != nil {
		standing.ExpiresAt = milliseconds(*row.ExpiresAt)
	}
	return standing, err
}

// Look asks Stripe how a payment stands and makes it so here. What was paid is credited from whatever state, once.
func (p *Payments) Look(ctx context.Context, in workflows.PaymentInput) (workflows.PaymentStanding, error) {
	row, err := queries.GetPayment(ctx, p.Pool, "", in.PaymentID)
	if errors.Is(err, pgx.ErrNoRows) {
		return workflows.PaymentStanding{}, nil
	}
	if err != nil {
		return workflows.PaymentStanding{}, err
	}
	if row.State != payment.Credited && row.State != payment.Held {
		if err := p.follow(ctx, row); err != nil {
			return workflows.PaymentStanding{}, err
		}
	}
	return p.standing(ctx, row.ID)
}

// follow makes what Stripe says of a payment true here.
func (p *Payments) follow(ctx context.Context, row queries.Payment) error {
	if row.Method == queries.PaymentByAutoTopUp {
		return p.followCharge(ctx, row)
	}
	if row.CheckoutSessionID == nil {
		if p.expired(row) {
			return p.end(ctx, row, payment.Expired, "never_opened", "")
		}
		return nil
	}
	page, err := p.Stripe.GetCheckout(ctx, *row.CheckoutSessionID)
	switch {
	case err != nil:
		return err
	case page.Paid():
		return p.creditPage(ctx, row, page)
	case page.Complete() && page.PaymentIntent.Processing():
		_, err := queries.MovePayment(ctx, p.Pool, row, payment.Processing, "", page.PaymentIntent.ID)
		return err
	case page.Complete():
		return p.end(ctx, row, payment.Failed, page.PaymentIntent.FailureCode, page.PaymentIntent.ID)
	case page.Expired():
		return p.end(ctx, row, payment.Expired, "", "")
	default:
		return nil
	}
}

func (p *Payments) expired(row queries.Payment) bool {
	return row.ExpiresAt != nil && p.Now().After(*row.ExpiresAt)
}

// creditPage posts what was paid on a page, and keeps the card where somebody wanted it saved.
func (p *Payments) creditPage(ctx context.Context, row queries.Payment, page stripe.Checkout) error {
	keep := func(context.Context, pgx.Tx) error { return nil }
	if row.SaveCard && page.Card != nil {
		keep = func(ctx context.Context, tx pgx.Tx) error {
			return p.keepCard(ctx, tx, cardOfPayment(row), *page.Card)
		}
	}
	paid := page.PaymentIntent // what was received counts, whatever the page says
	if err := p.credit(ctx, row, paid.ID, paid.Currency, paid.AmountReceived, keep); err != nil || !row.SaveCard {
		return err
	}
	return p.forgetLeaving(ctx, row.AccountID)
}

// credit posts a payment that was made, and what comes with it. Where it does not fit what was asked for, nothing is posted and an operator
// has to look.
func (p *Payments) credit(ctx context.Context, row queries.Payment, intent, currency string, units int64, with func(context.Context, pgx.Tx) error) error {
	if err := p.Ledger.knowProvider(ctx, row.Currency); err != nil {
		return err
	}
	return store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.LockAccount(ctx, tx, row.TenantID, row.AccountID); err != nil {
			return err
		}
		row, err := queries.HoldPayment(ctx, tx, row.ID)
		if err != nil || row.State == payment.Credited || row.State == payment.Held {
			return err
		}
		odd, err := p.odd(ctx, tx, row, intent, currency, units)
		if err != nil {
			return err
		}
		if odd != "" {
			return p.endIn(ctx, tx, row, payment.Held, odd, "")
		}
		if err := p.post(ctx, tx, row, intent); err != nil {
			return err
		}
		return with(ctx, tx)
	})
}

// odd says what does not fit about a payment that was made, as a short word; empty where everything does.
func (p *Payments) odd(ctx context.Context, tx pgx.Tx, row queries.Payment, intent, currency string, units int64) (string, error) {
	paid, err := payment.Micros(currency, units)
	what := ""
	switch {
	case intent == "":
		what = "payment_unnamed"
	case currency != row.Currency:
		what = "currency_mismatch"
	case err != nil || paid != row.AmountMicros:
		what = "amount_mismatch"
	}
	if what != "" {
		p.Ledger.stats.conflicts.Add(1)
		p.Log.ErrorContext(ctx, "alarm: a payment is not what was asked for, and is not credited", "payment_id", string(row.ID), "because", what,
			"asked_micros", int64(row.AmountMicros), "asked_currency", row.Currency, "paid_units", units, "paid_currency", currency)
		return what, nil
	}
	entries, err := queries.EntriesByKey(ctx, tx, []string{depositKey(intent)})
	if err != nil {
		return "", err
	}
	if entry, posted := entries[depositKey(intent)]; posted && entry.AmountMicros != row.AmountMicros {
		return "credited_otherwise", nil // by a correction, after some of it went back
	}
	status, err := queries.ShareTenant(ctx, tx, row.TenantID)
	if err == nil && status == queries.TenantClosed {
		what = "tenant_closed"
	}
	return what, err
}

func (p *Payments) post(ctx context.Context, tx pgx.Tx, row queries.Payment, intent string) error {
	clearing, err := p.Ledger.platformAccount(ctx, queries.AccountPlatformStripeClearing, row.Currency)
	if err != nil {
		return err
	}
	entryID, _, err := p.Ledger.transfer(ctx, tx, queries.Entry{
		Kind: "deposit", DebitAccountID: clearing, CreditAccountID: row.AccountID, Currency: row.Currency, AmountMicros: row.AmountMicros,
		IdempotencyKey: "stripe:pi:" + intent,
	})
	if err != nil {
		return err
	}
	at := milliseconds(p.Now())
	if done, err := queries.CreditPayment(ctx, tx, row, intent, entryID, at); err != nil || !done {
		return errors.Join(err, notWritten(done, "the credit of "+string(row.ID)))
	}
	if err := queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(row.TenantID), Actor: identity.Platform(), Action: "payment.credit", TargetType: "payment", TargetID: string(row.ID),
		Details:       map[string]any{"account_id": row.AccountID, "amount_micros": row.AmountMicros, "currency": row.Currency, "entry_id": entryID},
		CorrelationID: row.CorrelationID,
	}); err != nil {
		return err
	}
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: event.PaymentsBalanceCredited, Fact: workflows.PaymentWorkflowID(row.ID), AggregateID: string(row.AccountID), OccurredAt: at,
		CorrelationID: row.CorrelationID, Payload: balanceCredited{paymentEvent: eventOf(row), EntryIDs: []int64{entryID}},
	})
}

func notWritten(done bool, what string) error {
	if done {
		return nil
	}
	return errors.New(what + " was not written although it was held")
}

// paymentEvent is what the events of payments have in common.
type paymentEvent struct {
	PaymentID    id.Payment   `json:"payment_id"`
	TenantID     id.Tenant    `json:"tenant_id"`
	AccountID    id.Account   `json:"account_id"`
	UserID       *id.User     `json:"user_id,omitempty"`
	Method       string       `json:"method"`
	Currency     string       `json:"currency"`
	AmountMicros money.Micros `json:"amount_micros"`
}

func eventOf(row queries.Payment) paymentEvent {
	return paymentEvent{PaymentID: row.ID, TenantID: row.TenantID, AccountID: row.AccountID, UserID: row.UserID, Method: row.Method, Currency: row.Currency, AmountMicros: row.AmountMicros}
}

type balanceCredited struct {
	paymentEvent
	EntryIDs []int64 `json:"entry_ids"`
}

type depositFailed struct {
	paymentEvent
	State  payment.State `json:"state"`
	Reason string        `json:"reason"`
}

// end writes that a payment came to nothing, with its event. It holds the account first, as everything does that decides about one.
func (p *Payments) end(ctx context.Context, row queries.Payment, to payment.State, reason, intent string) error {
	return store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.LockAccount(ctx, tx, row.TenantID, row.AccountID); err != nil {
			return err
		}
		row, err := queries.HoldPayment(ctx, tx, row.ID)
		if err != nil {
			return err
		}
		return p.endIn(ctx, tx, row, to, reason, intent)
	})
}

func (p *Payments) endIn(ctx context.Context, tx pgx.Tx, row queries.Payment, to payment.State, reason, intent string) error {
	moved, err := queries.MovePayment(ctx, tx, row, to, reason, intent)
	if err != nil || !moved {
		return err
	}
	if row.Method == queries.PaymentByAutoTopUp {
		if err := p.noteFailedTopUp(ctx, tx, row, to, reason); err != nil {
			return err
		}
	}
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: event.PaymentsDepositFailed, Fact: workflows.PaymentWorkflowID(row.ID) + "/" + string(to), AggregateID: string(row.AccountID),
		OccurredAt: milliseconds(p.Now()), CorrelationID: row.CorrelationID, Payload: depositFailed{paymentEvent: eventOf(row), State: to, Reason: reason},
	})
}

// reasonOf is what Stripe said when it refused.
func reasonOf(err error) string {
	reason, _ := fault.From(err).Details["reason"].(string)
	return reason
}
