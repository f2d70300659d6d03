//go:build integration

package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/stripe/stripetest"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

const (
	webhookPath = "/api/v1/payments/webhook"
	// olderSecret is the one that is being replaced.
	olderSecret = "whsec_older0123456789"
)

// hooks stands between Stripe and the API, so that a test sees what is told, and may keep it back.
type hooks struct {
	server *httptest.Server
	mutex  sync.Mutex
	seen   []toldEvent
	closed bool
}

// toldEvent is one webhook, byte by byte.
type toldEvent struct {
	signature string
	body      []byte
}

func newHooks(w *world) *hooks {
	h := &hooks{}
	h.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Error(err)
		}
		h.mutex.Lock()
		h.seen = append(h.seen, toldEvent{r.Header.Get("Stripe-Signature"), body})
		closed := h.closed
		h.mutex.Unlock()
		if closed || w.base == "" {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		rw.WriteHeader(w.webhook(r.Header.Get("Stripe-Signature"), body).status)
	}))
	w.t.Cleanup(h.server.Close)
	return h
}

// of answers what was told of a type, the newest last.
func (h *hooks) of(kind string) []toldEvent {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	var found []toldEvent
	for _, one := range h.seen {
		var event struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(one.body, &event) == nil && event.Type == kind {
			found = append(found, one)
		}
	}
	return found
}

// webhook sends a body as Stripe would.
func (w *world) webhook(signature string, body []byte) reply {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.base+webhookPath, bytes.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return reply{}
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	if signature != "" {
		request.Header.Set("Stripe-Signature", signature)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return reply{status: http.StatusBadGateway} // the API has ended before the stand-in heard of it
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, text}
}

// deposit opens a page for an amount in minor units.
func (w *world) deposit(token, key string, minor int64) reply {
	w.t.Helper()
	opened := w.ask("POST", "/api/v1/payments/checkout", token, key, fmt.Sprintf(`{"amount_minor":%d}`, minor))
	if opened.status != 201 || opened.text("state") != "open" || !strings.HasPrefix(opened.text("checkout_url"), w.stripe.URL) {
		w.t.Fatalf("a deposit of %d is answered %d %s", minor, opened.status, opened.body)
	}
	return opened
}

// paid opens a page, pays on it, and waits until the deposit is credited.
func (w *world) paid(token, key string, minor int64) string {
	w.t.Helper()
	opened := w.deposit(token, key, minor)
	w.stripe.Pay(opened.text("checkout_url"), "pay")
	w.stands("/api/v1/payments/"+opened.text("id"), token, "credited")
	return opened.text("id")
}

// stands waits until an object is in a state.
func (w *world) stands(path, token, state string) reply {
	w.t.Helper()
	var got reply
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if got = w.ask("GET", path, token, "", ""); got.text("state") != state {
			return fmt.Errorf("%s is %s and not %s", path, got.body, state)
		}
		return nil
	})
	return got
}

func (w *world) balance(token string) int64 {
	w.t.Helper()
	micros, _ := w.ask("GET", "/api/v1/billing/balance", token, "", "").fields()["balance_micros"].(float64)
	return int64(micros)
}

// penniless signs somebody in whose account is empty.
func (w *world) penniless(name string) string {
	w.t.Helper()
	token := w.token(name)
	w.ask("GET", "/api/v1/me", token, "", "")
	return token
}

func newPaymentsWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWhere(t, 1, map[string]string{"payments.reconcile_seconds": "3600"})
}

func TestADepositIsCreditedByItsWebhookOnce(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	opened := w.deposit(ada, "d1", 2500)
	if again := w.ask("POST", "/api/v1/payments/checkout", ada, "d1", `{"amount_minor":2500}`); again.text("id") != opened.text("id") || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a repeat answers %d %s", again.status, again.body)
	}
	path := "/api/v1/payments/" + opened.text("id")
	if before := w.balance(ada); before != 0 {
		t.Fatalf("%d micros before anybody paid", before)
	}
	w.stripe.Order("faults", map[string]any{"faults": map[string]any{"duplicate": 1, "reorder": 0.7, "delay_ms": 1500}})
	w.stripe.Pay(opened.text("checkout_url"), "decline")
	w.stripe.Pay(opened.text("checkout_url"), "pay")
	credited := w.stands(path, ada, "credited")
	if credited.text("checkout_url") != "" || credited.fields()["ledger_entry_id"] == nil {
		t.Errorf("a credited payment is %s", credited.body)
	}
	// Everything is told twice, and once more by hand.
	temporaltest.Eventually(t, time.Minute, func() error {
		for _, kind := range []string{"checkout.session.completed", "payment_intent.succeeded"} {
			if got := len(w.hooks.of(kind)); got < 2 {
				return fmt.Errorf("%s was told %d times", kind, got)
			}
		}
		return nil
	})
	for range 3 {
		one := w.hooks.of("checkout.session.completed")[0]
		if again := w.webhook(one.signature, one.body); again.status != 200 {
			t.Errorf("a duplicate answers %d %s", again.status, again.body)
		}
	}
	w.stripe.Order("deliver", map[string]any{"event": eventID(t, w.hooks.of("payment_intent.succeeded")[0])})
	w.settled()
	if after := w.balance(ada); after != 25_000_000 {
		t.Errorf("the balance is %d micros", after)
	}
	if rows := w.field(`SELECT count(*)::text || ' ' || count(DISTINCT payload ->> 'event_id')::text FROM outbox WHERE subject = 'payments.balance_credited'`); rows != "1 1" {
		t.Errorf("balance_credited events: %s", rows)
	}
	if sum := w.field(`SELECT sum(CASE WHEN credit_account_id LIKE 'acct_platformstripe%' THEN amount_micros ELSE -amount_micros END)::text FROM ledger_entries WHERE kind = 'deposit'`); sum != "-25000000" {
		t.Errorf("the clearing account moved by %s", sum)
	}
}

func eventID(t *testing.T, one toldEvent) string {
	t.Helper()
	var event struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(one.body, &event); err != nil {
		t.Fatal(err)
	}
	return event.ID
}

// settled waits until every event that is stored was worked on.
func (w *world) settled() {
	w.t.Helper()
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if left := w.field(`SELECT count(*)::text FROM stripe_events WHERE event_id NOT IN (SELECT event_id FROM stripe_event_outcomes)`); left != "0" {
			return fmt.Errorf("%s events are not worked on yet", left)
		}
		return nil
	})
}

// A webhook that is lost is found by asking: the page itself, and Stripe's list of events.
func TestALostWebhookIsAskedFor(t *testing.T) {
	w := newWorldWhere(t, 1, map[string]string{"payments.reconcile_seconds": "1"})
	ada := w.penniless("ada")
	w.stripe.Order("faults", map[string]any{"faults": map[string]any{"lose": 1, "fail": 0.2, "cut": 0.2}})
	for i := range 3 {
		w.paid(ada, fmt.Sprintf("lost-%d", i), 1000+int64(i))
	}
	if got := w.balance(ada); got != 30_030_000 {
		t.Errorf("the balance is %d micros", got)
	}
	delayed := w.deposit(ada, "delayed", 2000)
	intent, _ := w.stripe.Pay(delayed.text("checkout_url"), "delay")["payment_intent"].(string)
	w.stands("/api/v1/payments/"+delayed.text("id"), ada, "processing")
	w.stripe.Order("settle", map[string]any{"payment_intent": intent, "outcome": "pay"})
	w.stands("/api/v1/payments/"+delayed.text("id"), ada, "credited")
	failing := w.deposit(ada, "failing", 2000)
	intent, _ = w.stripe.Pay(failing.text("checkout_url"), "delay")["payment_intent"].(string)
	w.stripe.Order("settle", map[string]any{"payment_intent": intent, "outcome": "decline"})
	w.stands("/api/v1/payments/"+failing.text("id"), ada, "failed")
	expiring := w.deposit(ada, "expiring", 2000)
	w.stripe.Pay(expiring.text("checkout_url"), "expire")
	w.stands("/api/v1/payments/"+expiring.text("id"), ada, "expired")
	if got := w.balance(ada); got != 50_030_000 {
		t.Errorf("the balance is %d micros", got)
	}
	temporaltest.Eventually(t, time.Minute, func() error {
		if asked := w.field(`SELECT count(*)::text FROM stripe_events WHERE source = 'asked'`); asked == "0" {
			return fmt.Errorf("%s events were asked for", asked)
		}
		return nil
	})
	if told := w.field(`SELECT count(*)::text FROM stripe_events WHERE source = 'webhook'`); told != "0" {
		t.Errorf("%s lost events were told", told)
	}
	if events := w.field(`SELECT string_agg(DISTINCT payload -> 'payload' ->> 'state', ' ' ORDER BY payload -> 'payload' ->> 'state') FROM outbox WHERE subject = 'payments.deposit_failed'`); events != "expired failed" {
		t.Errorf("deposit_failed events tell of %q", events)
	}
}

func TestAWebhookThatIsNotStripesIsRefusedAndWritesNothing(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	w.paid(ada, "d1", 1000)
	w.settled()
	now := time.Now()
	fresh := func(id string) []byte {
		return fmt.Appendf(nil, `{"id":%q,"object":"event","type":"checkout.session.completed","api_version":"2023-10-16","created":%d,"data":{"object":{"id":"cs_test_none","object":"checkout.session","metadata":null}}}`, id, now.Unix())
	}
	genuine := w.hooks.of("checkout.session.completed")[0]
	altered := bytes.Replace(genuine.body, []byte(`1000`), []byte(`9000`), 1)
	if bytes.Equal(altered, genuine.body) {
		t.Fatal("there is nothing to alter")
	}
	forged := fresh("evt_forged")
	before := w.rows()
	// odd is a body that is signed and that Stripe never sends.
	odd := func(field, value string) []byte {
		event := map[string]string{"id": `"evt_odd"`, "type": `"charge.dispute.created"`, "created": fmt.Sprint(now.Unix()), "object": `{"id":"dp_odd","object":"dispute","payment_intent":"pi_odd"}`}
		event[field] = value
		return fmt.Appendf(nil, `{"id":%s,"object":"event","type":%s,"api_version":"2023-10-16","created":%s,"data":{"object":%s}}`, event["id"], event["type"], event["created"], event["object"])
	}
	long := `"` + strings.Repeat("x", 300) + `"`
	for name, body := range map[string][]byte{
		"a long id": odd("id", long), "an id with U+0000": odd("id", `"evt_\u0000"`), "no id": odd("id", `""`), "a number as id": odd("id", "7"),
		"a long type": odd("type", long), "a type with U+0000": odd("type", `"charge\u0000"`), "no type": odd("type", `null`),
		"a time before all": odd("created", "-1"), "a time beyond any": odd("created", "253402300800"), "a time that is none": odd("created", "1e400"), "a text as time": odd("created", `"now"`),
		"a long object id": odd("object", `{"id":`+long+`}`), "an object id with U+0000": odd("object", `{"id":"dp_\u0000"}`), "no object": odd("object", `7`),
		"an intent with U+0000": odd("object", `{"id":"dp_odd","payment_intent":"pi_\u0000"}`), "a long intent": odd("object", `{"id":"dp_odd","payment_intent":{"id":`+long+`}}`),
		"metadata that is none": odd("object", `{"id":"dp_odd","metadata":[1]}`),
	} {
		if got := w.webhook(stripetest.Sign(body, w.signing, now), body); got.status != 400 || got.text("code") != "invalid_request" {
			t.Errorf("%s: answered %d %s", name, got.status, got.body)
		}
	}
	for name, c := range map[string]struct {
		signature string
		body      []byte
		status    int
		code      string
	}{
		"nothing signed":                    {"", forged, 400, "stripe_signature_invalid"},
		"no signature of Stripe's form":     {"t=1,v1=zz", forged, 400, "stripe_signature_invalid"},
		"forged":                            {stripetest.Sign(forged, "whsec_guessed0123456789", now), forged, 400, "stripe_signature_invalid"},
		"of another account":                {stripetest.Sign(forged, w.stripe.Listen("http://127.0.0.1:1/"), now), forged, 400, "stripe_signature_invalid"},
		"altered":                           {genuine.signature, altered, 400, "stripe_signature_invalid"},
		"replayed after 300 s":              {stripetest.Sign(forged, w.signing, now.Add(-301*time.Second)), forged, 400, "stripe_signature_invalid"},
		"larger than any event":             {stripetest.Sign(forged, w.signing, now), bytes.Repeat([]byte("x"), 257<<10), 413, "request_too_large"},
		"signed and no event":               {stripetest.Sign([]byte(`{"a":null}`), w.signing, now), []byte(`{"a":null}`), 400, "invalid_request"},
		"signed and no JSON":                {stripetest.Sign([]byte("\x00"), w.signing, now), []byte("\x00"), 400, "invalid_request"},
		"signed by the older secret, empty": {stripetest.Sign(nil, olderSecret, now), nil, 400, "invalid_request"},
	} {
		if got := w.webhook(c.signature, c.body); got.status != c.status || got.text("code") != c.code {
			t.Errorf("%s: answered %d %s, not %d %s", name, got.status, got.body, c.status, c.code)
		}
	}
	if after := w.rows(); !maps.Equal(before, after) {
		t.Errorf("what is refused writes: %v and then %v", before, after)
	}
	// Signed by either secret it is kept, whatever it is about; one that is about nothing of ours moves nothing.
	for name, secret := range map[string]string{"evt_current": w.signing, "evt_older": olderSecret} {
		body := fresh(name)
		if got := w.webhook(stripetest.Sign(body, secret, time.Now().Add(-295*time.Second)), body); got.status != 200 {
			t.Errorf("%s is answered %d %s", name, got.status, got.body)
		}
	}
	w.settled()
	if outcomes := w.field(`SELECT string_agg(outcome, ' ') FROM stripe_event_outcomes WHERE event_id IN ('evt_current', 'evt_older')`); outcomes != "unmatched unmatched" {
		t.Errorf("they came to %q", outcomes)
	}
	if got := w.balance(ada); got != 10_000_000 {
		t.Errorf("the balance is %d micros", got)
	}
}

func TestADepositIsRefusedBeforeStripeHearsOfIt(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	before := w.rows()
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"below the least":              {`{"amount_minor":999}`, 422, "deposit_out_of_range"},
		"beyond the most":              {`{"amount_minor":100001}`, 422, "deposit_out_of_range"},
		"another currency":             {`{"amount_minor":1000,"currency":"eur"}`, 422, "currency_mismatch"},
		"back to somebody else's page": {`{"amount_minor":1000,"success_url":"https://evil.example/"}`, 422, "return_url_refused"},
		"back by another scheme":       {`{"amount_minor":1000,"cancel_url":"javascript:alert(1)"}`, 422, "return_url_refused"},
		"back to a user at our host":   {`{"amount_minor":1000,"success_url":"http://localhost:8081@evil.example/"}`, 422, "return_url_refused"},
		"nothing":                      {`{"amount_minor":0}`, 422, "validation_error"},
	} {
		w.want(w.ask("POST", "/api/v1/payments/checkout", ada, "r-"+strings.ReplaceAll(name, " ", "-"), c.body), c.status, c.code)
	}
	after := w.rows()
	delete(before, "idempotency_records") // a refusal replays, too
	delete(after, "idempotency_records")
	if !maps.Equal(before, after) {
		t.Errorf("what is refused writes: %v and then %v", before, after)
	}
	own := w.ask("POST", "/api/v1/payments/checkout", ada, "own", `{"amount_minor":1000,"success_url":"http://localhost:8081/billing/thanks"}`)
	if own.status != 201 {
		t.Errorf("back to our own page is answered %d %s", own.status, own.body)
	}
}

func TestSixteenRefundsOfTenAgainstFifteen(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	payment := w.paid(ada, "d1", 1500)
	path := "/api/v1/payments/" + payment + "/refunds"
	answers := make([]reply, 16)
	var asking sync.WaitGroup
	for i := range answers {
		asking.Go(func() {
			answers[i] = w.ask("POST", path, ada, fmt.Sprintf("r-%d", i), `{"amount_minor":1000,"reason":"too much"}`)
		})
	}
	asking.Wait()
	refund, passed := "", 0
	for _, answer := range answers {
		switch {
		case answer.status == 201:
			passed, refund = passed+1, answer.text("id")
		case answer.text("code") != "refund_exceeds_payment" && answer.text("code") != "insufficient_balance":
			t.Errorf("a refund is answered %d %s", answer.status, answer.body)
		}
	}
	if passed != 1 {
		t.Fatalf("%d of 16 refunds pass", passed)
	}
	w.stands("/api/v1/refunds/"+refund, ada, "succeeded")
	if got := w.balance(ada); got != 5_000_000 {
		t.Errorf("the balance is %d micros", got)
	}
	w.requirePlatform(map[string]int64{"platform_stripe_clearing": -5_000_000, "platform_refunds_pending": 0})
	w.want(w.ask("POST", path, ada, "r-more", `{"amount_minor":501,"reason":"all"}`), 409, "refund_exceeds_payment")
	listed := w.ask("GET", "/api/v1/refunds?payment_id="+payment, ada, "", "")
	if len(items(listed)) != 1 {
		t.Errorf("refunds: %s", listed.body)
	}
}

// requirePlatform compares the balances of the platform's accounts.
func (w *world) requirePlatform(want map[string]int64) {
	w.t.Helper()
	for kind, micros := range want {
		got := w.field(`SELECT coalesce(sum(CASE WHEN credit_account_id = accounts.id THEN amount_micros ELSE -amount_micros END), 0)::text
			FROM accounts LEFT JOIN ledger_entries ON accounts.id IN (debit_account_id, credit_account_id) WHERE accounts.kind = $1`, kind)
		if got != fmt.Sprint(micros) {
			w.t.Errorf("%s holds %s micros and not %d", kind, got, micros)
		}
	}
}

func TestARefundThatStripeDoesNotTakeIsInTheBalanceAgain(t *testing.T) {
	w := newPaymentsWorld(t)
	ada := w.penniless("ada")
	payment := w.paid(ada, "d1", 3000)
	path := "/api/v1/payments/" + payment + "/refunds"
	w.want(w.ask("POST", path, w.penniless("eve"), "x", `{"amount_minor":100,"reason":"mine"}`), 404, "payment_not_found")

	w.stripe.Order("faults", map[string]any{"faults": map[string]any{"refunds": "refuse"}})
	refused := w.ask("POST", path, ada, "r1", `{"amount_minor":1000,"reason":"refused"}`)
	gone := w.stands("/api/v1/refunds/"+refused.text("id"), ada, "failed")
	if gone.text("failure_reason") != "insufficient_funds" || w.balance(ada) != 30_000_000 {
		t.Errorf("a refused refund is %s, the balance %d", gone.body, w.balance(ada))
	}

	w.stripe.Order("faults", map[string]any{"faults": map[string]any{"refunds": "pending"}})
	for key, outcome := range map[string]string{"r2": "failed", "r3": "succeeded"} {
		pending := w.ask("POST", path, ada, key, `{"amount_minor":1000,"reason":"slow"}`)
		if pending.status != 201 || w.balance(ada) != 20_000_000 {
			t.Fatalf("a pending refund is answered %d %s, the balance is %d", pending.status, pending.body, w.balance(ada))
		}
		w.stripe.Order("refund", map[string]any{"refund": w.atStripe(pending.text("id")), "outcome": outcome})
		w.stands("/api/v1/refunds/"+pending.text("id"), ada, outcome)
		if outcome == "failed" && w.balance(ada) != 30_000_000 {
			t.Errorf("after a failed refund the balance is %d", w.balance(ada))
		}
	}
	// The bank sends the money back days after the refund succeeded.
	last := w.field(`SELECT id FROM refunds WHERE state = 'succeeded'`)
	w.stripe.Order("refund", map[string]any{"refund": w.atStripe(last), "outcome": "failed"})
	w.stands("/api/v1/refunds/"+last, ada, "failed")
	if got := w.balance(ada); got != 30_000_000 {
		t.Errorf("after a returned refund the balance is %d", got)
	}
	w.requirePlatform(map[string]int64{"platform_stripe_clearing": -30_000_000, "platform_refunds_pending": 0})

	w.stripe.Order("faults", map[string]any{"faults": map[string]any{}})
	w.exec(`ALTER TABLE payments DISABLE TRIGGER payments_are_facts`)
	w.exec(`UPDATE payments SET credited_at = now() - interval '31 days' WHERE id = $1`, payment)
	w.exec(`ALTER TABLE payments ENABLE ALWAYS TRIGGER payments_are_facts`)
	w.want(w.ask("POST", path, ada, "late", `{"amount_minor":1000,"reason":"late"}`), 409, "refund_window_exceeded")
	open := w.deposit(ada, "d2", 1000)
	w.want(w.ask("POST", "/api/v1/payments/"+open.text("id")+"/refunds", ada, "early", `{"amount_minor":1000,"reason":"early"}`), 409, "payment_not_credited")
}

// atStripe waits until a refund is at Stripe and answers what it is called there.
func (w *world) atStripe(refund string) (id string) {
	w.t.Helper()
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if id = w.field(`SELECT coalesce(stripe_refund_id, '') FROM refunds WHERE id = $1`, refund); id == "" {
			return fmt.Errorf("%s is not at Stripe", refund)
		}
		return nil
	})
	return id
}
