//go:build integration

package api_test

import (
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/stripe/stripetest"
)

// paymentRequests are about a payment of the tenant that was credited, and a refund of a part of it.
func (s *scene) paymentRequests() map[string]func(string) subject {
	owner := s.credentials["owner"]
	payment := s.paid(owner, "scene-payment", 100_000)
	refunded := s.ask("POST", "/api/v1/payments/"+payment+"/refunds", owner, "scene-refund", `{"amount_minor":100,"reason":"scene"}`)
	s.stands("/api/v1/refunds/"+refunded.text("id"), owner, "succeeded")
	here := "?tenant_id=" + s.tenant
	requests := map[string]func(string) subject{
		"createCheckout":            always(subject{body: `{"amount_minor":1000,"tenant_id":"` + s.tenant + `"}`}),
		"getPayment":                always(subject{path: map[string]string{"payment_id": payment}}),
		"createRefund":              always(subject{path: map[string]string{"payment_id": payment}, body: `{"amount_minor":100,"reason":"matrix"}`}),
		"getRefund":                 always(subject{path: map[string]string{"refund_id": refunded.text("id")}}),
		"getPaymentReceipt":         always(subject{path: map[string]string{"payment_id": payment}}),
		"getPaymentReceiptDocument": always(subject{path: map[string]string{"payment_id": payment}}),
		"getRefundReceipt":          always(subject{path: map[string]string{"refund_id": refunded.text("id")}}),
		"getRefundReceiptDocument":  always(subject{path: map[string]string{"refund_id": refunded.text("id")}}),
		"listPayments":              always(subject{query: here}),
		"listRefunds":               always(subject{query: here}),
		"createCard":                always(subject{body: `{"tenant_id":"` + s.tenant + `"}`}),
		"getCard":                   s.withCard,
		"deleteCard":                s.withCard,
		"getAutoTopUp":              always(subject{query: here}),
		"putAutoTopUp":              always(subject{query: here, body: `{"enabled":false,"threshold_minor":1000,"amount_minor":1000,"monthly_cap_minor":2000}`}),
		"receiveStripeWebhook":      s.signedByStripe,
		"adminListPayments":         always(subject{}),
		"adminListDisputes":         always(subject{}),
	}
	s.settled()
	return requests
}

// withCard is about the saved card of the tenant, which has one then.
func (s *scene) withCard(string) subject {
	s.made++
	s.exec(`INSERT INTO cards (id, tenant_id, account_id, user_id, state, payment_method_id, brand, last4, correlation_id, saved_at)
		SELECT $1, tenant_id, id, (SELECT id FROM users WHERE username = 'olga'), 'saved', $2, 'visa', '4242', 'scene', now() FROM accounts
		WHERE id = $3 AND NOT EXISTS (SELECT FROM cards WHERE account_id = $3 AND state = 'saved')`,
		string(randomID[id.Card]()), fmt.Sprintf("pm_scene_%d", s.made), s.account)
	return subject{query: "?tenant_id=" + s.tenant}
}

// signedByStripe is an event of Stripe's that has not been told of yet, and is about nothing here.
func (s *scene) signedByStripe(string) subject {
	s.made++
	body := fmt.Sprintf(`{"id":"evt_matrix%d","object":"event","api_version":"2023-10-16","created":1767225600,"type":"customer.created","data":{"object":{"id":"cus_matrix","object":"customer"}}}`, s.made)
	return subject{body: body, header: map[string]string{"Stripe-Signature": stripetest.Sign([]byte(body), s.signing, time.Now())}}
}
