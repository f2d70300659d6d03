package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"time"
)

// customer is an account with whoever does business on it.
type customer struct {
	storm                    *moneyStorm
	random                   *mathrand.Rand
	number                   int
	tenant, project, account string
	// poor is one whose money runs out again and again.
	poor     bool
	payments []string
	// what it has asked for so far, for its keys
	deposits, refunds, turns int
}

// newCustomer makes a tenant of which the drill's user is the owner, and its price.
func (s *moneyStorm) newCustomer(ctx context.Context, number int, owner string) (*customer, error) {
	c := &customer{storm: s, number: number, poor: number%poorEvery == 0, random: mathrand.New(mathrand.NewPCG(s.config.seed, uint64(number)+1))} //nolint:gosec // small
	var tenant struct {
		ID string `json:"id"`
	}
	name := fmt.Sprintf("customer-%d", number)
	if err := s.post(ctx, true, "/api/v1/admin/tenants", c.key("tenant"), map[string]any{"org_id": name, "name": name, "reason": "drill"}, &tenant); err != nil {
		return nil, err
	}
	c.tenant = tenant.ID
	path := "/api/v1/admin/tenants/" + c.tenant
	if err := s.post(ctx, true, path+"/owners", c.key("owner"), map[string]any{"user_id": owner, "reason": "drill"}, &struct{}{}); err != nil {
		return nil, err
	}
	rate := richRate
	if c.poor {
		rate = poorRate
	}
	priced := map[string]bool{}
	for _, sku := range s.skus {
		if priced[sku] {
			continue
		}
		priced[sku] = true
		body := map[string]any{"sku": sku, "currency": "usd", "rate_micros_per_hour": rate, "reason": "drill"}
		if err := s.post(ctx, true, path+"/prices", c.key("price", sku), body, &struct{}{}); err != nil {
			return nil, err
		}
	}
	return c, c.learn(ctx)
}

// learn reads the project and the account that came with the tenant.
func (c *customer) learn(ctx context.Context) error {
	for {
		var balance struct {
			AccountID string `json:"account_id"`
		}
		var projects struct {
			Items []struct {
				ID string `json:"id"`
			} `json:"items"`
		}
		err := errors.Join(c.storm.tenant.Get(ctx, "/api/v1/billing/balance?tenant_id="+c.tenant, &balance), c.storm.tenant.Get(ctx, "/api/v1/projects?tenant_id="+c.tenant, &projects))
		if err == nil && len(projects.Items) > 0 {
			c.project, c.account = projects.Items[0].ID, balance.AccountID
			return nil
		}
		if pauseErr := pause(ctx, 300*time.Millisecond); pauseErr != nil {
			return fmt.Errorf("customer %d: %w", c.number, errors.Join(err, pauseErr))
		}
	}
}

func (c *customer) key(intent ...any) string {
	return named(append([]any{"customer", c.number}, intent...)...)
}

// doBusiness pays, rents and releases until there is nothing left to ask for.
func (c *customer) doBusiness(ctx context.Context) error {
	if !c.poor {
		// Two deposits that race.
		raced := make(chan error, 2)
		for range 2 {
			c.deposits++
			go func(n int) { raced <- c.deposit(ctx, n, richDepositMinor) }(c.deposits)
		}
		if err := errors.Join(<-raced, <-raced); err != nil {
			return err
		}
	}
	for c.storm.left.Add(-1) >= 0 {
		c.turns++
		if err := c.rentOnce(ctx); err != nil {
			return fmt.Errorf("customer %d: %w", c.number, err)
		}
		c.storm.ended.Add(1)
		if c.poor {
			continue
		}
		if err := c.thinkAgain(ctx); err != nil {
			return fmt.Errorf("customer %d: %w", c.number, err)
		}
	}
	return nil
}

// rentOnce has one allocation from the request to its end, which is the customer's word or that of the money.
func (c *customer) rentOnce(ctx context.Context) error {
	if c.poor {
		c.deposits++
		if err := c.deposit(ctx, c.deposits, poorDepositMinor); err != nil {
			return err
		}
	}
	id, err := c.rent(ctx)
	if err != nil || id == "" {
		return err
	}
	state, err := c.storm.waitState(ctx, id, "active", "failed", "released")
	if err != nil {
		return err
	}
	if !c.poor && state == "active" {
		if err := pause(ctx, time.Duration(c.random.Int64N(int64(4*time.Second)))); err != nil {
			return err
		}
		if err := c.storm.release(ctx, id); err != nil {
			return err
		}
	}
	if _, err := c.storm.waitState(ctx, id, "released", "failed"); err != nil {
		return err
	}
	return c.note(ctx, id)
}

// rent asks, with another key each time, until somebody has a node for it.
func (c *customer) rent(ctx context.Context) (string, error) {
	for attempt := 0; ; attempt++ {
		made, err := c.storm.create(ctx, order{sku: c.storm.sku(int64(c.number*31 + c.turns*7 + attempt)), project: c.project}, c.key("rent", c.turns, attempt))
		if err != nil {
			return "", err
		}
		switch made.Code {
		case "":
			return made.Allocation, nil
		case "insufficient_balance", "balance_negative", "sku_unavailable", "payment_disputed", "allocation_admission_expired":
		default:
			return "", fmt.Errorf("an allocation is refused: %d %s", made.Status, made.Code)
		}
		if made.Code == "insufficient_balance" || made.Code == "balance_negative" {
			c.deposits++
			amount := richDepositMinor
			if c.poor {
				amount = poorDepositMinor
			}
			if err := c.deposit(ctx, c.deposits, amount); err != nil {
				return "", err
			}
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// note logs how an allocation stands once it has ended.
func (c *customer) note(ctx context.Context, id string) error {
	var ended struct {
		Rate        int64      `json:"rate_micros_per_hour"`
		Cause       string     `json:"release_cause"`
		MeteredFrom *time.Time `json:"metered_from"`
		MeteredTo   *time.Time `json:"metered_to"`
	}
	for {
		began := time.Now()
		err := c.storm.tenant.Get(ctx, "/api/v1/allocations/"+id, &ended)
		if err == nil {
			c.storm.log.add(call{Operation: "ended", Allocation: id, Account: c.account, Rate: ended.Rate, Cause: ended.Cause, MeteredFrom: ended.MeteredFrom,
				MeteredTo: ended.MeteredTo, Status: http.StatusOK, Began: began, Ended: time.Now()})
			return nil
		}
		if pauseErr := pause(ctx, 300*time.Millisecond); pauseErr != nil {
			return errors.Join(err, pauseErr)
		}
	}
}

// deposit pays into the account and waits until it is there.
func (c *customer) deposit(ctx context.Context, number, amountMinor int) error {
	var payment struct {
		ID          string `json:"id"`
		State       string `json:"state"`
		CheckoutURL string `json:"checkout_url"`
	}
	body := map[string]any{"tenant_id": c.tenant, "amount_minor": amountMinor}
	if err := c.storm.post(ctx, false, "/api/v1/payments/checkout", c.key("deposit", number), body, &payment); err != nil {
		return err
	}
	c.storm.log.add(call{Operation: "deposit", Payment: payment.ID, Account: c.account, AmountMinor: int64(amountMinor), Status: http.StatusCreated, Began: time.Now(), Ended: time.Now()})
	paid := false
	for payment.State != "credited" {
		if payment.CheckoutURL != "" && !paid {
			if err := c.storm.stripe.pay(ctx, payment.CheckoutURL); err != nil {
				return err
			}
			paid = true
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("payment %s is %s: %w", payment.ID, payment.State, err)
		}
		if err := c.storm.tenant.Get(ctx, "/api/v1/payments/"+payment.ID, &payment); err != nil && ctx.Err() != nil {
			return err
		}
		if payment.State == "failed" || payment.State == "expired" || payment.State == "held" {
			return fmt.Errorf("payment %s of %d is %s", payment.ID, amountMinor, payment.State)
		}
	}
	c.storm.mutex.Lock()
	c.payments = append(c.payments, payment.ID)
	c.storm.mutex.Unlock()
	return nil
}

// thinkAgain now and then has something paid back, or disputes it.
func (c *customer) thinkAgain(ctx context.Context) error {
	payment := c.payments[c.random.IntN(len(c.payments))]
	switch c.random.IntN(4) {
	case 0:
		return c.askBack(ctx, payment)
	case 1:
		return c.dispute(ctx, payment)
	default:
		return nil
	}
}

// askBack has a part of a payment paid back. A refusal is an answer, too.
func (c *customer) askBack(ctx context.Context, payment string) error {
	c.refunds++
	amount := 50 + c.random.IntN(200)
	answer, err := c.storm.insist(ctx, c.storm.tenant, http.MethodPost, "/api/v1/payments/"+payment+"/refunds", c.key("refund", c.refunds), map[string]any{"amount_minor": amount, "reason": "drill"})
	if err != nil {
		return err
	}
	entry := call{Operation: "refund", Payment: payment, Account: c.account, AmountMinor: int64(amount), Status: answer.Status, Code: answer.Code(), Began: answer.Began, Ended: answer.Ended}
	if answer.Status == http.StatusCreated {
		var refund struct {
			ID string `json:"id"`
		}
		if err := answer.Into(&refund); err != nil {
			return err
		}
		entry.Refund = refund.ID
	}
	c.storm.log.add(entry)
	return nil
}

// dispute has the bank take a payment back, and decides it one way or the other.
func (c *customer) dispute(ctx context.Context, payment string) error {
	intent, known := c.storm.intentOf(payment)
	if !known {
		return nil
	}
	var dispute struct {
		ID string `json:"id"`
	}
	err := c.storm.stripe.give(ctx, "dispute", map[string]any{"payment_intent": intent, "amount": 300}, &dispute)
	if errors.Is(err, errRefused) {
		return nil // it is disputed already
	}
	if err != nil {
		return err
	}
	if err := pause(ctx, time.Duration(c.random.Int64N(int64(2*time.Second)))); err != nil {
		return err
	}
	outcome := "lost"
	if c.random.IntN(2) == 0 {
		outcome = "won"
	}
	err = c.storm.stripe.give(ctx, "close_dispute", map[string]any{"dispute": dispute.ID, "outcome": outcome}, nil)
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}

// errRefused says that the stand-in did not take an order.
var errRefused = errors.New("the stand-in refuses it")

// stripeControl gives orders to the stand-in, as customers and banks would.
type stripeControl struct{ url, key string }

// pay pays on a page. One that is not open any more was paid by an order whose answer was lost.
func (c stripeControl) pay(ctx context.Context, page string) error {
	session := page[bytes.LastIndexByte([]byte(page), '/')+1:]
	err := c.give(ctx, "pay", map[string]any{"session": session, "outcome": "pay"}, nil)
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}

// give repeats an order until it is answered.
func (c stripeControl) give(ctx context.Context, what string, order map[string]any, into any) error {
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/control/"+what, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.SetBasicAuth(c.key, "")
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			status := response.StatusCode
			if status == http.StatusOK && into != nil {
				err = json.NewDecoder(response.Body).Decode(into)
			}
			_ = response.Body.Close()
			switch {
			case status == http.StatusOK && err == nil:
				return nil
			case status >= 400 && status < 500:
				return fmt.Errorf("%s: %w", what, errRefused)
			}
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return fmt.Errorf("the stand-in does not %s: %w", what, err)
		}
	}
}
