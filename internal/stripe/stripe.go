// Package stripe is the way to Stripe, or to the stand-in that speaks as Stripe does: the few calls that the platform makes, with a
// time-out, idempotency keys that derive from ids of ours, and errors classified as faults. It imports stripe-go, domain, and
// the rows that events are kept in. What it answers names amounts as Stripe counts them, in the currency's smallest unit (domain/payment).
package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// Config is how Stripe is reached.
type Config struct {
	SecretKey string `env:"STRIPE_SECRET_KEY,required,notEmpty" usage:"secret key of the Stripe account, sk_live_… or sk_test_…; a restricted key needs customers, Checkout, PaymentIntents, PaymentMethods, SetupIntents, charges, balance transactions, refunds, disputes and events"`
	APIURL    string `env:"STRIPE_API_URL" envDefault:"https://api.stripe.com" usage:"where Stripe's API is; the stand-in's address in development"`
}

// Check says what is wrong with it.
func (c Config) Check() []string {
	if parsed, err := url.Parse(c.APIURL); err != nil || (parsed.Scheme != "https" && parsed.Scheme != "http") || parsed.Host == "" || parsed.RawQuery != "" {
		return []string{"STRIPE_API_URL must look like https://api.stripe.com."}
	}
	return nil
}

// APIVersion is the version of Stripe's API that this code is written for; every request names it.
const APIVersion = stripego.APIVersion

// timeout of one request. A repeat of it is the caller's, under the same idempotency key.
const timeout = 20 * time.Second

// Client calls Stripe. It is safe for concurrent use.
type Client struct{ api *client.API }

// New makes a client; nothing is asked yet.
func New(config Config) *Client {
	backend := stripego.GetBackendWithConfig(stripego.APIBackend, &stripego.BackendConfig{
		URL: stripego.String(config.APIURL), HTTPClient: &http.Client{Timeout: timeout}, MaxNetworkRetries: stripego.Int64(0),
		EnableTelemetry: stripego.Bool(false), LeveledLogger: &stripego.LeveledLogger{Level: stripego.LevelNull},
	})
	return &Client{api: client.New(config.SecretKey, &stripego.Backends{API: backend, Connect: backend, Uploads: backend})}
}

func params(ctx context.Context, key string) stripego.Params {
	p := stripego.Params{Context: ctx}
	if key != "" {
		p.IdempotencyKey = stripego.String(key)
	}
	return p
}

// Metadata names our ids on Stripe's objects.
type Metadata map[string]string

// CreateCustomer makes the customer that a tenant is at Stripe. Nothing personal is told: who pays says so on Stripe's page.
func (c *Client) CreateCustomer(ctx context.Context, key string, about Metadata) (id string, err error) {
	made, err := c.api.Customers.New(&stripego.CustomerParams{Params: params(ctx, key), Metadata: about})
	if err != nil {
		return "", classify("make a customer", err)
	}
	return made.ID, nil
}

// Checkout is a page of Stripe's on which somebody pays, or saves a card.
type Checkout struct {
	ID, URL string
	// Status is open, complete or expired; PaymentStatus paid, unpaid or no_payment_required.
	Status, PaymentStatus string
	Currency              string
	AmountTotal           int64
	// PaymentIntent is empty until somebody began to pay.
	PaymentIntent Intent
	Metadata      Metadata
	// SetupIntentID is set where a card is saved and nothing paid; Card once it is.
	Card *Card
}

// Paid says that Stripe has the money.
func (c Checkout) Paid() bool {
	return c.Status == string(stripego.CheckoutSessionStatusComplete) && c.PaymentStatus == string(stripego.CheckoutSessionPaymentStatusPaid)
}

// Complete and Expired say that nothing more is done on the page.
func (c Checkout) Complete() bool { return c.Status == string(stripego.CheckoutSessionStatusComplete) }

// Expired says that the page was closed unpaid.
func (c Checkout) Expired() bool { return c.Status == string(stripego.CheckoutSessionStatusExpired) }

// Card is a saved payment method.
type Card struct {
	PaymentMethodID string
	Brand, Last4    string
	ExpMonth        int64
	ExpYear         int64
}

// NewCheckout asks for a page. A zero Amount saves a card and charges nothing.
type NewCheckout struct {
	Key                   string
	CustomerID            string
	Currency              string
	Amount                int64
	Product               string
	SuccessURL, CancelURL string
	ExpiresAt             time.Time
	SaveCard              bool
	About                 Metadata
}

// CreateCheckout makes a page. Faults: PaymentRefused, UpstreamError, ServiceUnavailable.
func (c *Client) CreateCheckout(ctx context.Context, in NewCheckout) (Checkout, error) {
	asked := &stripego.CheckoutSessionParams{
		Params: params(ctx, in.Key), Customer: stripego.String(in.CustomerID), Metadata: in.About,
		SuccessURL: stripego.String(in.SuccessURL), CancelURL: stripego.String(in.CancelURL), ExpiresAt: stripego.Int64(in.ExpiresAt.Unix()),
	}
	if in.Amount == 0 {
		asked.Mode = stripego.String(string(stripego.CheckoutSessionModeSetup))
		asked.PaymentMethodTypes = stripego.StringSlice([]string{"card"})
		asked.SetupIntentData = &stripego.CheckoutSessionSetupIntentDataParams{Metadata: in.About}
	} else {
		asked.Mode = stripego.String(string(stripego.CheckoutSessionModePayment))
		asked.LineItems = []*stripego.CheckoutSessionLineItemParams{{
			Quantity: stripego.Int64(1),
			PriceData: &stripego.CheckoutSessionLineItemPriceDataParams{
				Currency: stripego.String(in.Currency), UnitAmount: stripego.Int64(in.Amount),
				ProductData: &stripego.CheckoutSessionLineItemPriceDataProductDataParams{Name: stripego.String(in.Product)},
			},
		}}
		asked.PaymentIntentData = &stripego.CheckoutSessionPaymentIntentDataParams{Metadata: in.About}
		if in.SaveCard {
			asked.PaymentIntentData.SetupFutureUsage = stripego.String("off_session")
		}
	}
	made, err := c.api.CheckoutSessions.New(asked)
	if err != nil {
		return Checkout{}, classify("open a checkout", err)
	}
	return checkout(made), nil
}

// GetCheckout reads a page and what was paid on it.
func (c *Client) GetCheckout(ctx context.Context, id string) (Checkout, error) {
	asked := &stripego.CheckoutSessionParams{Params: params(ctx, "")}
	asked.AddExpand("payment_intent.payment_method")
	asked.AddExpand("setup_intent.payment_method")
	found, err := c.api.CheckoutSessions.Get(id, asked)
	if err != nil {
		return Checkout{}, classify("read a checkout", err)
	}
	return checkout(found), nil
}

func checkout(found *stripego.CheckoutSession) Checkout {
	read := Checkout{
		ID: found.ID, URL: found.URL, Status: string(found.Status), PaymentStatus: string(found.PaymentStatus), Currency: string(found.Currency),
		AmountTotal: found.AmountTotal, Metadata: found.Metadata,
	}
	if found.PaymentIntent != nil {
		read.PaymentIntent = intent(found.PaymentIntent)
		read.Card = read.PaymentIntent.Card
	}
	if found.SetupIntent != nil && found.SetupIntent.Status == stripego.SetupIntentStatusSucceeded {
		read.Card = card(found.SetupIntent.PaymentMethod)
	}
	return read
}

// Intent is one attempt to be paid.
type Intent struct {
	ID             string
	Status         string
	Currency       string
	AmountReceived int64
	Metadata       Metadata
	// FailureCode says why the last attempt failed; empty where none did.
	FailureCode string
	Card        *Card
}

// IntentCanceled is the status of an attempt that was given up.
const IntentCanceled = string(stripego.PaymentIntentStatusCanceled)

// Paid says that Stripe has the money.
func (i Intent) Paid() bool { return i.Status == string(stripego.PaymentIntentStatusSucceeded) }

// Processing says that a bank still works on it.
func (i Intent) Processing() bool { return i.Status == string(stripego.PaymentIntentStatusProcessing) }

func intent(found *stripego.PaymentIntent) Intent {
	read := Intent{ID: found.ID, Status: string(found.Status), Currency: string(found.Currency), AmountReceived: found.AmountReceived, Metadata: found.Metadata, Card: card(found.PaymentMethod)}
	if found.LastPaymentError != nil {
		read.FailureCode = string(found.LastPaymentError.Code)
	}
	return read
}

func card(found *stripego.PaymentMethod) *Card {
	if found == nil || found.Card == nil {
		return nil
	}
	return &Card{PaymentMethodID: found.ID, Brand: string(found.Card.Brand), Last4: found.Card.Last4, ExpMonth: found.Card.ExpMonth, ExpYear: found.Card.ExpYear}
}

// ChargeCard charges a saved card without its holder. Faults: PaymentRefused where the bank declines or wants to see the holder; the attempt
// is answered with it.
func (c *Client) ChargeCard(ctx context.Context, key, customer, method, currency string, amount int64, about Metadata) (Intent, error) {
	made, err := c.api.PaymentIntents.New(&stripego.PaymentIntentParams{
		Params: params(ctx, key), Customer: stripego.String(customer), PaymentMethod: stripego.String(method), Currency: stripego.String(currency),
		Amount: stripego.Int64(amount), OffSession: stripego.Bool(true), Confirm: stripego.Bool(true), Metadata: about,
	})
	var answered *stripego.Error
	if errors.As(err, &answered) && answered.PaymentIntent != nil {
		return intent(answered.PaymentIntent), classify("charge a saved card", err)
	}
	if err != nil {
		return Intent{}, classify("charge a saved card", err)
	}
	return intent(made), nil
}

// FindIntent finds the attempt that was made for a customer since an instant under a value of our metadata; nil for none. Stripe forgets
// idempotency keys after a day, and attempts never.
func (c *Client) FindIntent(ctx context.Context, customer string, since time.Time, field, value string) (*Intent, error) {
	asked := &stripego.PaymentIntentListParams{Customer: stripego.String(customer), CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()}}
	asked.Context, asked.Limit = ctx, stripego.Int64(100)
	pages := c.api.PaymentIntents.List(asked)
	for pages.Next() {
		if found := intent(pages.PaymentIntent()); found.Metadata[field] == value {
			return &found, nil
		}
	}
	return nil, classify("list payments", pages.Err())
}

// CancelIntent gives up an attempt, so that it cannot be paid any more. Fault: PaymentRefused where it was paid, or is given up already.
func (c *Client) CancelIntent(ctx context.Context, id string) error {
	_, err := c.api.PaymentIntents.Cancel(id, &stripego.PaymentIntentCancelParams{Params: params(ctx, "")})
	return classify("give up a payment", err)
}

// GetIntent reads an attempt to be paid.
func (c *Client) GetIntent(ctx context.Context, id string) (Intent, error) {
	found, err := c.api.PaymentIntents.Get(id, &stripego.PaymentIntentParams{Params: params(ctx, "")})
	if err != nil {
		return Intent{}, classify("read a payment", err)
	}
	return intent(found), nil
}

// DeleteCustomer forgets a customer with what Stripe knows of them, their cards too; one that is forgotten already is no error. Payments and
// refunds stay, and can still be paid back.
func (c *Client) DeleteCustomer(ctx context.Context, customer string) error {
	_, err := c.api.Customers.Del(customer, &stripego.CustomerParams{Params: params(ctx, "")})
	var answered *stripego.Error
	if errors.As(err, &answered) && answered.Code == stripego.ErrorCodeResourceMissing {
		return nil
	}
	return classify("forget a customer", err)
}

// DetachCard forgets a saved card; one that is forgotten already is no error.
func (c *Client) DetachCard(ctx context.Context, method string) error {
	_, err := c.api.PaymentMethods.Detach(method, &stripego.PaymentMethodDetachParams{Params: params(ctx, "")})
	if err = classify("forget a card", err); errors.Is(err, fault.PaymentRefused) {
		return nil
	}
	return err
}

// Refund is money on its way back.
type Refund struct {
	ID string
	// Status is pending, requires_action, succeeded, failed or canceled.
	Status        string
	FailureReason string
	Currency      string
	Amount        int64
	// PaymentIntentID is what it pays back.
	PaymentIntentID string
	CreatedAt       time.Time
	Metadata        Metadata
}

// CreateRefund sends money back. Fault: PaymentRefused.
func (c *Client) CreateRefund(ctx context.Context, key, paymentIntent string, amount int64, about Metadata) (Refund, error) {
	made, err := c.api.Refunds.New(&stripego.RefundParams{
		Params: params(ctx, key), PaymentIntent: stripego.String(paymentIntent), Amount: stripego.Int64(amount), Metadata: about,
		Reason: stripego.String(string(stripego.RefundReasonRequestedByCustomer)),
	})
	if err != nil {
		return Refund{}, classify("refund a payment", err)
	}
	return refund(made), nil
}

// FindRefund finds the refund that was made under a value of our metadata; nil for none. Stripe forgets idempotency keys after a day, and
// refunds never.
func (c *Client) FindRefund(ctx context.Context, paymentIntent, field, value string) (*Refund, error) {
	asked := &stripego.RefundListParams{PaymentIntent: stripego.String(paymentIntent)}
	asked.Context, asked.Limit = ctx, stripego.Int64(100)
	pages := c.api.Refunds.List(asked)
	for pages.Next() {
		if found := refund(pages.Refund()); found.Metadata[field] == value {
			return &found, nil
		}
	}
	return nil, classify("list refunds", pages.Err())
}

// GetRefund reads a refund.
func (c *Client) GetRefund(ctx context.Context, id string) (Refund, error) {
	found, err := c.api.Refunds.Get(id, &stripego.RefundParams{Params: params(ctx, "")})
	if err != nil {
		return Refund{}, classify("read a refund", err)
	}
	return refund(found), nil
}

func refund(found *stripego.Refund) Refund {
	read := Refund{
		ID: found.ID, Status: string(found.Status), FailureReason: string(found.FailureReason), Currency: string(found.Currency), Amount: found.Amount,
		CreatedAt: time.Unix(found.Created, 0).UTC(), Metadata: found.Metadata,
	}
	if found.PaymentIntent != nil {
		read.PaymentIntentID = found.PaymentIntent.ID
	}
	return read
}

// Dispute is a bank's objection to a payment.
type Dispute struct {
	ID              string
	Status          string
	Reason          string
	Currency        string
	Amount          int64
	PaymentIntentID string
	EvidenceDueBy   time.Time
	CreatedAt       time.Time
}

// Inquiry says that the bank only asks so far, and has taken nothing.
func (d Dispute) Inquiry() bool {
	switch stripego.DisputeStatus(d.Status) {
	case stripego.DisputeStatusWarningNeedsResponse, stripego.DisputeStatusWarningUnderReview, stripego.DisputeStatusWarningClosed:
		return true
	default:
		return false
	}
}

// Won and Lost say how it was decided; an inquiry that was closed is won.
func (d Dispute) Won() bool {
	return d.Status == string(stripego.DisputeStatusWon) || d.Status == string(stripego.DisputeStatusWarningClosed)
}

// Lost says that the customer keeps the money.
func (d Dispute) Lost() bool { return d.Status == string(stripego.DisputeStatusLost) }

// State is how it stands, as we call it.
func (d Dispute) State() payment.DisputeState {
	switch {
	case d.Won():
		return payment.DisputeWon
	case d.Lost():
		return payment.DisputeLost
	default:
		return payment.DisputeOpen
	}
}

// GetDispute reads a dispute.
func (c *Client) GetDispute(ctx context.Context, id string) (Dispute, error) {
	found, err := c.api.Disputes.Get(id, &stripego.DisputeParams{Params: params(ctx, "")})
	if err != nil {
		return Dispute{}, classify("read a dispute", err)
	}
	return dispute(found), nil
}

func dispute(found *stripego.Dispute) Dispute {
	read := Dispute{
		ID: found.ID, Status: string(found.Status), Reason: string(found.Reason), Currency: string(found.Currency), Amount: found.Amount,
		CreatedAt: time.Unix(found.Created, 0).UTC(),
	}
	if found.PaymentIntent != nil {
		read.PaymentIntentID = found.PaymentIntent.ID
	}
	if found.EvidenceDetails != nil && found.EvidenceDetails.DueBy > 0 {
		read.EvidenceDueBy = time.Unix(found.EvidenceDetails.DueBy, 0).UTC()
	}
	return read
}

// classify makes an error of Stripe a fault: PaymentRefused for an answer that a repeat would get again, UpstreamError for Stripe's own
// trouble and for a key that it does not take, ServiceUnavailable where it was not reached.
func classify(what string, err error) error {
	if err == nil {
		return nil
	}
	var answered *stripego.Error
	if !errors.As(err, &answered) {
		return fault.Wrap(fmt.Errorf("%s: %w", what, err), fault.ServiceUnavailable, "")
	}
	// Never the error itself: it may carry whole objects.
	cause := fmt.Errorf("%s: %d %s %s %s (request %s)", what, answered.HTTPStatusCode, answered.Type, answered.Code, answered.Msg, answered.RequestID)
	switch status := answered.HTTPStatusCode; {
	case answered.Type == stripego.ErrorTypeIdempotency:
		return fault.Wrap(cause, fault.InternalError, "")
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusConflict, status == http.StatusTooManyRequests,
		status >= http.StatusInternalServerError, status == 0:
		return fault.Wrap(cause, fault.UpstreamError, "")
	default:
		reason := string(answered.Code)
		if answered.DeclineCode != "" {
			reason = string(answered.DeclineCode)
		}
		details := map[string]any{"reason": reason}
		if answered.PaymentIntent != nil {
			details["attempted"] = true
		}
		return fault.Wrap(cause, fault.PaymentRefused, "").With(details)
	}
}
