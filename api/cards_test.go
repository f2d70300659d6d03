//go:build integration

package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

const (
	cardPath  = "/api/v1/billing/card"
	topUpPath = "/api/v1/billing/auto-topup"
)

// saved opens a page, saves a card on it, and waits until it is kept.
func (w *world) saved(token, key, outcome string) reply {
	w.t.Helper()
	opened := w.ask("POST", cardPath, token, key, `{}`)
	if opened.status != 201 || opened.text("state") != "open" {
		w.t.Fatalf("a card is answered %d %s", opened.status, opened.body)
	}
	w.stripe.Pay(opened.text("checkout_url"), outcome)
	return w.becomes(cardPath, token, "id", opened.text("id"))
}

// becomes waits until a field of an object has a value.
func (w *world) becomes(path, token, field, value string) reply {
	w.t.Helper()
	var got reply
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if got = w.ask("GET", path, token, "", ""); got.text(field) != value {
			return fmt.Errorf("%s is %s and its %s not %s", path, got.body, field, value)
		}
		return nil
	})
	return got
}

// topUp sets an automatic top-up, in minor units.
func (w *world) topUp(token string, threshold, amount, most int64) reply {
	w.t.Helper()
	return w.ask("PUT", topUpPath, token, "", fmt.Sprintf(`{"enabled":true,"threshold_minor":%d,"amount_minor":%d,"monthly_cap_minor":%d}`, threshold, amount, most))
}

// quickTopUps is a world in which a charge that failed may be repeated at once, and Stripe is asked every second.
func quickTopUps(t *testing.T) *world {
	t.Helper()
	return newWorldWhere(t, 4, map[string]string{
		"payments.reconcile_seconds": "1", "payments.auto_topup_retry_seconds": "1", "payments.auto_topup_lead_seconds": "0", "billing.runway_seconds": "0",
	})
}

// countOf counts events of a type that are about a tenant whose owner holds the token.
func (w *world) countOf(kind, token string) string {
	w.t.Helper()
	account := w.ask("GET", "/api/v1/billing/balance", token, "", "").text("account_id")
	return w.field(`SELECT count(*)::text FROM outbox WHERE subject = $1 AND payload -> 'payload' ->> 'account_id' = $2`, kind, account)
}

func TestASavedCardTopsAnAccountUpWithinItsCap(t *testing.T) {
	w := quickTopUps(t)
	ada := w.penniless("ada")
	w.want(w.ask("GET", cardPath, ada, "", ""), 404, "card_not_found")
	if off := w.ask("GET", topUpPath, ada, "", ""); off.status != 200 || off.text("status") != "off" {
		t.Errorf("nothing set is %d %s", off.status, off.body)
	}
	w.want(w.topUp(ada, 1000, 1000, 3000), 409, "saved_card_missing")

	// The card comes with a deposit; everything is told twice and in disorder.
	w.stripe.Order("faults", map[string]any{"faults": map[string]any{"duplicate": 1, "reorder": 0.7, "delay_ms": 300, "cut": 0.1}})
	opened := w.ask("POST", "/api/v1/payments/checkout", ada, "d1", `{"amount_minor":1000,"save_card":true}`)
	w.stripe.Pay(opened.text("checkout_url"), "pay")
	w.stands("/api/v1/payments/"+opened.text("id"), ada, "credited")
	card := w.ask("GET", cardPath, ada, "", "")
	if card.text("state") != "saved" || card.text("last4") != "4242" || card.text("brand") == "" || card.fields()["payment_method_id"] != nil {
		t.Errorf("the card is %s", card.body)
	}
	for name, c := range map[string][3]int64{
		"a threshold below the warning": {499, 1000, 3000}, "too high a threshold": {100_001, 1000, 3000}, "too little": {1000, 999, 3000},
		"too much": {1000, 100_001, 400_000}, "a cap below the amount": {1000, 2000, 1999}, "too high a cap": {1000, 1000, 500_001},
	} {
		if got := w.topUp(ada, c[0], c[1], c[2]); got.status != 422 || got.text("code") != "auto_topup_out_of_range" {
			t.Errorf("%s is answered %d %s", name, got.status, got.body)
		}
	}
	if set := w.topUp(ada, 1000, 1000, 3000); set.status != 200 || set.text("status") != "armed" {
		t.Fatalf("an automatic top-up is answered %d %s", set.status, set.body)
	}
	// Nothing costs anything yet, so nothing is charged.
	if n := w.field(`SELECT count(*)::text FROM payments WHERE method = 'auto_topup'`); n != "0" {
		t.Errorf("%s charges before anything costs", n)
	}
	path := w.activeAllocation(ada)
	w.credited(ada, 1)
	// A threshold that one charge does not reach is charged until the cap, one charge at a time.
	if set := w.topUp(ada, 90_000, 1000, 3000); set.status != 200 {
		t.Fatalf("a higher threshold is answered %d %s", set.status, set.body)
	}
	w.credited(ada, 3)
	capped := w.becomes(topUpPath, ada, "status", "capped")
	if charged, _ := capped.fields()["charged_minor"].(float64); charged != 3000 {
		t.Errorf("at the cap it is %s", capped.body)
	}
	w.ask("POST", path+"/release", ada, "", "")
	w.reach(path, ada, "released")
	w.settled()
	if deposits := w.field(`SELECT sum(amount_micros)::text || ' ' || count(*)::text FROM ledger_entries WHERE kind = 'deposit'`); deposits != "40000000 4" {
		t.Errorf("deposits: %s", deposits)
	}
	if events := w.countOf("payments.balance_credited", ada); events != "4" {
		t.Errorf("%s events of credits", events)
	}
	if listed := items(w.ask("GET", "/api/v1/payments", ada, "", "")); len(listed) != 4 || listed[0]["method"] != "auto_topup" || listed[0]["user_id"] != nil {
		t.Errorf("payments: %v", listed)
	}
	if warned := w.countOf("billing.low_balance_warning", ada); warned != "0" {
		t.Errorf("%s warnings although the card was charged ahead", warned)
	}

	w.stripe.Order("faults", map[string]any{"faults": map[string]any{}})
	method := w.field(`SELECT payment_method_id FROM cards WHERE state = 'saved'`)
	if gone := w.ask("DELETE", cardPath, ada, "c1", ""); gone.status != 204 {
		t.Errorf("removing the card is answered %d %s", gone.status, gone.body)
	}
	w.want(w.ask("GET", cardPath, ada, "", ""), 404, "card_not_found")
	w.want(w.ask("DELETE", cardPath, ada, "c2", ""), 404, "card_not_found")
	w.forgotten(method)
	if status := w.ask("GET", topUpPath, ada, "", "").text("status"); status != "no_card" {
		t.Errorf("without a card it is %s", status)
	}
}

// credited waits until so many automatic top-ups of everybody were credited.
func (w *world) credited(token string, charges int) {
	w.t.Helper()
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if got := w.field(`SELECT count(*)::text FROM payments WHERE method = 'auto_topup' AND state = 'credited'`); got != fmt.Sprint(charges) {
			return fmt.Errorf("%s automatic top-ups are credited; %s", got, w.ask("GET", topUpPath, token, "", "").body)
		}
		return nil
	})
}

// forgotten waits until Stripe and the platform have forgotten a card.
func (w *world) forgotten(method string) {
	w.t.Helper()
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if attached := w.stripe.Get("/v1/payment_methods/" + method)["customer"]; attached != nil {
			return fmt.Errorf("it is attached to %v", attached)
		}
		if left := w.field(`SELECT count(*)::text FROM cards WHERE state = 'leaving' OR (state = 'gone' AND (last4 <> '' OR payment_method_id IS NOT NULL))`); left != "0" {
			return fmt.Errorf("%s cards are not forgotten", left)
		}
		return nil
	})
}

// A bank that declines, or wants to see the holder, is asked as often as policy says and no more; then somebody has to set it again.
func TestAChargeThatFailsPausesTheTopUp(t *testing.T) {
	w := quickTopUps(t)
	for name, c := range map[string]struct{ outcome, reason string }{
		"ada": {"pay_then_decline", "generic_decline"}, "bob": {"pay_then_authenticate", "authentication_required"},
	} {
		token := w.penniless(name)
		w.paid(token, "d1", 1000)
		w.saved(token, "c1", c.outcome)
		if set := w.topUp(token, 90_000, 1000, 3000); set.status != 200 {
			t.Fatalf("%s: %d %s", name, set.status, set.body)
		}
		path := w.activeAllocation(token)
		paused := w.becomes(topUpPath, token, "status", "paused")
		if failures, _ := paused.fields()["failures"].(float64); failures != 3 || paused.text("paused_reason") != c.reason {
			t.Errorf("%s: %s", name, paused.body)
		}
		if failed, paused := w.countOf("payments.deposit_failed", token), w.countOf("payments.auto_topup_paused", token); failed != "3" || paused != "1" {
			t.Errorf("%s: %s events of failure and %s of the pause", name, failed, paused)
		}
		// What was given up at Stripe cannot be paid later.
		if open := w.field(`SELECT count(*)::text FROM payments WHERE method = 'auto_topup' AND account_id = $1 AND (state <> 'failed' OR payment_intent_id IS NULL)`, paused.text("account_id")); open != "0" {
			t.Errorf("%s: %s charges are not given up", name, open)
		}
		intent := w.field(`SELECT payment_intent_id FROM payments WHERE method = 'auto_topup' AND account_id = $1 ORDER BY created_at DESC LIMIT 1`, paused.text("account_id"))
		if status := w.stripe.Get("/v1/payment_intents/" + intent)["status"]; status != "canceled" {
			t.Errorf("%s: the charge is %v at Stripe", name, status)
		}
		// A card that is good takes its place, and setting it again ends the pause.
		before := w.field(`SELECT payment_method_id FROM cards WHERE state = 'saved' AND account_id = $1`, paused.text("account_id"))
		w.saved(token, "c2", "pay")
		w.forgotten(before)
		w.topUp(token, 1000, 1000, 3000)
		temporaltest.Eventually(t, time.Minute, func() error {
			if got := w.balance(token); got < 19_000_000 {
				return fmt.Errorf("the balance is %d micros", got)
			}
			return nil
		})
		w.ask("POST", path+"/release", token, "", "")
		w.reach(path, token, "released")
	}
}

// A tenant that is closed leaves no card at Stripe, also one that is saved on a page that was still open.
func TestClosingForgetsTheCard(t *testing.T) {
	w := quickTopUps(t)
	ada := w.penniless("ada")
	w.saved(ada, "c1", "pay")
	w.topUp(ada, 1000, 1000, 3000)
	late := w.ask("POST", cardPath, ada, "late", `{}`)
	method := w.field(`SELECT payment_method_id FROM cards WHERE state = 'saved'`)
	tenant := late.text("tenant_id")
	if closed := w.ask("POST", "/api/v1/tenants/"+tenant+"/close", ada, "close", `{"reason":"done"}`); closed.status != 200 {
		t.Fatalf("closing is answered %d %s", closed.status, closed.body)
	}
	w.forgotten(method)
	if enabled := w.field(`SELECT enabled::text FROM auto_topups`); enabled != "false" {
		t.Errorf("the automatic top-up is enabled: %s", enabled)
	}
	w.stripe.Pay(late.text("checkout_url"), "pay")
	temporaltest.Eventually(t, time.Minute, func() error {
		if states := w.field(`SELECT string_agg(state, ' ') FROM cards`); states != "gone gone" {
			return fmt.Errorf("the cards are %s", states)
		}
		return nil
	})
}

// What was paid and is not what was asked for is held and credited to nobody, whether it is the amount or the currency.
func TestAPaymentThatIsNotWhatWasAskedForIsHeld(t *testing.T) {
	w := newPaymentsWorld(t)
	ada, root := w.penniless("ada"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", root, "", "")
	for reason, order := range map[string]map[string]any{
		"amount_mismatch": {"amount": 900}, "currency_mismatch": {"currency": "eur"},
	} {
		opened := w.ask("POST", "/api/v1/payments/checkout", ada, reason, `{"amount_minor":1000,"save_card":true}`)
		order["session"], order["outcome"] = sessionOf(opened.text("checkout_url")), "pay"
		w.stripe.Order("pay", order)
		held := w.stands("/api/v1/payments/"+opened.text("id"), ada, "held")
		if held.text("state_reason") != reason || held.fields()["ledger_entry_id"] != nil {
			t.Errorf("%s: %s", reason, held.body)
		}
	}
	w.settled()
	if entries := w.field(`SELECT count(*)::text FROM ledger_entries WHERE kind = 'deposit'`); entries != "0" || w.balance(ada) != 0 {
		t.Errorf("%s deposits, %d micros", entries, w.balance(ada))
	}
	if cards := w.field(`SELECT count(*)::text FROM cards`); cards != "0" {
		t.Errorf("%s cards were kept", cards)
	}
	if listed := items(w.ask("GET", "/api/v1/admin/payments?state=held", root, "", "")); len(listed) != 2 {
		t.Errorf("held payments: %v", listed)
	}
	if events := w.countOf("payments.deposit_failed", ada); events != "2" {
		t.Errorf("%s events", events)
	}
}

// A currency without a smaller unit is charged in whole units, or refused before anybody pays; one that the platform keeps no accounts in
// is refused as well.
func TestACurrencyWithoutASmallerUnit(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	w.exec(`ALTER TABLE accounts DISABLE TRIGGER USER`)
	w.exec(`UPDATE accounts SET currency = 'jpy' WHERE kind = 'tenant'`)
	w.exec(`ALTER TABLE accounts ENABLE TRIGGER USER`)
	w.want(w.ask("POST", "/api/v1/payments/checkout", ada, "early", `{"amount_minor":10000}`), 422, "currency_mismatch")
	w.exec(`INSERT INTO accounts (id, kind, currency) VALUES ('acct_platformstripeclearingjpya', 'platform_stripe_clearing', 'jpy'),
		('acct_platformrefundspendingjpya', 'platform_refunds_pending', 'jpy'), ('acct_platformdisputesjpyaaaaaaa', 'platform_disputes', 'jpy')`)
	w.want(w.ask("POST", "/api/v1/payments/checkout", ada, "odd", `{"amount_minor":12345}`), 422, "currency_unsupported")
	opened := w.ask("POST", "/api/v1/payments/checkout", ada, "whole", `{"amount_minor":10000}`)
	if opened.status != 201 || opened.text("currency") != "jpy" {
		t.Fatalf("a whole amount is answered %d %s", opened.status, opened.body)
	}
	session := w.stripe.Get("/v1/checkout/sessions/" + sessionOf(opened.text("checkout_url")))
	if session["amount_total"] != float64(100) || session["currency"] != "jpy" {
		t.Errorf("Stripe asks for %v %v", session["amount_total"], session["currency"])
	}
	w.stripe.Pay(opened.text("checkout_url"), "pay")
	w.stands("/api/v1/payments/"+opened.text("id"), ada, "credited")
	if got := w.balance(ada); got != 100_000_000 {
		t.Errorf("100 yen are %d micros", got)
	}
	refunds := "/api/v1/payments/" + opened.text("id") + "/refunds"
	w.want(w.ask("POST", refunds, ada, "r-odd", `{"amount_minor":150,"reason":"a half"}`), 422, "currency_unsupported")
	refund := w.ask("POST", refunds, ada, "r-whole", `{"amount_minor":4000,"reason":"some"}`)
	w.stands("/api/v1/refunds/"+refund.text("id"), ada, "succeeded")
	if got := w.stripe.Get("/v1/refunds/" + w.atStripe(refund.text("id")))["amount"]; got != float64(40) || w.balance(ada) != 60_000_000 {
		t.Errorf("Stripe paid %v back, %d micros are left", got, w.balance(ada))
	}
}

// sessionOf is what Stripe calls the page at an address.
func sessionOf(page string) string { return page[strings.LastIndexByte(page, '/')+1:] }
