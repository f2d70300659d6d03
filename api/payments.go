package api

import (
	"context"
	"net/url"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type paymentBody struct {
	ID            id.Payment `json:"id" pattern:"^pay_[a-z2-7]{26}$"`
	TenantID      id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	AccountID     id.Account `json:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
	UserID        string     `json:"user_id,omitempty" doc:"Who asked for it."`
	Method        string     `json:"method" enum:"checkout,auto_topup"`
	State         string     `json:"state" enum:"requested,open,processing,credited,failed,expired,held"`
	StateReason   string     `json:"state_reason,omitempty" doc:"What the payment provider said."`
	AmountMinor   int64      `json:"amount_minor"`
	AmountMicros  int64      `json:"amount_micros"`
	Currency      string     `json:"currency" pattern:"^[a-z]{3}$"`
	CheckoutURL   string     `json:"checkout_url,omitempty" doc:"Where it is paid, while it is open."`
	LedgerEntryID int64      `json:"ledger_entry_id,omitempty"`
	ExpiresAt     *moment    `json:"expires_at,omitempty"`
	CreditedAt    *moment    `json:"credited_at,omitempty"`
	CreatedAt     moment     `json:"created_at"`
}

type (
	paymentOut     struct{ Body paymentBody }
	paymentListOut struct{ Body list[paymentBody] }
	paymentFilter  struct {
		Paging
		Where
	}
	adminPaymentFilter struct {
		Paging
		State string `query:"state" enum:"requested,open,processing,credited,failed,expired,held"`
	}
	PaymentPath struct {
		PaymentID id.Payment `path:"payment_id" pattern:"^pay_[a-z2-7]{26}$"`
	}
)

type createCheckoutIn struct {
	IdempotencyKey string `header:"X-Idempotency-Key" required:"true" minLength:"1" maxLength:"255"`
	Body           struct {
		TenantID    id.Tenant `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$"`
		AmountMinor int64     `json:"amount_minor" minimum:"1" maximum:"100000000000"`
		Currency    string    `json:"currency,omitempty" pattern:"^[a-z]{3}$"`
		SaveCard    bool      `json:"save_card,omitempty" doc:"Save the card that is paid with, as the one that an automatic top-up charges."`
		ReturnTo
	}
}

// ReturnTo says where Stripe's page sends the browser afterwards; a page of the console where it says nothing.
type ReturnTo struct {
	SuccessURL string `json:"success_url,omitempty" minLength:"1" maxLength:"2000"`
	CancelURL  string `json:"cancel_url,omitempty" minLength:"1" maxLength:"2000"`
}

// receiveWebhook is the operation that takes what Stripe tells.
const receiveWebhook = "receiveStripeWebhook"

type (
	webhookIn struct {
		Signature string `header:"Stripe-Signature"`
		RawBody   []byte `contentType:"application/json"`
	}
	webhookOut struct {
		Body struct {
			Received bool `json:"received"`
		}
	}
)

func (s *server) paymentOperations() {
	handle(s, "createCheckout", s.createCheckout)
	handle(s, "listPayments", s.listPayments)
	handle(s, "getPayment", s.getPayment)
	handle(s, "adminListPayments", s.adminListPayments)
	handle(s, receiveWebhook, s.receiveWebhook)
}

const (
	// paymentPatience is how long a request waits for Postgres and Stripe.
	paymentPatience = 40 * time.Second
	// billingPage is where a browser is sent back to that was told nothing else.
	billingPage = "/billing/"
)

// createCheckout starts the payment's workflow, whose id derives from the key, and waits until somebody can pay.
func (s *server) createCheckout(ctx context.Context, in *createCheckoutIn) (*paymentOut, error) {
	if len(s.config.WebhookSecrets) == 0 {
		return nil, fault.New(fault.PaymentsDisabled, "")
	}
	who, at := middleware.Principal(ctx), middleware.At(ctx)
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, at.TenantID)
	if err != nil {
		return nil, err
	}
	if in.Body.Currency != "" && in.Body.Currency != account.Currency {
		return nil, fault.Newf(fault.CurrencyMismatch, "The account is kept in %s.", account.Currency).With(map[string]any{"currency": account.Currency})
	}
	amount, err := money.FromMinor(in.Body.AmountMinor)
	if err != nil {
		return nil, fault.New(fault.DepositOutOfRange, "")
	}
	paymentID := deriveID[id.Payment](s, string(at.TenantID), string(who.UserID), "createCheckout", in.IdempotencyKey)
	asked := workflows.OpenPayment{
		PaymentID: paymentID, TenantID: at.TenantID, AccountID: account.ID, UserID: who.UserID, Currency: account.Currency, AmountMicros: amount,
		SaveCard: in.Body.SaveCard, Actor: who.Actor(), CorrelationID: telemetry.Correlation(ctx),
	}
	if asked.SuccessURL, asked.CancelURL, err = s.returnPages(in.Body.ReturnTo, "payment", string(paymentID), "paid"); err != nil {
		return nil, err
	}
	var reply workflows.PaymentReply
	if err := s.order(ctx, paymentPatience, orderedWorkflow{
		id: workflows.PaymentWorkflowID(paymentID), queue: workflows.PaymentsQueue, kind: workflows.PaymentType, update: workflows.OpenUpdate,
		input: workflows.PaymentInput{PaymentID: paymentID}, asked: asked, summary: "Deposit into " + string(account.ID),
	}, &reply); err != nil {
		return nil, err
	}
	if reply.Fault != nil {
		return nil, fromStep(reply.Fault)
	}
	row, err := queries.GetPayment(ctx, s.config.Pool, at.TenantID, paymentID)
	if err != nil {
		return nil, err
	}
	if row.AmountMicros != amount {
		return nil, fault.New(fault.IdempotencyConflict, "This X-Idempotency-Key was used longer ago than answers are kept.")
	}
	return &paymentOut{Body: renderPayment(row)}, nil
}

// returnPages are where a browser is sent back to from Stripe's page, when it is done there and when it is not.
func (s *server) returnPages(to ReturnTo, noun, id, done string) (success, cancel string, err error) {
	if success, err = s.ownPage(to.SuccessURL, noun, id, done); err != nil {
		return "", "", err
	}
	cancel, err = s.ownPage(to.CancelURL, noun, id, "cancelled")
	return success, cancel, err
}

// ownPage is where a browser is sent back to: a page of this site, or refused.
func (s *server) ownPage(asked, noun, id, outcome string) (string, error) {
	own, err := url.Parse(s.config.SignIn.PublicURL)
	if err != nil {
		return "", err
	}
	if asked == "" {
		return own.JoinPath(billingPage).String() + "?" + url.Values{noun: {id}, "outcome": {outcome}}.Encode(), nil
	}
	page, err := url.Parse(asked)
	if err != nil || page.Scheme != own.Scheme || page.Host != own.Host || page.User != nil {
		return "", fault.New(fault.ReturnURLRefused, "").With(map[string]any{"public_url": s.config.SignIn.PublicURL})
	}
	return page.String(), nil
}

func renderPayment(row queries.Payment) paymentBody {
	body := paymentBody{
		ID: row.ID, TenantID: row.TenantID, AccountID: row.AccountID, UserID: text(row.UserID), Method: row.Method, State: string(row.State),
		StateReason: row.StateReason, AmountMinor: row.AmountMicros.Minor(), AmountMicros: int64(row.AmountMicros), Currency: row.Currency,
		ExpiresAt: maybe(row.ExpiresAt), CreditedAt: maybe(row.CreditedAt), CreatedAt: moment(row.CreatedAt),
	}
	if row.State == payment.Open {
		body.CheckoutURL = row.CheckoutURL
	}
	if row.EntryID != nil {
		body.LedgerEntryID = *row.EntryID
	}
	return body
}

func (s *server) getPayment(ctx context.Context, _ *PaymentPath) (*paymentOut, error) {
	row, found := middleware.At(ctx).Object.(queries.Payment)
	if !found {
		return nil, fault.New(fault.PaymentNotFound, "")
	}
	return &paymentOut{Body: renderPayment(row)}, nil
}

// behind is the page of a list that a request asks for.
func (p Paging) behind() (queries.Page, error) {
	from, err := p.start()
	return queries.Page{BeforeTime: from.Time, BeforeID: from.ID, Limit: p.fetch()}, err
}

func (s *server) listPayments(ctx context.Context, in *paymentFilter) (*paymentListOut, error) {
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.PaymentsOfTenant(ctx, s.config.Pool, middleware.At(ctx).TenantID, page)
	if err != nil {
		return nil, err
	}
	return &paymentListOut{Body: paged(in.Paging, rows, placeOfPayment, renderPayment)}, nil
}

func (s *server) adminListPayments(ctx context.Context, in *adminPaymentFilter) (*paymentListOut, error) {
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.AllPayments(ctx, s.config.Pool, payment.State(in.State), page)
	if err != nil {
		return nil, err
	}
	return &paymentListOut{Body: paged(in.Paging, rows, placeOfPayment, renderPayment)}, nil
}

func placeOfPayment(row queries.Payment) after { return after{row.CreatedAt, string(row.ID)} }

// beginPatience is how long Stripe waits for Temporal at most: what is stored is begun later by the sweep.
const beginPatience = 2 * time.Second

// receiveWebhook takes what Stripe tells: the exact bytes are verified before anything of them is read, then stored under the event's id, and
// only then worked on. A repeat is answered as the first and changes nothing.
func (s *server) receiveWebhook(ctx context.Context, in *webhookIn) (*webhookOut, error) {
	outcome, err := s.takeWebhook(ctx, in)
	s.stripeWebhooks.Add(ctx, 1, outcome)
	if err != nil {
		return nil, err
	}
	out := &webhookOut{}
	out.Body.Received = true
	return out, nil
}

// What becomes of a webhook.
const (
	webhookAccepted = "accepted"
	webhookRepeated = "repeated"
	webhookIgnored  = "ignored"
	webhookRefused  = "refused"
	webhookError    = "error"
)

func (s *server) takeWebhook(ctx context.Context, in *webhookIn) (outcome string, err error) {
	event, err := stripe.Verify(in.RawBody, in.Signature, s.config.WebhookSecrets)
	if err != nil {
		return webhookRefused, err
	}
	fresh, err := queries.InsertStripeEvent(ctx, s.config.Pool, event.Stored(queries.StripeEventByWebhook))
	if err != nil {
		return webhookError, err
	}
	if !fresh {
		return webhookRepeated, nil
	}
	if !stripe.Listens(event.Type) {
		if _, err := queries.EndStripeEvent(ctx, s.config.Pool, event.ID, queries.StripeEventIgnored, "", ""); err != nil {
			return webhookError, err
		}
		return webhookIgnored, nil
	}
	s.beginEvent(ctx, event.ID)
	return webhookAccepted, nil
}

func (s *server) beginEvent(ctx context.Context, eventID string) {
	ctx, cancel := context.WithTimeout(ctx, beginPatience)
	defer cancel()
	cluster, err := s.temporal()
	if err == nil {
		err = temporal.BeginWebhookEvent(ctx, cluster, eventID)
	}
	if err != nil {
		s.config.Log.WarnContext(ctx, "an event is stored and will be begun later", "event_id", eventID, "error", err.Error())
	}
}
