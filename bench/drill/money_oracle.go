package main

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"
)

// microsPerMinor: all accounts of the drill are kept in dollars.
const microsPerMinor = 10_000

// A moneyOracle judges money: what the stand-in for Stripe says was paid, what was accepted of requests, and its own arithmetic give what each
// account must hold.
type moneyOracle struct {
	*oracle
	facts []fact
	bus   busView
}

// money are the invariants of money and of events.
func (o *moneyOracle) money() []check {
	return []check{
		{"an account holds what was paid less what was used, to the micro", o.accounts},
		{"what Stripe took is credited once, and nothing else is", o.deposits},
		{"what Stripe gave back has left the account once", o.givenBack},
		{"money ended in the millisecond in which nothing was left", o.endOfMoney},
		{"each end of an account's money was told of once", o.depletions},
		{"a payment or refund that has ended has no workflow left", o.paymentWorkflows},
		{"every committed event was published", o.published},
		{"what a consumer takes was applied, once", o.applied},
		{"no consumer is stuck", o.notStuck},
		{"no event became a dead letter", o.noLetters},
		{"the chain over the ledger holds, and covers every entry", o.chain},
	}
}

// owners says whose each payment is, by the answers that the customers got.
func (o *moneyOracle) owners() map[string]string {
	found := map[string]string{}
	for _, c := range o.calls {
		if c.Operation == "deposit" {
			found[c.Payment] = c.Account
		}
	}
	return found
}

// intents says whose each PaymentIntent is.
func (o *moneyOracle) intents() map[string]string {
	owners, found := o.owners(), map[string]string{}
	for _, f := range o.facts {
		if f.Fact == "paid" {
			found[f.PaymentIntent] = owners[f.Metadata.PaymentID]
		}
	}
	return found
}

// sign is which way a fact moves an account's money.
func (f fact) sign() int64 {
	switch f.Fact {
	case "paid", "refund_returned", "dispute_reinstated":
		return 1
	case "refunded", "dispute_withdrawn":
		return -1
	default:
		return 0
	}
}

// accounts computes each account from outside: the stand-in's facts, and the charge of every allocation that was accepted.
func (o *moneyOracle) accounts(ctx context.Context, v *verdict) error {
	expected := map[string]*big.Int{}
	owners, intents := o.owners(), o.intents()
	for _, account := range owners {
		expected[account] = new(big.Int)
	}
	for _, f := range o.facts {
		account := intents[f.PaymentIntent]
		if expected[account] == nil {
			v.fault("%s of %d is nobody's: %s", f.Fact, f.Amount, f.PaymentIntent)
			continue
		}
		v.expect(f.sign() != 0, "nobody knows what %q does to an account", f.Fact)
		expected[account].Add(expected[account], big.NewInt(f.sign()*f.Amount*microsPerMinor))
	}
	for _, c := range o.endings() {
		if c.MeteredFrom != nil && c.MeteredTo != nil {
			expected[c.Account].Sub(expected[c.Account], charge(c.Rate, *c.MeteredFrom, *c.MeteredTo))
		}
	}
	for account, want := range expected {
		v.look()
		holds, err := o.holds(ctx, account)
		if err != nil {
			return err
		}
		v.expect(want.Cmp(big.NewInt(holds)) == 0, "%s holds %d micros and must hold %s", account, holds, want)
	}
	return nil
}

// endings are the allocations as they stood when they had ended.
func (o *moneyOracle) endings() []call {
	var found []call
	for _, c := range o.calls {
		if c.Operation == "ended" {
			found = append(found, c)
		}
	}
	return found
}

func (o *moneyOracle) holds(ctx context.Context, account string) (sum int64, err error) {
	err = o.db.QueryRow(ctx, `SELECT coalesce(sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END), 0)::bigint
		FROM ledger_entries WHERE debit_account_id = $1 OR credit_account_id = $1`, account).Scan(&sum)
	return sum, err
}

// deposits holds every payment that the stand-in took against the entries, one for one.
func (o *moneyOracle) deposits(ctx context.Context, v *verdict) error {
	intents, paid := o.intents(), map[string]fact{}
	for _, f := range o.facts {
		if f.Fact == "paid" {
			paid[f.PaymentIntent] = f
		}
	}
	rows, err := o.db.Query(ctx, "SELECT idempotency_key, credit_account_id, amount_micros FROM ledger_entries WHERE kind = 'deposit'")
	if err != nil {
		return err
	}
	credited := map[string]int{}
	var key, account string
	var amount int64
	if _, err := pgx.ForEachRow(rows, []any{&key, &account, &amount}, func() error {
		credited[key]++
		return nil
	}); err != nil {
		return err
	}
	total := 0
	for _, n := range credited {
		total += n
	}
	for intent, f := range paid {
		v.look()
		var entries int
		err := o.db.QueryRow(ctx, `SELECT count(*) FROM ledger_entries WHERE kind = 'deposit' AND idempotency_key = $1 AND credit_account_id = $2 AND amount_micros = $3`,
			"stripe:pi:"+intent, intents[intent], f.Amount*microsPerMinor).Scan(&entries)
		if err != nil {
			return err
		}
		v.expect(entries == 1, "%s of %d was credited %d times", intent, f.Amount, entries)
	}
	v.expect(total == len(paid), "%d deposits stand and %d payments were taken", total, len(paid))
	return nil
}

// givenBack holds refunds and disputes against the entries, account by account.
func (o *moneyOracle) givenBack(ctx context.Context, v *verdict) error {
	intents, net := o.intents(), map[string]int64{}
	for _, f := range o.facts {
		if f.Fact != "paid" {
			v.look()
			net[intents[f.PaymentIntent]] += f.sign() * f.Amount * microsPerMinor
		}
	}
	for account, want := range net {
		var stands int64
		err := o.db.QueryRow(ctx, `SELECT coalesce(sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END), 0)::bigint FROM ledger_entries
			WHERE (debit_account_id = $1 OR credit_account_id = $1) AND kind IN ('refund', 'refund_reversed', 'dispute_withdrawn', 'dispute_reinstated')`, account).Scan(&stands)
		if err != nil {
			return err
		}
		v.expect(stands == want, "%s: refunds and disputes moved %d micros, and Stripe says %d", account, stands, want)
	}
	return nil
}

// endOfMoney computes for each allocation that the money ended the first millisecond at which nothing was left: what was credited before, less
// what the account's other allocations had cost by then. The poor have one allocation at a time.
func (o *moneyOracle) endOfMoney(ctx context.Context, v *verdict) error {
	for _, c := range o.endings() {
		if c.Cause != "funds" || c.MeteredFrom == nil || c.MeteredTo == nil {
			continue
		}
		v.look()
		available := new(big.Int)
		var credited int64
		err := o.db.QueryRow(ctx, `SELECT coalesce(sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END), 0)::bigint FROM ledger_entries
			WHERE (debit_account_id = $1 OR credit_account_id = $1) AND allocation_id IS NULL AND created_at <= $2`, c.Account, *c.MeteredTo).Scan(&credited)
		if err != nil {
			return err
		}
		available.SetInt64(credited)
		for _, other := range o.endings() {
			if other.Account == c.Account && other.Allocation != c.Allocation && other.MeteredTo != nil && other.MeteredTo.Before(*c.MeteredFrom) {
				available.Sub(available, charge(other.Rate, *other.MeteredFrom, *other.MeteredTo))
			}
		}
		after := new(big.Int).Sub(available, charge(c.Rate, *c.MeteredFrom, *c.MeteredTo))
		before := new(big.Int).Sub(available, charge(c.Rate, *c.MeteredFrom, c.MeteredTo.Add(-time.Millisecond)))
		v.expect(after.Sign() <= 0 && before.Sign() > 0, "%s ended at %s with %s micros left, and %s a millisecond before", c.Allocation, *c.MeteredTo, after, before)
	}
	return nil
}

// depletions counts the events that say that an account's money is at its end against the allocations that ended for it.
func (o *moneyOracle) depletions(_ context.Context, v *verdict) error {
	ends, told := map[string]int{}, map[string]int{}
	for _, c := range o.endings() {
		if c.Cause == "funds" {
			ends[c.Account]++
		}
	}
	for _, m := range o.bus.messages {
		if m.eventType == "billing.balance_depleted" {
			told[m.account] += len(m.copies)
		}
	}
	for account, n := range ends {
		v.look()
		v.expect(told[account] == n, "%s: the money ended %d times and %d events say so", account, n, told[account])
	}
	return nil
}

// paymentWorkflows holds the rows of payments and refunds against Temporal.
func (o *moneyOracle) paymentWorkflows(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, `SELECT 'payment/' || id, state FROM payments UNION ALL SELECT 'refund/' || id, state FROM refunds`)
	if err != nil {
		return err
	}
	states := map[string]string{}
	var workflow, state string
	if _, err := pgx.ForEachRow(rows, []any{&workflow, &state}, func() error { states[workflow] = state; return nil }); err != nil {
		return err
	}
	for workflow, state := range states {
		v.look()
		status, err := o.workflows(ctx, workflow)
		if err != nil {
			return fmt.Errorf("%s: %w", workflow, err)
		}
		v.expect(state == "credited" || state == "succeeded" || state == "failed", "%s is still %s", workflow, state)
		v.expect(status == "Completed", "%s is %s and its workflow %s", workflow, state, status)
	}
	return nil
}
