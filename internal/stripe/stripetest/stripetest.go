// Package stripetest gives a test an account of its own at the stand-in for Stripe, and plays the customer and the bank. It needs
// GPUAAS_TEST_STRIPE_URL, which `make test-integration` sets.
package stripetest

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/stripe"
)

// Account is an account that nobody else uses.
type Account struct {
	t   testing.TB
	URL string
	Key string
}

// New makes an account.
func New(t testing.TB) *Account {
	t.Helper()
	address := os.Getenv("GPUAAS_TEST_STRIPE_URL")
	if address == "" {
		t.Fatal("GPUAAS_TEST_STRIPE_URL is not set: run `make test-integration`, or `bin/devstack run` with the part stripe")
	}
	return &Account{t: t, URL: address, Key: "sk_test_" + rand.Text()}
}

// Config is how the account is reached.
func (a *Account) Config() stripe.Config { return stripe.Config{SecretKey: a.Key, APIURL: a.URL} }

// Listen has the account's events sent to an address, and answers the secret that they are signed with.
func (a *Account) Listen(address string) (secret string) {
	a.t.Helper()
	form := url.Values{"url": {address}}
	for i, kind := range stripe.EventTypes() {
		form.Set(fmt.Sprintf("enabled_events[%d]", i), kind)
	}
	answer := a.send("POST", "/v1/webhook_endpoints", "application/x-www-form-urlencoded", []byte(form.Encode()))
	secret, _ = answer["secret"].(string)
	return secret
}

// Order asks the control endpoint: faults, pay, settle, refund, dispute, close_dispute, deliver.
func (a *Account) Order(what string, order map[string]any) map[string]any {
	a.t.Helper()
	body, err := json.Marshal(order)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.send("POST", "/control/"+what, "application/json", body)
}

// Pay is what a customer does on the page at an address: pay, decline, delay, expire.
func (a *Account) Pay(page, outcome string) map[string]any {
	a.t.Helper()
	return a.Order("pay", map[string]any{"session": page[strings.LastIndexByte(page, '/')+1:], "outcome": outcome})
}

// Get reads one of Stripe's objects.
func (a *Account) Get(path string) map[string]any {
	a.t.Helper()
	return a.send("GET", path, "", nil)
}

// Post asks Stripe's API for a change, as somebody with the key would by hand.
func (a *Account) Post(path string, form url.Values) map[string]any {
	a.t.Helper()
	return a.send("POST", path, "application/x-www-form-urlencoded", []byte(form.Encode()))
}

func (a *Account) send(method, path, kind string, body []byte) map[string]any {
	a.t.Helper()
	request, err := http.NewRequest(method, a.URL+path, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+a.Key)
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil || response.StatusCode != http.StatusOK {
		a.t.Fatalf("%s %s answers %d %s", method, path, response.StatusCode, text)
	}
	return answer
}

// Sign is the header Stripe-Signature for a body that Stripe would have sent at an instant.
func Sign(body []byte, secret string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
