package activities

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// DisputeID is our id of one of Stripe's disputes: it derives from Stripe's, so that whoever hears of it first names it as everybody else.
func DisputeID(stripeDispute string) id.Dispute {
	sum := sha256.Sum256([]byte(stripeDispute))
	return id.New[id.Dispute]([16]byte(sum[:16]))
}

// disputedPayment is the payment that a dispute is about: whether its money is in the ledger, or else whether it is still to come there.
type disputedPayment struct {
	payment          queries.Payment
	credited, coming bool
}

// disputed finds the payment that a dispute is about: by what Stripe calls it, or, where that is not written down yet, by our id in its metadata.
// pgx.ErrNoRows where it is about nothing of ours.
func disputed(ctx context.Context, db queries.DB, provider *stripe.Client, intentID string) (disputedPayment, error) {
	if intentID == "" {
		return disputedPayment{}, pgx.ErrNoRows
	}
	paid, err := queries.PaymentOf(ctx, db, "", intentID)
	if err == nil && paid.State == payment.Credited {
		return disputedPayment{payment: paid, credited: true}, nil
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return disputedPayment{}, err
	}
	intent, err := provider.GetIntent(ctx, intentID)
	if errors.Is(err, fault.PaymentRefused) {
		return disputedPayment{}, pgx.ErrNoRows
	}
	if err != nil {
		return disputedPayment{}, err
	}
	if paid.ID == "" {
		named, err := id.Parse[id.Payment](intent.Metadata[metadataPayment])
		if err != nil {
			return disputedPayment{}, pgx.ErrNoRows
		}
		if paid, err = queries.GetPayment(ctx, db, "", named); err != nil {
			return disputedPayment{}, err
		}
	}
	entries, err := queries.EntriesByKey(ctx, db, []string{depositKey(intentID)})
	if err != nil {
		return disputedPayment{}, err
	}
	entry, posted := entries[depositKey(intentID)]
	return disputedPayment{
		payment: paid, credited: posted && entry.CreditAccountID == paid.AccountID, // a correction credits what was held
		coming: !posted && paid.State != payment.Held && (intent.Paid() || !paid.State.Ended()),
	}, nil
}

// LookDispute asks Stripe how a dispute stands and makes it so here. What a bank takes leaves the balance, also below zero; what it gives back
// returns. A dispute about no payment that is credited answers no state.
func (p *Payments) LookDispute(ctx context.Context, in workflows.DisputeInput) (workflows.DisputeStanding, error) {
	told, err := p.Stripe.GetDispute(ctx, in.StripeDisputeID)
	if err != nil {
		return workflows.DisputeStanding{}, err
	}
	about, err := disputed(ctx, p.Pool, p.Stripe, told.PaymentIntentID)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !about.credited {
		p.Log.ErrorContext(ctx, "alarm: a dispute is about no payment that is credited here", "dispute_id", string(in.DisputeID), "payment_id", string(about.payment.ID))
		return workflows.DisputeStanding{}, nil
	}
	if err != nil {
		return workflows.DisputeStanding{}, err
	}
	paid := about.payment
	amount, err := payment.Micros(told.Currency, told.Amount)
	if err == nil && told.Currency != paid.Currency {
		err = errors.New("a dispute is kept in another currency than its payment")
	}
	if err == nil {
		err = p.Ledger.knowProvider(ctx, paid.Currency)
	}
	if err != nil {
		return workflows.DisputeStanding{}, err
	}
	again, err := p.Policy.Int(ctx, authored.PaymentsReconcileSeconds)
	if err != nil {
		return workflows.DisputeStanding{}, err
	}
	standing := workflows.DisputeStanding{LookAgainSeconds: again}
	err = store.InTx(ctx, p.Pool, func(ctx context.Context, tx pgx.Tx) error {
		standing.Moved = workflows.Moved{AccountID: paid.AccountID, CorrelationID: paid.CorrelationID}
		if _, err := queries.LockAccount(ctx, tx, paid.TenantID, paid.AccountID); err != nil {
			return err
		}
		row, err := p.knownDispute(ctx, tx, in.DisputeID, told, paid, amount)
		if err != nil {
			return err
		}
		standing.State, standing.Changed, err = p.followDispute(ctx, tx, row, told, paid.CorrelationID)
		return err
	})
	return standing, err
}

// knownDispute writes a dispute that is heard of for the first time, with its audit row and its event.
func (p *Payments) knownDispute(ctx context.Context, tx pgx.Tx, disputeID id.Dispute, told stripe.Dispute, paid queries.Payment, amount money.Micros) (queries.Dispute, error) {
	row := queries.Dispute{
		ID: disputeID, StripeDisputeID: told.ID, PaymentID: paid.ID, TenantID: paid.TenantID, AccountID: paid.AccountID, Currency: paid.Currency,
		AmountMicros: amount, Reason: told.Reason, State: payment.DisputeOpen,
	}
	if !told.EvidenceDueBy.IsZero() {
		row.EvidenceDueAt = &told.EvidenceDueBy
	}
	fresh, err := queries.InsertDispute(ctx, tx, row)
	if err == nil && fresh {
		err = errors.Join(
			queries.InsertAudit(ctx, tx, queries.Audit{
				TenantID: string(row.TenantID), Actor: identity.Platform(), Action: "dispute.open", TargetType: "dispute", TargetID: string(row.ID),
				Details: map[string]any{"payment_id": row.PaymentID, "amount_micros": row.AmountMicros, "reason": row.Reason}, CorrelationID: paid.CorrelationID,
			}),
			p.announceDispute(ctx, tx, event.PaymentsDisputeOpened, row, paid.CorrelationID))
	}
	if err != nil {
		return row, err
	}
	return queries.HoldDispute(ctx, tx, disputeID)
}

// followDispute posts what has happened since the last look.
func (p *Payments) followDispute(ctx context.Context, tx pgx.Tx, row queries.Dispute, told stripe.Dispute, correlationID string) (state payment.DisputeState, moved bool, err error) {
	if row.State != payment.DisputeOpen {
		return row.State, false, nil
	}
	accounts := map[string]id.Account{}
	for _, kind := range []string{queries.AccountPlatformDisputes, queries.AccountPlatformStripeClearing} {
		if accounts[kind], err = p.Ledger.platformAccount(ctx, kind, row.Currency); err != nil {
			return "", false, err
		}
	}
	entry := func(kind string, from, to id.Account) (int64, error) {
		entryID, _, err := p.Ledger.transfer(ctx, tx, queries.Entry{
			Kind: kind, DebitAccountID: from, CreditAccountID: to, Currency: row.Currency, AmountMicros: row.AmountMicros,
			IdempotencyKey: workflows.DisputeWorkflowID(row.ID) + "/" + kind,
		})
		return entryID, err
	}
	if !told.Inquiry() && row.WithdrawnEntryID == nil {
		entryID, err := entry("dispute_withdrawn", row.AccountID, accounts[queries.AccountPlatformDisputes])
		if err != nil {
			return "", false, err
		}
		if done, err := queries.WithdrawDispute(ctx, tx, row, entryID); err != nil || !done {
			return "", false, errors.Join(err, notWritten(done, "what was taken by "+string(row.ID)))
		}
		row.WithdrawnEntryID, moved = &entryID, true
	}
	var outcome *int64
	switch {
	case !told.Won() && !told.Lost():
		return payment.DisputeOpen, moved, nil
	case row.WithdrawnEntryID == nil: // the bank only asked
	case told.Won():
		entryID, err := entry("dispute_reinstated", accounts[queries.AccountPlatformDisputes], row.AccountID)
		if err != nil {
			return "", false, err
		}
		outcome, moved = &entryID, true
	default:
		entryID, err := entry("dispute_lost", accounts[queries.AccountPlatformDisputes], accounts[queries.AccountPlatformStripeClearing])
		if err != nil {
			return "", false, err
		}
		outcome = &entryID
	}
	row.State = payment.DisputeLost
	if told.Won() {
		row.State = payment.DisputeWon
	}
	if done, err := queries.CloseDispute(ctx, tx, row, row.State, outcome, milliseconds(p.Now())); err != nil || !done {
		return "", false, errors.Join(err, notWritten(done, "the end of "+string(row.ID)))
	}
	return row.State, moved, p.announceDispute(ctx, tx, event.PaymentsDisputeClosed, row, correlationID)
}

type disputeEvent struct {
	DisputeID     id.Dispute           `json:"dispute_id"`
	PaymentID     id.Payment           `json:"payment_id"`
	TenantID      id.Tenant            `json:"tenant_id"`
	AccountID     id.Account           `json:"account_id"`
	Currency      string               `json:"currency"`
	AmountMicros  money.Micros         `json:"amount_micros"`
	State         payment.DisputeState `json:"state"`
	Reason        string               `json:"reason"`
	EvidenceDueAt *time.Time           `json:"evidence_due_at,omitempty"`
}

func (p *Payments) announceDispute(ctx context.Context, tx pgx.Tx, kind event.Type, row queries.Dispute, correlationID string) error {
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: kind, Fact: workflows.DisputeWorkflowID(row.ID), AggregateID: string(row.AccountID), OccurredAt: milliseconds(p.Now()), CorrelationID: correlationID,
		Payload: disputeEvent{
			DisputeID: row.ID, PaymentID: row.PaymentID, TenantID: row.TenantID, AccountID: row.AccountID, Currency: row.Currency, AmountMicros: row.AmountMicros,
			State: row.State, Reason: row.Reason, EvidenceDueAt: row.EvidenceDueAt,
		},
	})
}
