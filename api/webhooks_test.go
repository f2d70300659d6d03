//go:build integration

package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// receiver is a customer's endpoint: what it was told, and how it answers.
type receiver struct {
	*httptest.Server
	mutex  sync.Mutex
	status int
	told   []toldWebhook
}

type toldWebhook struct {
	header http.Header
	body   []byte
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: 204}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Error(err)
		}
		r.mutex.Lock()
		r.told = append(r.told, toldWebhook{request.Header.Clone(), body})
		status := r.status
		r.mutex.Unlock()
		w.WriteHeader(status)
		if status >= 400 {
			_, _ = fmt.Fprintf(w, "try %d\x00", status)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(status int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.status = status
}

func (r *receiver) heard() []toldWebhook {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.told)
}

// listeners is a world in which failing and trying again goes fast.
func listeners(t *testing.T) (w *world, owner string) {
	t.Helper()
	w = newWorldWhere(t, 1, map[string]string{
		"billing.opening_credit_minor": "0", "webhooks.allow_http": "true", "webhooks.retry_initial_seconds": "1", "webhooks.retry_maximum_seconds": "1",
		"webhooks.disable_after_failures": "3", "webhooks.disable_after_seconds": "0", "webhooks.maximum_endpoints": "2",
	})
	w.needBus()
	return w, w.penniless("alice")
}

// listen makes an endpoint and answers its id and its secret.
func (w *world) listen(owner, url, types string) (webhook, secret string) {
	w.t.Helper()
	made := w.ask("POST", "/api/v1/webhooks", owner, "listen-"+url+types, fmt.Sprintf(`{"url":%q,"event_types":[%s]}`, url, types))
	if made.status != 201 {
		w.t.Fatalf("an endpoint is answered %d %s", made.status, made.body)
	}
	endpoint, _ := made.fields()["webhook"].(map[string]any)
	return fmt.Sprint(endpoint["id"]), made.text("secret")
}

// credit gives somebody money, which is an event.
func (w *world) credit(username string) {
	w.t.Helper()
	account := w.field(`SELECT accounts.id FROM accounts JOIN users USING (tenant_id) WHERE username = $1`, username)
	root := w.token("root", "admin")
	made := w.ask("POST", "/api/v1/admin/accounts/"+account+"/adjustments", root, string(randomID[id.Node]()), `{"amount_minor":100,"currency":"usd","reason":"for Ada"}`)
	if made.status != 201 {
		w.t.Fatalf("a credit is answered %d %s", made.status, made.body)
	}
}

func (w *world) hearWebhooks(from *receiver, least int) []toldWebhook {
	w.t.Helper()
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if got := len(from.heard()); got < least {
			return fmt.Errorf("it was told %d times, not %d", got, least)
		}
		return nil
	})
	return from.heard()
}

// onlyDelivery is the one delivery to an endpoint, in a state.
func (w *world) onlyDelivery(owner, webhook, state string) reply {
	w.t.Helper()
	var page struct {
		Items []struct{ ID string }
	}
	temporaltest.Eventually(w.t, time.Minute, func() error {
		answer := w.ask("GET", "/api/v1/webhooks/"+webhook+"/deliveries?state="+state, owner, "", "")
		if answer.status != 200 || json.Unmarshal(answer.body, &page) != nil || len(page.Items) != 1 {
			return fmt.Errorf("of the state %s are %s", state, answer.body)
		}
		return nil
	})
	return w.ask("GET", "/api/v1/webhook-deliveries/"+page.Items[0].ID, owner, "", "")
}

func verified(t *testing.T, secret string, told toldWebhook) bool {
	t.Helper()
	verifier, err := standard.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return verifier.Verify(told.body, told.header) == nil
}

const balanceAdjusted = `"billing.balance_adjusted"`

func TestAnEndpointIsToldOfItsTenantsEvents(t *testing.T) {
	w, alice := listeners(t)
	bob := w.penniless("bob")
	hears, deaf, bobs := newReceiver(t), newReceiver(t), newReceiver(t)
	webhook, secret := w.listen(alice, hears.URL, "")
	w.listen(alice, deaf.URL, `"provisioning.failed"`)
	w.listen(bob, bobs.URL, "")
	again := w.ask("POST", "/api/v1/webhooks", alice, "listen-"+hears.URL, fmt.Sprintf(`{"url":%q,"event_types":[]}`, hears.URL))
	if again.text("secret") != secret || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a repeat is answered %d %s", again.status, again.body)
	}
	w.want(w.ask("POST", "/api/v1/webhooks", alice, "listen-"+hears.URL, `{"url":"https://example.com/"}`), 409, "idempotency_conflict")
	if shown := w.ask("GET", "/api/v1/webhooks/"+webhook, alice, "", ""); strings.Contains(string(shown.body), secret) {
		t.Error("the secret is shown again")
	}
	if held := w.field(`SELECT encode(secret, 'escape') FROM webhook_endpoints WHERE id = $1`, webhook); strings.Contains(held, strings.TrimPrefix(secret, "whsec_")) {
		t.Error("the database holds the secret")
	}
	w.credit("alice")
	told := w.hearWebhooks(hears, 1)[0]
	if !verified(t, secret, told) || verified(t, "whsec_"+strings.Repeat("A", 43)+"=", told) {
		t.Errorf("the signature %s of %s", told.header.Get("Webhook-Signature"), told.body)
	}
	var body struct {
		Type, ID, Timestamp string
		Data                map[string]string
	}
	if err := json.Unmarshal(told.body, &body); err != nil || body.Type != "billing.balance_adjusted" || body.ID != told.header.Get("Webhook-Id") ||
		body.Data["account_id"] == "" || strings.Contains(string(told.body), "Ada") {
		t.Errorf("it is told %s, %v", told.body, err)
	}
	delivery := w.onlyDelivery(alice, webhook, "delivered")
	log, _ := delivery.fields()["log"].([]any)
	if len(log) != 1 || log[0].(map[string]any)["status_code"] != 204.0 || delivery.text("body") != string(told.body) {
		t.Errorf("the delivery is %s", delivery.body)
	}
	w.want(w.ask("GET", "/api/v1/webhook-deliveries/"+delivery.text("id"), bob, "", ""), 404, "webhook_delivery_not_found")
	// What bob's endpoint hears of comes after alice's event, which must not be among it.
	w.credit("bob")
	if got := w.hearWebhooks(bobs, 1); len(got) != 1 || len(deaf.heard()) != 0 || len(hears.heard()) != 1 {
		t.Errorf("bob's heard %d, the one that asked for something else %d, alice's %d", len(got), len(deaf.heard()), len(hears.heard()))
	}
}

func TestAReceiverThatWasDownIsToldLater(t *testing.T) {
	w, alice := listeners(t)
	down := newReceiver(t)
	webhook, secret := w.listen(alice, down.URL, balanceAdjusted)
	down.answers(503)
	w.credit("alice")
	w.hearWebhooks(down, 2)
	pending := w.onlyDelivery(alice, webhook, "pending")
	w.want(w.ask("POST", "/api/v1/webhook-deliveries/"+pending.text("id")+"/redeliver", alice, "early", ""), 409, "webhook_delivery_pending")
	down.answers(200)
	delivery := w.onlyDelivery(alice, webhook, "delivered")
	log, _ := delivery.fields()["log"].([]any)
	first, _ := log[0].(map[string]any)
	if len(log) < 3 || first["outcome"] != "rejected" || first["response"] != "try 503" {
		t.Errorf("its log is %v", log)
	}
	if endpoint := w.ask("GET", "/api/v1/webhooks/"+webhook, alice, "", ""); endpoint.fields()["failures"] != 0.0 {
		t.Errorf("after a success the endpoint is %s", endpoint.body)
	}
	before := len(down.heard())
	again := w.ask("POST", "/api/v1/webhook-deliveries/"+delivery.text("id")+"/redeliver", alice, "again", "")
	if again.status != 200 || again.text("state") != "pending" {
		t.Fatalf("asking for it again is answered %d %s", again.status, again.body)
	}
	heard := w.hearWebhooks(down, before+1)
	for _, told := range heard {
		if !verified(t, secret, told) || told.header.Get("Webhook-Id") != heard[0].header.Get("Webhook-Id") || string(told.body) != string(heard[0].body) {
			t.Errorf("one of several is %s %s", told.header.Get("Webhook-Id"), told.body)
		}
	}
	if twice := w.onlyDelivery(alice, webhook, "delivered"); twice.fields()["round"] != 2.0 {
		t.Errorf("the delivery is %s", twice.body)
	}
}

func TestBothSecretsSignWhileTheyOverlap(t *testing.T) {
	w, alice := listeners(t)
	hears := newReceiver(t)
	webhook, first := w.listen(alice, hears.URL, balanceAdjusted)
	rotate := func(key, body string) string {
		t.Helper()
		made := w.ask("POST", "/api/v1/webhooks/"+webhook+"/secret", alice, key, body)
		if again := w.ask("POST", "/api/v1/webhooks/"+webhook+"/secret", alice, key, body); made.status != 201 || again.text("secret") != made.text("secret") {
			t.Fatalf("a rotation is answered %d %s, its repeat %s", made.status, made.body, again.body)
		}
		return made.text("secret")
	}
	test := func(nth int) toldWebhook {
		t.Helper()
		if sent := w.ask("POST", "/api/v1/webhooks/"+webhook+"/test", alice, fmt.Sprint("test-", nth), ""); sent.status != 201 {
			t.Fatalf("a test is answered %d %s", sent.status, sent.body)
		}
		return w.hearWebhooks(hears, nth)[nth-1]
	}
	second := rotate("r2", `{"overlap_seconds":3600}`)
	if told := test(1); !verified(t, first, told) || !verified(t, second, told) || !strings.Contains(string(told.body), `"webhooks.test"`) {
		t.Errorf("in the overlap the signatures are %s", told.header.Get("Webhook-Signature"))
	}
	third := rotate("r3", `{"overlap_seconds":0}`)
	if told := test(2); verified(t, first, told) || verified(t, second, told) || !verified(t, third, told) {
		t.Errorf("without an overlap the signatures are %s", told.header.Get("Webhook-Signature"))
	}
	w.want(w.ask("POST", "/api/v1/webhooks/"+webhook+"/secret", alice, "r2", `{"overlap_seconds":3600}`), 409, "idempotency_conflict")
}

func TestAnEndpointThatFailsIsDisabledAndTellsSo(t *testing.T) {
	w, alice := listeners(t)
	breaks, watches := newReceiver(t), newReceiver(t)
	webhook, _ := w.listen(alice, breaks.URL, balanceAdjusted)
	w.listen(alice, watches.URL, `"webhooks.endpoint_disabled"`)
	breaks.answers(500)
	w.credit("alice")
	failed := w.onlyDelivery(alice, webhook, "failed")
	if failed.fields()["attempts"] != 3.0 {
		t.Errorf("the delivery is %s", failed.body)
	}
	if told := w.hearWebhooks(watches, 1)[0]; !strings.Contains(string(told.body), webhook) {
		t.Errorf("the other endpoint is told %s", told.body)
	}
	endpoint := w.ask("GET", "/api/v1/webhooks/"+webhook, alice, "", "")
	if endpoint.fields()["enabled"] != false || endpoint.text("disabled_because") != "failing" {
		t.Errorf("the endpoint is %s", endpoint.body)
	}
	temporaltest.Eventually(t, time.Minute, func() error {
		if told := w.ask("GET", "/api/v1/notifications", alice, "", ""); !strings.Contains(string(told.body), "webhooks.endpoint_disabled") {
			return fmt.Errorf("people are told %s", told.body)
		}
		return nil
	})
	// What happens meanwhile is kept for it.
	w.credit("alice")
	skipped := w.onlyDelivery(alice, webhook, "skipped")
	breaks.answers(200)
	before := len(breaks.heard())
	if enabled := w.ask("PATCH", "/api/v1/webhooks/"+webhook, alice, "enable", `{"enabled":true}`); enabled.fields()["enabled"] != true || enabled.fields()["failures"] != 0.0 {
		t.Fatalf("enabling is answered %d %s", enabled.status, enabled.body)
	}
	if again := w.ask("POST", "/api/v1/webhook-deliveries/"+skipped.text("id")+"/redeliver", alice, "kept", ""); again.status != 200 {
		t.Fatalf("asking for what was skipped is answered %d %s", again.status, again.body)
	}
	if told := w.hearWebhooks(breaks, before+1)[before]; told.header.Get("Webhook-Id") != skipped.text("event_id") {
		t.Errorf("it is told %s", told.body)
	}
	// One that says that it is gone is not asked twice.
	breaks.answers(410)
	before = len(breaks.heard())
	w.credit("alice")
	temporaltest.Eventually(t, time.Minute, func() error {
		if endpoint := w.ask("GET", "/api/v1/webhooks/"+webhook, alice, "", ""); endpoint.text("disabled_because") != "gone" {
			return fmt.Errorf("the endpoint is %s", endpoint.body)
		}
		return nil
	})
	if got := len(breaks.heard()); got != before+1 {
		t.Errorf("it was asked %d times after it was gone", got-before)
	}
	if events := w.field(`SELECT count(*)::text FROM outbox WHERE subject = 'webhooks.endpoint_disabled'`); events != "2" {
		t.Errorf("%s events tell that it was disabled twice", events)
	}
}

func TestEndpointsThatAreRefused(t *testing.T) {
	w, alice := listeners(t)
	hears := newReceiver(t)
	for i, url := range []string{"http://10.0.0.1/", "http://[::1]:80/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/latest", "ftp://example.com/", "https://a:b@example.com/"} {
		refused := w.ask("POST", "/api/v1/webhooks", alice, fmt.Sprint("refused-", i), fmt.Sprintf(`{"url":%q}`, url))
		w.want(refused, 422, "webhook_url_refused")
	}
	webhook, _ := w.listen(alice, hears.URL, balanceAdjusted)
	w.listen(alice, hears.URL, `"provisioning.failed"`)
	w.want(w.ask("POST", "/api/v1/webhooks", alice, "one-too-many", `{"url":"https://example.com/"}`), 409, "webhook_limit_reached")
	w.want(w.ask("PATCH", "/api/v1/webhooks/"+webhook, alice, "u1", `{"url":"http://192.168.0.1/"}`), 422, "webhook_url_refused")
	w.want(w.ask("POST", "/api/v1/webhooks", alice, "unknown", `{"url":"https://example.com/","event_types":["billing.usage_recorded"]}`), 422, "validation_error")
	w.credit("alice")
	w.hearWebhooks(hears, 1)
	for range 2 {
		if gone := w.ask("DELETE", "/api/v1/webhooks/"+webhook, alice, "delete", ""); gone.status != 204 {
			t.Errorf("deleting is answered %d %s", gone.status, gone.body)
		}
	}
	w.want(w.ask("GET", "/api/v1/webhooks/"+webhook, alice, "", ""), 404, "webhook_not_found")
	if left := w.field(`SELECT count(*)::text FROM webhook_deliveries`); left != "0" {
		t.Errorf("%s deliveries are left", left)
	}
}
