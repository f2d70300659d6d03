package stripe

import (
	"slices"
	"strings"
	"time"
)

func createCustomer(c *change, _ string) (object, error) {
	made, err := c.fresh("customer", "cus", object{"metadata": metadata(c.given), "email": c.given["email"], "name": c.given["name"]})
	if err != nil {
		return nil, err
	}
	c.put(made)
	return made, c.happened("customer.created", made)
}

// deleteCustomer leaves of a customer that there was one, and detaches their cards.
func deleteCustomer(c *change, id string) (object, error) {
	known, err := c.find("customer", id)
	if err != nil || known["deleted"] == true {
		return nil, missing("customer", id)
	}
	for _, held := range c.objects {
		if text(held, "object") == "payment_method" && text(held, "customer") == id {
			if _, err := detachMethod(c, text(held, "id")); err != nil {
				return nil, err
			}
		}
	}
	gone := object{"id": id, "object": "customer", "deleted": true}
	c.put(gone)
	return gone, c.happened("customer.deleted", known)
}

func metadata(given object) object {
	if found := part(given, "metadata"); found != nil {
		return found
	}
	return object{}
}

const (
	leastSession = 30 * time.Minute
	mostSession  = 24 * time.Hour
	// leastAmount is what Stripe takes at least, in minor units, for most currencies.
	leastAmount = 50
)

func createSession(c *change, _ string) (object, error) {
	expires := c.now + int64(mostSession/time.Second)
	if asked := whole(c.given, "expires_at"); asked != 0 {
		// Stripe, too, lets a clock be late by a little.
		if asked < c.now+int64((leastSession-time.Minute)/time.Second) || asked > expires+60 {
			return nil, badRequest("", "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.")
		}
		expires = asked
	}
	if customer := text(c.given, "customer"); customer != "" {
		if known, err := c.find("customer", customer); err != nil || known["deleted"] == true {
			return nil, missing("customer", customer)
		}
	}
	fields := object{
		"mode": text(c.given, "mode"), "customer": c.given["customer"], "client_reference_id": c.given["client_reference_id"], "expires_at": expires,
		"success_url": c.given["success_url"], "cancel_url": c.given["cancel_url"], "metadata": metadata(c.given), "payment_intent": nil,
		"customer_details": nil, "payment_status": "unpaid", "status": "open",
	}
	switch text(c.given, "mode") {
	case "payment":
		amount, currency, err := total(c.given)
		if err != nil {
			return nil, err
		}
		fields["amount_total"], fields["amount_subtotal"], fields["currency"] = amount, amount, currency
	case "setup":
		fields["payment_status"] = "no_payment_required"
		setup, err := c.fresh("setup_intent", "seti", object{"customer": c.given["customer"], "usage": "off_session"})
		if err != nil {
			return nil, err
		}
		setup["client_secret"] = newID(text(setup, "id") + "_secret")
		c.put(setup)
		fields["setup_intent"] = setup["id"]
	default:
		return nil, badRequest("", "This stand-in speaks the modes payment and setup.")
	}
	made, err := c.fresh("checkout.session", "cs_test", fields)
	if err != nil {
		return nil, err
	}
	made["url"] = c.server.URL() + "/pay/" + text(made, "id")
	kept, err := asJSON(made)
	if err != nil {
		return nil, err
	}
	c.put(kept)
	c.put(intentOf(text(kept, "id"), part(c.given, "payment_intent_data")))
	return made, nil
}

// intentOf keeps what a session will make its PaymentIntent of; it is no object of Stripe and is never answered.
func intentOf(session string, data object) object {
	if data == nil {
		data = object{}
	}
	return object{"id": "intent_of_" + session, "object": "stand_in.intent", "data": data}
}

func total(given object) (amount int64, currency string, err error) {
	for _, item := range list(given, "line_items") {
		line, _ := item.(object)
		price := part(line, "price_data")
		if price == nil {
			return 0, "", badRequest("", "This stand-in takes line items with price_data alone.")
		}
		quantity := whole(line, "quantity")
		if quantity == 0 {
			quantity = 1
		}
		amount, currency = amount+quantity*whole(price, "unit_amount"), strings.ToLower(text(price, "currency"))
	}
	if amount < leastAmount {
		return 0, "", badRequest("amount_too_small", "The Checkout Session's total amount due must add up to at least $0.50 usd")
	}
	return amount, currency, nil
}

func expireSession(c *change, id string) (object, error) {
	session, err := c.find("checkout.session", id)
	if err != nil {
		return nil, err
	}
	return c.expire(session)
}

func (c *change) expire(session object) (object, error) {
	if text(session, "status") != "open" {
		return nil, badRequest("", "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of `%s`.", text(session, "status"))
	}
	session["status"], session["url"] = "expired", nil
	c.put(session)
	return session, c.happened("checkout.session.expired", session)
}

// Outcomes of somebody's attempt to pay on the page.
const (
	OutcomePay     = "pay"
	OutcomeDecline = "decline"
	OutcomeDelay   = "delay" // a method that settles later, such as a bank debit
	OutcomeExpire  = "expire"
	// OutcomePayThenDecline pays with a card that is declined whenever it is charged without its holder, OutcomePayThenAuthenticate with one
	// whose bank then wants to see its holder.
	OutcomePayThenDecline      = "pay_then_decline"
	OutcomePayThenAuthenticate = "pay_then_authenticate"
)

// attend is what a customer does on the page of a session.
func (c *change) attend(session object, outcome string) error {
	outcomes := []string{OutcomePay, OutcomeDecline, OutcomeDelay, OutcomePayThenDecline, OutcomePayThenAuthenticate}
	if text(session, "status") != "open" || whole(session, "expires_at") <= c.now && outcome != OutcomeExpire {
		return badRequest("", "This Checkout Session is not open any more.")
	}
	if outcome == OutcomeExpire {
		_, err := c.expire(session)
		return err
	}
	if !slices.Contains(outcomes, outcome) {
		return badRequest("", "There is no outcome %q.", outcome)
	}
	session["customer_details"] = object{"address": nil, "email": "customer@example.com", "name": "Ada Example", "phone": nil, "tax_exempt": "none", "tax_ids": []any{}}
	if text(session, "mode") == "setup" {
		return c.setUp(session, outcome)
	}
	asked := part(c.objects["intent_of_"+text(session, "id")], "data")
	intent, err := c.intent(object{
		"amount": session["amount_total"], "currency": session["currency"], "customer": session["customer"], "metadata": metadata(asked),
		"setup_future_usage": asked["setup_future_usage"],
	})
	if err != nil {
		return err
	}
	if outcome == OutcomeDecline {
		return c.decline(intent)
	}
	method, err := c.method(text(session, "customer"), outcome)
	if err != nil {
		return err
	}
	intent["payment_method"] = method["id"]
	session["payment_intent"], session["status"], session["url"] = intent["id"], "complete", nil
	if outcome == OutcomeDelay {
		intent["status"] = "processing"
		c.put(intent)
		if err := c.happened("payment_intent.processing", intent); err != nil {
			return err
		}
	} else {
		session["payment_status"] = "paid"
		if err := c.succeed(intent); err != nil {
			return err
		}
	}
	c.put(session)
	return c.happened("checkout.session.completed", session)
}

func (c *change) setUp(session object, outcome string) error {
	setup, err := c.find("setup_intent", text(session, "setup_intent"))
	if err != nil {
		return err
	}
	if outcome == OutcomeDecline {
		return c.happened("setup_intent.setup_failed", setup)
	}
	method, err := c.method(text(session, "customer"), outcome)
	if err != nil {
		return err
	}
	setup["payment_method"], setup["status"] = method["id"], "succeeded"
	session["status"], session["url"] = "complete", nil
	c.put(setup)
	c.put(session)
	if err := c.happened("setup_intent.succeeded", setup); err != nil {
		return err
	}
	return c.happened("checkout.session.completed", session)
}

// offSession marks a card with what its bank says when it is charged without its holder.
const offSession = "off_session"

func (c *change) method(customer, outcome string) (object, error) {
	fields := object{"metadata": object{}}
	if customer != "" {
		fields["customer"] = customer
	}
	if outcome == OutcomePayThenDecline || outcome == OutcomePayThenAuthenticate {
		fields["metadata"] = object{offSession: outcome}
	}
	made, err := c.fresh("payment_method", "pm", fields)
	if err != nil {
		return nil, err
	}
	part(made, "card")["exp_year"] = time.Unix(c.now, 0).UTC().Year() + 3
	c.put(made)
	return made, nil
}

func detachMethod(c *change, id string) (object, error) {
	method, err := c.find("payment_method", id)
	if err != nil {
		return nil, err
	}
	if method["customer"] == nil {
		return nil, badRequest("", "The payment method you provided is not attached to a customer so detachment is impossible.")
	}
	method["customer"] = nil
	c.put(method)
	return method, nil
}

func createEndpoint(c *change, _ string) (object, error) {
	made, err := c.fresh("webhook_endpoint", "we", object{
		"url": c.given["url"], "enabled_events": list(c.given, "enabled_events"), "description": c.given["description"], "api_version": c.given["api_version"],
	})
	if err != nil {
		return nil, err
	}
	secret := strings.Replace(newID("whsec"), "whsec_1", "whsec_", 1)
	c.put(made)
	c.record.Secrets = map[string]string{text(made, "id"): secret}
	answer, err := asJSON(made)
	if err != nil {
		return nil, err
	}
	answer["secret"] = secret // told once
	return answer, nil
}
