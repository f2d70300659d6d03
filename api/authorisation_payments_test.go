//go:build integration

package api_test

// paymentRequests are about a payment of the tenant that was credited, and a refund of a part of it.
func (s *scene) paymentRequests() map[string]func(string) subject {
	owner := s.credentials["owner"]
	payment := s.paid(owner, "scene-payment", 100_000)
	refunded := s.ask("POST", "/api/v1/payments/"+payment+"/refunds", owner, "scene-refund", `{"amount_minor":100,"reason":"scene"}`)
	s.stands("/api/v1/refunds/"+refunded.text("id"), owner, "succeeded")
	here := "?tenant_id=" + s.tenant
	requests := map[string]func(string) subject{
		"createCheckout":       always(subject{body: `{"amount_minor":1000,"tenant_id":"` + s.tenant + `"}`}),
		"getPayment":           always(subject{path: map[string]string{"payment_id": payment}}),
		"createRefund":         always(subject{path: map[string]string{"payment_id": payment}, body: `{"amount_minor":100,"reason":"matrix"}`}),
		"getRefund":            always(subject{path: map[string]string{"refund_id": refunded.text("id")}}),
		"listPayments":         always(subject{query: here}),
		"listRefunds":          always(subject{query: here}),
		"receiveStripeWebhook": always(subject{body: `{"id":"evt_forged"}`}),
		"adminListPayments":    always(subject{}),
		"adminListDisputes":    always(subject{}),
	}
	s.settled()
	return requests
}
