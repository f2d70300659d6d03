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
