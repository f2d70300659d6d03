package stripe

import (
	"net/http"
	"slices"
	"strings"
)

// intent is a new PaymentIntent that nobody has paid yet.
func (c *change) intent(fields object) (object, error) {
	made, err := c.fresh("payment_intent", "pi", object{"canceled_at": nil, "payment_method": nil})
	if err != nil {
		return nil, err
	}
	for field, value := range fields {
		made[field] = value
	}
	made["client_secret"] = newID(text(made, "id") + "_secret")
	c.put(made)
	return made, c.happened("payment_intent.created", made)
}

func createIntent(c *change, _ string) (object, error) {
	customer, method := text(c.given, "customer"), text(c.given, "payment_method")
	if confirm, _ := c.given["confirm"].(bool); !confirm || method == "" {
		return nil, badRequest("", "This stand-in takes PaymentIntents that are confirmed at once with a saved payment method.")
	}
	saved, err := c.find("payment_method", method)
	if err != nil {
		return nil, err
	}
	if text(saved, "customer") != customer {
		return nil, badRequest("", "The provided PaymentMethod does not belong to the Customer.")
	}
	if whole(c.given, "amount") < leastAmount {
		return nil, badRequest("amount_too_small", "Amount must be at least $0.50 usd")
	}
	intent, err := c.intent(object{
		"amount": c.given["amount"], "currency": strings.ToLower(text(c.given, "currency")), "customer": c.given["customer"], "metadata": metadata(c.given),
		"description": c.given["description"],
	})
	if err != nil {
		return nil, err
	}
	switch part(saved, "metadata")[offSession] {
	case OutcomePayThenDecline:
		return nil, c.refuse(intent, refusal{code: "card_declined", decline: "generic_decline", message: "Your card was declined."})
	case OutcomePayThenAuthenticate:
		return nil, c.refuse(intent, refusal{code: "authentication_required", decline: "authentication_required",
			message: "Your card was declined. This transaction requires authentication."})
	}
	intent["payment_method"] = method
	return intent, c.succeed(intent)
}

// refusal is what a bank says instead of paying.
type refusal struct{ code, decline, message string }

// refuse answers a charge as Stripe does where the bank refused it: with an error that carries the attempt.
func (c *change) refuse(intent object, said refusal) error {
	if err := c.fail(intent, said); err != nil {
		return err
	}
	return &apiError{status: http.StatusPaymentRequired, kind: "card_error", code: said.code, decline: said.decline, message: said.message, intent: intent}
}

// decline is an attempt that the customer's bank refused.
func (c *change) decline(intent object) error {
	return c.fail(intent, refusal{code: "card_declined", decline: "generic_decline", message: "Your card was declined."})
}

func (c *change) fail(intent object, said refusal) error {
	intent["status"] = "requires_payment_method"
	intent["last_payment_error"] = object{"type": "card_error", "code": said.code, "decline_code": said.decline, "message": said.message}
	c.put(intent)
	return c.happened("payment_intent.payment_failed", intent)
}

// cancelIntent gives up an attempt, so that nobody can pay it any more.
func cancelIntent(c *change, id string) (object, error) {
	intent, err := c.find("payment_intent", id)
	if err != nil {
		return nil, err
	}
	if status := text(intent, "status"); status == "succeeded" || status == "canceled" || status == "processing" {
		return nil, badRequest("payment_intent_unexpected_state", "You cannot cancel this PaymentIntent because it has a status of %s.", status)
	}
	intent["status"], intent["canceled_at"], intent["cancellation_reason"] = "canceled", c.now, c.given["cancellation_reason"]
	c.put(intent)
	return intent, c.happened("payment_intent.canceled", intent)
}

// succeed pays a PaymentIntent: a charge is made for it.
func (c *change) succeed(intent object) error {
	charge, err := c.fresh("charge", "ch", object{
		"amount": intent["amount"], "amount_captured": intent["amount"], "captured": true, "currency": intent["currency"], "customer": intent["customer"],
		"payment_intent": intent["id"], "payment_method": intent["payment_method"], "metadata": metadata(intent), "description": nil, "balance_transaction": newID("txn"),
	})
	if err != nil {
		return err
	}
	part(charge, "refunds")["url"] = "/v1/charges/" + text(charge, "id") + "/refunds"
	charge["receipt_url"] = nil
	intent["status"], intent["amount_received"], intent["latest_charge"], intent["last_payment_error"] = "succeeded", intent["amount"], charge["id"], nil
	c.put(charge)
	c.put(intent)
	c.fact("paid", intent, text(intent, "id"), whole(intent, "amount"))
	if err := c.happened("charge.succeeded", charge); err != nil {
		return err
	}
	return c.happened("payment_intent.succeeded", intent)
}

// settle ends a payment by a method that takes its time.
func (c *change) settle(intent object, paid bool) error {
	if text(intent, "status") != "processing" {
		return badRequest("", "The PaymentIntent is not being processed.")
	}
	kind := "checkout.session.async_payment_failed"
	if paid {
		kind = "checkout.session.async_payment_succeeded"
		if err := c.succeed(intent); err != nil {
			return err
		}
	} else if err := c.decline(intent); err != nil {
		return err
	}
	for _, id := range c.order {
		if session := c.objects[id]; text(session, "object") == "checkout.session" && text(session, "payment_intent") == text(intent, "id") {
			session, err := c.find("checkout.session", id)
			if err != nil {
				return err
			}
			if paid {
				session["payment_status"] = "paid"
			}
			c.put(session)
			return c.happened(kind, session)
		}
	}
	return nil
}

// charge that paid a PaymentIntent.
func (c *change) chargeOf(intent string) (object, error) {
	paid, err := c.find("payment_intent", intent)
	if err != nil {
		return nil, err
	}
	if text(paid, "latest_charge") == "" {
		return nil, badRequest("", "This PaymentIntent (%s) does not have a successful charge to refund.", intent)
	}
	return c.find("charge", text(paid, "latest_charge"))
}

// What becomes of refunds, on demand.
const (
	RefundSucceed = "succeed"
	RefundPending = "pending" // until the control endpoint says what became of it
	RefundRefuse  = "refuse"  // Stripe does not take it at all
)

func createRefund(c *change, _ string) (object, error) {
	charge, err := c.chargeOf(text(c.given, "payment_intent"))
	if err != nil {
		return nil, err
	}
	left := whole(charge, "amount") - whole(charge, "amount_refunded")
	amount := whole(c.given, "amount")
	if amount == 0 {
		amount = left
	}
	disputed, _ := charge["disputed"].(bool)
	switch {
	case disputed:
		return nil, badRequest("charge_disputed", "Charge %s has been charged back; cannot issue a refund.", text(charge, "id"))
	case left == 0:
		return nil, badRequest("charge_already_refunded", "Charge %s has already been refunded.", text(charge, "id"))
	case amount > left:
		return nil, badRequest("", "Refund amount (%d) is greater than unrefunded amount on charge (%d)", amount, left)
	case c.faults.Refunds == RefundRefuse:
		return nil, badRequest("insufficient_funds", "You have insufficient funds in your Stripe account.")
	}
	status := "succeeded"
	if c.faults.Refunds == RefundPending {
		status = "pending"
	}
	made, err := c.fresh("refund", "re", object{
		"amount": amount, "charge": charge["id"], "currency": charge["currency"], "metadata": metadata(c.given), "payment_intent": charge["payment_intent"],
		"reason": c.given["reason"], "status": status, "balance_transaction": newID("txn"),
	})
	if err != nil {
		return nil, err
	}
	delete(made, "livemode") // a refund has none
	charge["amount_refunded"] = whole(charge, "amount_refunded") + amount
	charge["refunded"] = amount == left
	c.put(made)
	c.put(charge)
	if status == "succeeded" {
		c.fact("refunded", made, text(made, "payment_intent"), amount)
	}
	return made, c.happened("charge.refunded", charge)
}

// settleRefund says what became of a refund that was pending, or that a bank sent back after all.
func (c *change) settleRefund(refund object, status string) error {
	if !slices.Contains([]string{"succeeded", "failed"}, status) || text(refund, "status") == "failed" || text(refund, "status") == status {
		return badRequest("", "A refund that %s cannot become %s.", text(refund, "status"), status)
	}
	charge, err := c.find("charge", text(refund, "charge"))
	if err != nil {
		return err
	}
	amount := whole(refund, "amount")
	switch before := text(refund, "status"); {
	case status == "succeeded":
		c.fact("refunded", refund, text(refund, "payment_intent"), amount)
	case before == "succeeded":
		c.fact("refund_returned", refund, text(refund, "payment_intent"), amount)
		fallthrough
	default:
		charge["amount_refunded"], charge["refunded"] = whole(charge, "amount_refunded")-amount, false
		refund["failure_reason"] = "lost_or_stolen_card"
	}
	refund["status"] = status
	c.put(refund)
	c.put(charge)
	return c.happened("charge.refund.updated", refund)
}

// dispute opens a dispute about a charge, and takes the money.
func (c *change) dispute(intent, reason string, amount int64) (object, error) {
	charge, err := c.chargeOf(intent)
	if err != nil {
		return nil, err
	}
	if disputed, _ := charge["disputed"].(bool); disputed {
		return nil, badRequest("", "The charge is disputed already.")
	}
	if amount == 0 {
		amount = whole(charge, "amount")
	}
	if reason == "" {
		reason = "fraudulent"
	}
	made, err := c.fresh("dispute", "dp", object{
		"amount": amount, "charge": charge["id"], "currency": charge["currency"], "payment_intent": intent, "reason": reason, "status": "needs_response",
		"is_charge_refundable": false,
	})
	if err != nil {
		return nil, err
	}
	charge["disputed"] = true
	c.put(made)
	c.put(charge)
	c.fact("dispute_withdrawn", made, intent, amount)
	if err := c.happened("charge.dispute.created", made); err != nil {
		return nil, err
	}
	return made, c.happened("charge.dispute.funds_withdrawn", made)
}

// closeDispute decides a dispute; won gives the money back.
func (c *change) closeDispute(dispute object, won bool) error {
	if slices.Contains([]string{"won", "lost"}, text(dispute, "status")) {
		return badRequest("", "The dispute is closed already.")
	}
	dispute["status"] = "lost"
	if won {
		dispute["status"] = "won"
		charge, err := c.find("charge", text(dispute, "charge"))
		if err != nil {
			return err
		}
		charge["disputed"] = false
		c.put(charge)
		c.fact("dispute_reinstated", dispute, text(dispute, "payment_intent"), whole(dispute, "amount"))
	}
	c.put(dispute)
	if err := c.happened("charge.dispute.closed", dispute); err != nil || !won {
		return err
	}
	return c.happened("charge.dispute.funds_reinstated", dispute)
}

// fact writes a line of the plain log.
func (c *change) fact(fact string, about object, intent string, amount int64) {
	c.record.Facts = append(c.record.Facts, Fact{
		At: c.now, Fact: fact, PaymentIntent: intent, ID: text(about, "id"), Amount: amount, Currency: text(about, "currency"), Metadata: metadata(about),
	})
}
