//go:build integration

package api_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// closeHooks has Stripe's webhooks go nowhere, or through again.
func (w *world) closeHooks(closed bool) {
	w.hooks.mutex.Lock()
	defer w.hooks.mutex.Unlock()
	w.hooks.closed = closed
}

// heard waits until Stripe has told something of a type, wherever that went.
func (w *world) heard(kind string) toldEvent {
	w.t.Helper()
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if len(w.hooks.of(kind)) == 0 {
			return fmt.Errorf("nobody was told %s", kind)
		}
		return nil
	})
	told := w.hooks.of(kind)
	return told[len(told)-1]
}

// taken waits until a dispute of Stripe's is out of a balance, and says that nothing else is.
func (w *world) taken(token, dispute string) {
	w.t.Helper()
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if known := w.field(`SELECT count(*)::text FROM disputes WHERE stripe_dispute_id = $1 AND withdrawn_entry_id IS NOT NULL`, dispute); known != "1" {
			return fmt.Errorf("%s is not known", dispute)
		}
		return nil
	})
	w.settled()
	if got := w.balance(token); got != 0 {
		w.t.Errorf("the balance is %d micros", got)
	}
	if posted := w.field(`SELECT string_agg(kind, ' ' ORDER BY id) FROM ledger_entries WHERE kind LIKE 'dispute%' OR kind = 'deposit'`); posted != "deposit dispute_withdrawn" {
		w.t.Errorf("the entries are %q", posted)
	}
}

// A bank may object before anybody here knows that the payment was made: it is credited first, and then taken, once.
func TestADisputeAheadOfItsPayment(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	opened := w.deposit(ada, "d", 3000)
	w.closeHooks(true)
	intent, _ := w.stripe.Pay(opened.text("checkout_url"), "pay")["payment_intent"].(string)
	dispute, _ := w.stripe.Order("dispute", map[string]any{"payment_intent": intent, "reason": "fraudulent"})["id"].(string)
	w.heard("checkout.session.completed")
	ahead := w.heard("charge.dispute.created")
	if reply := w.webhook(ahead.signature, ahead.body); reply.status != 200 {
		t.Fatalf("the webhook is answered %d %s", reply.status, reply.body)
	}
	w.stands("/api/v1/payments/"+opened.text("id"), ada, "credited")
	w.taken(ada, dispute)
	w.closeHooks(false)
	for _, kind := range []string{"checkout.session.completed", "charge.dispute.created", "payment_intent.succeeded", "charge.dispute.funds_withdrawn"} {
		told := w.heard(kind)
		w.webhook(told.signature, told.body)
	}
	w.taken(ada, dispute)
	if outcomes := w.field(`SELECT string_agg(DISTINCT outcome, ' ') FROM stripe_event_outcomes`); outcomes != "told" {
		t.Errorf("what became of the events is %q", outcomes)
	}
}

// What is held was never in a balance, so nothing is taken out of one for it; the dispute of a payment that is in one after all is found by
// the next sweep, whatever was written of its events.
func TestADisputeOfWhatIsNotCredited(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	held := w.deposit(ada, "held", 3000)
	w.damage("payments", `UPDATE payments SET amount_micros = amount_micros + 10000 WHERE id = $1`, held.text("id"))
	intent, _ := w.stripe.Pay(held.text("checkout_url"), "pay")["payment_intent"].(string)
	w.stands("/api/v1/payments/"+held.text("id"), ada, "held")
	unfounded, _ := w.stripe.Order("dispute", map[string]any{"payment_intent": intent, "reason": "fraudulent"})["id"].(string)
	temporaltest.Eventually(t, time.Minute, func() error {
		if outcome := w.field(`SELECT coalesce(min(outcome), '') FROM stripe_event_outcomes JOIN stripe_events USING (event_id) WHERE object_id = $1`, unfounded); outcome != "unmatched" {
			return fmt.Errorf("what became of it is %q", outcome)
		}
		return nil
	})
	credited := w.paid(ada, "credited", 3000)
	w.settled()
	w.closeHooks(true)
	intent = w.field(`SELECT payment_intent_id FROM payments WHERE id = $1`, credited)
	dispute, _ := w.stripe.Order("dispute", map[string]any{"payment_intent": intent, "reason": "fraudulent"})["id"].(string)
	w.exec(`INSERT INTO stripe_events (event_id, type, api_version, object_id, source, body, body_sha256, happened_at)
		VALUES ('evt_early', 'charge.dispute.created', '', $1, 'webhook', '', '', now())`, dispute)
	w.exec(`INSERT INTO stripe_event_outcomes (event_id, outcome) VALUES ('evt_early', 'unmatched')`)
	webhooks := &activities.Webhooks{
		Pool: w.App, Temporal: w.atTemporal(), Stripe: stripe.New(w.stripe.Config()), Policy: policy.New(w.App), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Events: telemetry.Counter{}, Swept: telemetry.Counter{},
	}
	out, err := webhooks.Sweep(t.Context(), workflows.SweepIn{Since: time.Now().Add(time.Hour)})
	if err != nil || out.Disputes != 1 {
		t.Fatalf("a sweep finds %+v (%v)", out, err)
	}
	w.taken(ada, dispute)
	if again, err := webhooks.Sweep(t.Context(), workflows.SweepIn{Since: time.Now().Add(time.Hour)}); err != nil || again.Disputes != 0 {
		t.Errorf("the next sweep finds %+v (%v)", again, err)
	}
	if state := w.field(`SELECT state FROM payments WHERE id = $1`, held.text("id")); state != "held" || strings.Contains(w.field(`SELECT coalesce(string_agg(stripe_dispute_id, ' '), '') FROM disputes`), unfounded) {
		t.Errorf("what is held is %s, and its dispute is known", state)
	}
}

func TestADisputedPaymentIsTakenAndGivenBack(t *testing.T) {
	w := newPaymentsWorld(t)
	ada, root := w.penniless("ada"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", root, "", "")
	payment := w.paid(ada, "d1", 3000)
	intent := w.field(`SELECT payment_intent_id FROM payments WHERE id = $1`, payment)
	decided := func(key, outcome string, balance int64) {
		t.Helper()
		dispute, _ := w.stripe.Order("dispute", map[string]any{"payment_intent": intent})["id"].(string)
		temporaltest.Eventually(t, time.Minute, func() error {
			if got := w.balance(ada); got != 0 {
				return fmt.Errorf("the balance is %d micros", got)
			}
			return nil
		})
		w.exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
			SELECT 'adjustment_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', account_id, 'usd', 50000000, 'test:' || $2 FROM payments WHERE id = $1`, payment, key)
		w.want(w.ask("POST", "/api/v1/allocations", ada, "a-"+key, create("launch")), 409, "payment_disputed")
		w.want(w.ask("POST", "/api/v1/payments/"+payment+"/refunds", ada, "r-"+key, `{"amount_minor":1000,"reason":"r"}`), 409, "payment_disputed")
		open := w.ask("GET", "/api/v1/admin/disputes?state=open", root, "", "")
		if len(items(open)) != 1 || items(open)[0]["withdrawn"] != true || items(open)[0]["payment_id"] != payment {
			t.Errorf("open disputes: %s", open.body)
		}
		w.stripe.Order("close_dispute", map[string]any{"dispute": dispute, "outcome": outcome})
		temporaltest.Eventually(t, time.Minute, func() error {
			if closed := w.field(`SELECT state FROM disputes WHERE stripe_dispute_id = $1`, dispute); closed != outcome {
				return fmt.Errorf("the dispute is %s", closed)
			}
			return nil
		})
		if got := w.balance(ada); got != balance {
			t.Errorf("%s: the balance is %d micros and not %d", outcome, got, balance)
		}
	}
	decided("first", "won", 80_000_000)
	w.requirePlatform(map[string]int64{"platform_disputes": 0, "platform_stripe_clearing": -30_000_000})
	w.exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		SELECT 'adjustment_debit', gen_random_uuid(), account_id, 'acct_platformcreditusdaaaaaaaaa', 'usd', 50000000, 'test:back' FROM payments WHERE id = $1`, payment)
	decided("second", "lost", 50_000_000)
	w.requirePlatform(map[string]int64{"platform_disputes": 0, "platform_stripe_clearing": 0})
	if launched := w.ask("POST", "/api/v1/allocations", ada, "after", create("launch")); launched.status != 201 {
		t.Errorf("after the decision a launch is answered %d %s", launched.status, launched.body)
	}
	if events := w.field(`SELECT string_agg(subject, ' ' ORDER BY id) FROM outbox WHERE subject LIKE 'payments.dispute%'`); events !=
		"payments.dispute_opened payments.dispute_closed payments.dispute_opened payments.dispute_closed" {
		t.Errorf("events: %s", events)
	}
}
