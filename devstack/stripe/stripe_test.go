package stripe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/devstack/stripe"
	"github.com/gpuaas/gpuaas/domain/fault"
	provider "github.com/gpuaas/gpuaas/internal/stripe"
)

const (
	key     = "sk_test_abc"
	signing = "whsec_test"
)

// endpoint is a server that takes webhooks and holds each to its signature.
type endpoint struct {
	*httptest.Server
	mutex  sync.Mutex
	taken  []provider.Event
	refuse int // so many are answered with an error first
}

func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		event, err := provider.Verify(body, r.Header.Get(provider.HeaderSignature), []string{"whsec_other", signing})
		if err != nil {
			t.Errorf("a webhook is refused: %v", err)
		}
		e.mutex.Lock()
		defer e.mutex.Unlock()
		if e.refuse > 0 {
			e.refuse--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		e.taken = append(e.taken, event)
	}))
	t.Cleanup(e.Close)
	return e
}

// eventually waits until a type was taken so often, and answers the last one.
func (e *endpoint) eventually(t *testing.T, kind string, times int) provider.Event {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		e.mutex.Lock()
		var found []provider.Event
		for _, event := range e.taken {
			if event.Type == kind {
				found = append(found, event)
			}
		}
		e.mutex.Unlock()
		if len(found) >= times {
			return found[len(found)-1]
		}
		select {
		case <-deadline:
			t.Fatalf("%s was taken %d times, not %d", kind, len(found), times)
		case <-tick.C:
		}
	}
}

type standIn struct {
	t *testing.T
	*stripe.Server
	client *provider.Client
	config stripe.Config
}

func start(t *testing.T, hook string, faults stripe.Faults) *standIn {
	t.Helper()
	s := &standIn{t: t, config: stripe.Config{Directory: t.TempDir(), Faults: faults, Seed: 7, Endpoints: []stripe.Endpoint{{Key: key, URL: hook, Secret: signing, Events: []string{"*"}}}}}
	s.begin()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func (s *standIn) begin() {
	s.t.Helper()
	running, err := stripe.Start(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Server = running
	s.client = provider.New(provider.Config{SecretKey: key, APIURL: running.URL()})
}

// order asks the control endpoint.
func (s *standIn) order(what string, body map[string]any) map[string]any {
	s.t.Helper()
	sent, _ := json.Marshal(body)
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL()+"/control/"+what, bytes.NewReader(sent))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %v %v", what, response.StatusCode, answer, err)
	}
	return answer
}

// counts that must stay zero: everything that was said on either side is as Stripe describes it.
func (s *standIn) requireValid() {
	s.t.Helper()
	response, err := http.Get(s.URL() + "/control/counts")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var counts map[string]int64
	if err := json.NewDecoder(response.Body).Decode(&counts); err != nil {
		s.t.Fatal(err)
	}
	if counts["invalid_requests"] != 0 || counts["invalid_bodies"] != 0 || counts["requests"] == 0 {
		s.t.Errorf("the counts are %v", counts)
	}
}

func (s *standIn) checkout(ctx context.Context, name string, amount int64) provider.Checkout {
	s.t.Helper()
	customer, err := s.client.CreateCustomer(ctx, "customer/"+name, provider.Metadata{"tenant_id": "tenant_a"})
	if err != nil {
		s.t.Fatal(err)
	}
	made, err := s.client.CreateCheckout(ctx, provider.NewCheckout{
		Key: "payment/" + name, CustomerID: customer, Currency: "usd", Amount: amount, Product: "balance", SuccessURL: "https://gpuaas.example/ok",
		CancelURL: "https://gpuaas.example/no", ExpiresAt: time.Now().Add(time.Hour).Truncate(time.Hour).Add(time.Hour), SaveCard: true, About: provider.Metadata{"payment_id": name},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return made
}

// press is what a browser does on the page.
func (s *standIn) press(page, outcome string) *http.Response {
	s.t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := browser.PostForm(page, url.Values{"outcome": {outcome}})
	if err != nil {
		s.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response
}

func TestADepositIsPaidOnThePageRefundedAndDisputed(t *testing.T) {
	ctx, hooks := t.Context(), newEndpoint(t)
	hooks.refuse = 1
	s := start(t, hooks.URL, stripe.Faults{})
	page := s.checkout(ctx, "a", 2500)
	if page.Paid() || page.URL == "" || page.Status != "open" {
		t.Fatalf("a fresh page is %+v", page)
	}
	if again := s.checkout(ctx, "a", 2500); again.ID != page.ID {
		t.Error("the same idempotency key made another page")
	}
	_, err := s.client.CreateCheckout(ctx, provider.NewCheckout{Key: "payment/a", CustomerID: "cus_x", Currency: "usd", Amount: 100, Product: "x",
		SuccessURL: "https://a.example", CancelURL: "https://a.example", ExpiresAt: time.Now().Add(time.Hour)})
	if !errors.Is(err, fault.InternalError) {
		t.Errorf("the same key for another request: %v", err)
	}
	if declined := s.press(page.URL, "decline"); declined.StatusCode != http.StatusSeeOther {
		t.Errorf("a decline answers %d", declined.StatusCode)
	}
	hooks.eventually(t, "payment_intent.payment_failed", 1)
	if paid := s.press(page.URL, "pay"); paid.Header.Get("Location") != "https://gpuaas.example/ok" {
		t.Errorf("after paying the browser is sent to %q", paid.Header.Get("Location"))
	}
	told := hooks.eventually(t, "checkout.session.completed", 1)
	if told.ObjectID != page.ID || told.Metadata["payment_id"] != "a" {
		t.Errorf("the event is about %+v", told)
	}
	paid, err := s.client.GetCheckout(ctx, page.ID)
	if err != nil || !paid.Paid() || paid.AmountTotal != 2500 || !paid.PaymentIntent.Paid() || paid.Card == nil || paid.Card.Last4 != "4242" {
		t.Fatalf("the page is %+v, %v", paid, err)
	}
	intent := paid.PaymentIntent.ID
	refund, err := s.client.CreateRefund(ctx, "refund/a", intent, 1000, provider.Metadata{"refund_id": "ref_a"})
	if err != nil || refund.Status != "succeeded" {
		t.Fatalf("the refund is %+v, %v", refund, err)
	}
	if found, err := s.client.FindRefund(ctx, intent, "refund_id", "ref_a"); err != nil || found == nil || found.ID != refund.ID {
		t.Errorf("the refund is found as %+v, %v", found, err)
	}
	if _, err := s.client.CreateRefund(ctx, "refund/b", intent, 2000, nil); !errors.Is(err, fault.PaymentRefused) {
		t.Errorf("more than is left: %v", err)
	}
	s.order("refund", map[string]any{"refund": refund.ID, "outcome": "failed"})
	hooks.eventually(t, "charge.refund.updated", 1)
	dispute, _ := s.order("dispute", map[string]any{"payment_intent": intent})["id"].(string)
	hooks.eventually(t, "charge.dispute.funds_withdrawn", 1)
	if open, err := s.client.GetDispute(ctx, dispute); err != nil || open.Won() || open.Lost() || open.Inquiry() || open.PaymentIntentID != intent || open.Amount != 2500 {
		t.Errorf("the dispute is %+v, %v", open, err)
	}
	if _, err := s.client.CreateRefund(ctx, "refund/c", intent, 100, nil); !errors.Is(err, fault.PaymentRefused) {
		t.Errorf("a refund of a disputed charge: %v", err)
	}
	s.order("close_dispute", map[string]any{"dispute": dispute, "outcome": "won"})
	hooks.eventually(t, "charge.dispute.funds_reinstated", 1)
	events, err := s.client.EventsSince(ctx, time.Now().Add(-time.Hour))
	if err != nil || len(events) < 7 || !slices.IsSortedFunc(events, func(a, b provider.Event) int { return a.Created.Compare(b.Created) }) {
		t.Errorf("%d events are listed, %v", len(events), err)
	}
	facts, err := os.ReadFile(filepath.Join(s.config.Directory, stripe.FactsName))
	if err != nil || strings.Count(string(facts), "\n") != 5 {
		t.Errorf("the plain log is %s, %v", facts, err)
	}
	s.requireValid()
}

func TestASavedCardIsChargedAndDeclined(t *testing.T) {
	ctx, hooks := t.Context(), newEndpoint(t)
	s := start(t, hooks.URL, stripe.Faults{})
	customer, err := s.client.CreateCustomer(ctx, "customer/b", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		outcome string
		refused bool
		reason  string
	}{"a good card": {"pay", false, ""}, "a bad card": {"pay_then_decline", true, "generic_decline"},
		"a card that wants its holder": {"pay_then_authenticate", true, "authentication_required"}} {
		setup, err := s.client.CreateCheckout(ctx, provider.NewCheckout{Key: "card/" + name, CustomerID: customer, SuccessURL: "https://a.example", CancelURL: "https://a.example", ExpiresAt: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		s.order("pay", map[string]any{"session": setup.ID, "outcome": want.outcome})
		if setup, err = s.client.GetCheckout(ctx, setup.ID); err != nil || setup.Card == nil || !setup.Complete() {
			t.Fatalf("%s: %+v, %v", name, setup, err)
		}
		charged, err := s.client.ChargeCard(ctx, "charge/"+name, customer, setup.Card.PaymentMethodID, "usd", 5000, provider.Metadata{"payment_id": name})
		if errors.Is(err, fault.PaymentRefused) != want.refused || !want.refused && (err != nil || !charged.Paid() || charged.AmountReceived != 5000) {
			t.Errorf("%s: %+v, %v", name, charged, err)
		}
		if want.refused && fault.From(err).Details["reason"] != want.reason {
			t.Errorf("%s is refused with %v", name, fault.From(err).Details)
		}
		found, err := s.client.FindIntent(ctx, customer, time.Now().Add(-time.Minute), "payment_id", name)
		if err != nil || found == nil || found.ID != charged.ID {
			t.Fatalf("%s is found as %+v, %v", name, found, err)
		}
		// What was refused is given up once, and what was paid never.
		if given := s.client.CancelIntent(ctx, charged.ID); (given == nil) != want.refused {
			t.Errorf("%s is given up: %v", name, given)
		}
		if found, err := s.client.GetIntent(ctx, charged.ID); err != nil || (found.Status == provider.IntentCanceled) != want.refused {
			t.Errorf("%s is %+v in the end, %v", name, found, err)
		}
	}
	s.requireValid()
}

func TestACustomerIsForgottenWithTheirCards(t *testing.T) {
	hooks := newEndpoint(t)
	s := start(t, hooks.URL, stripe.Faults{})
	customer, err := s.client.CreateCustomer(t.Context(), "customer/gone", nil)
	if err != nil {
		t.Fatal(err)
	}
	page := provider.NewCheckout{Key: "card/gone", CustomerID: customer, SuccessURL: "https://a.example", CancelURL: "https://a.example", ExpiresAt: time.Now().Add(time.Hour)}
	opened, err := s.client.CreateCheckout(t.Context(), page)
	if err != nil {
		t.Fatal(err)
	}
	s.order("pay", map[string]any{"session": opened.ID, "outcome": "pay"})
	saved, err := s.client.GetCheckout(t.Context(), opened.ID)
	if err != nil || saved.Card == nil {
		t.Fatalf("the card is %+v, %v", saved.Card, err)
	}
	for range 2 {
		if err := s.client.DeleteCustomer(t.Context(), customer); err != nil {
			t.Fatal(err)
		}
	}
	if charged, err := s.client.ChargeCard(t.Context(), "charge/gone", customer, saved.Card.PaymentMethodID, "usd", 5000, nil); !errors.Is(err, fault.PaymentRefused) {
		t.Errorf("the card of somebody forgotten is charged: %+v, %v", charged, err)
	}
	page.Key = "card/again"
	if _, err := s.client.CreateCheckout(t.Context(), page); !errors.Is(err, fault.PaymentRefused) {
		t.Errorf("a page for somebody forgotten is answered %v", err)
	}
	s.requireValid()
}

func TestWhatWasAcknowledgedOutlivesAKill(t *testing.T) {
	ctx, hooks := t.Context(), newEndpoint(t)
	hooks.refuse = 1 << 30
	s := start(t, hooks.URL, stripe.Faults{})
	page := s.checkout(ctx, "c", 1000)
	s.order("pay", map[string]any{"session": page.ID, "outcome": "pay"})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	// A kill may cut a line off.
	journal, err := os.OpenFile(filepath.Join(s.config.Directory, "journal.jsonl"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(journal, `{"account":"sk_test_abc","obj`); err != nil {
		t.Fatal(err)
	}
	_ = journal.Close()
	hooks.mutex.Lock()
	hooks.refuse = 0
	hooks.mutex.Unlock()
	s.begin()
	hooks.eventually(t, "checkout.session.completed", 1)
	if paid, err := s.client.GetCheckout(ctx, page.ID); err != nil || !paid.Paid() {
		t.Errorf("the page is %+v, %v", paid, err)
	}
	if again := s.checkout(ctx, "c", 1000); again.ID != page.ID {
		t.Error("the idempotency key was forgotten")
	}
	facts, err := os.ReadFile(filepath.Join(s.config.Directory, stripe.FactsName))
	if err != nil || strings.Count(string(facts), `"paid"`) != 1 {
		t.Errorf("the plain log is %s, %v", facts, err)
	}
}

func TestTroubleOnDemand(t *testing.T) {
	ctx, hooks := t.Context(), newEndpoint(t)
	s := start(t, hooks.URL, stripe.Faults{})
	page := s.checkout(ctx, "d", 1000)
	s.order("faults", map[string]any{"faults": map[string]any{"fail": 1}})
	if _, err := s.client.GetCheckout(ctx, page.ID); !errors.Is(err, fault.UpstreamError) {
		t.Errorf("a failing Stripe: %v", err)
	}
	s.order("faults", map[string]any{"faults": map[string]any{"cut": 1}})
	if _, err := s.client.CreateCustomer(ctx, "customer/cut", nil); !errors.Is(err, fault.ServiceUnavailable) {
		t.Errorf("a cut connection: %v", err)
	}
	s.order("faults", map[string]any{"faults": map[string]any{"duplicate": 1}})
	s.order("pay", map[string]any{"session": page.ID, "outcome": "pay"})
	hooks.eventually(t, "checkout.session.completed", 2)
	s.order("faults", map[string]any{"faults": map[string]any{"lose": 1}})
	lost := s.checkout(ctx, "e", 1000)
	s.order("pay", map[string]any{"session": lost.ID, "outcome": "pay"})
	events, err := s.client.EventsSince(ctx, time.Now().Add(-time.Hour))
	if err != nil || !slices.ContainsFunc(events, func(e provider.Event) bool { return e.ObjectID == lost.ID && e.Type == "checkout.session.completed" }) {
		t.Errorf("a lost event is not listed: %v", err)
	}
	hooks.mutex.Lock()
	defer hooks.mutex.Unlock()
	if slices.ContainsFunc(hooks.taken, func(e provider.Event) bool { return e.ObjectID == lost.ID }) {
		t.Error("a lost event was delivered")
	}
}

func TestARequestThatStripeDoesNotDescribeIsRefused(t *testing.T) {
	s := start(t, "http://127.0.0.1:1", stripe.Faults{})
	for name, form := range map[string]string{"an unknown parameter": "colour=red", "a wrong type": "amount=many", "nothing that is required": ""} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v1/payment_intents", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s answers %d", name, response.StatusCode)
		}
	}
	if _, err := provider.New(provider.Config{SecretKey: "rk_live", APIURL: s.URL()}).GetIntent(t.Context(), "pi_x"); !errors.Is(err, fault.UpstreamError) {
		t.Errorf("a key that is none: %v", err)
	}
}
