//go:build integration

package activities_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

// wants has a tenant's saved card charged an amount at a threshold, up to a cap.
func (w *world) wants(principal identity.Principal, threshold, amount, most money.Micros) {
	w.t.Helper()
	w.exec(`INSERT INTO cards (id, tenant_id, account_id, user_id, state, payment_method_id, brand, last4, correlation_id, saved_at)
		VALUES ($1, $2, $3, $4, 'saved', $1, 'visa', '4242', 'corr', now())`, newID[id.Card](), principal.TenantID, principal.AccountID, principal.UserID)
	w.exec(`INSERT INTO auto_topups (account_id, tenant_id, user_id, enabled, threshold_micros, amount_micros, monthly_cap_micros)
		VALUES ($1, $2, $3, true, $4, $5, $6)`, principal.AccountID, principal.TenantID, principal.UserID, threshold, amount, most)
}

// topUpWorld is an account with 2 000 s of money of which an allocation runs since w.now: at 1 000 s it warns, and 100 s before it is topped up.
func topUpWorld(t *testing.T) (*world, *activities.Funds, identity.Principal) {
	t.Helper()
	w := newWorld(t, 2)
	w.setPolicy("billing.runway_seconds", "0")
	w.setPolicy("billing.low_balance_threshold_minor", "1000")
	w.setPolicy("billing.auto_release_grace_seconds", "100")
	w.setPolicy("payments.auto_topup_lead_seconds", "100")
	principal := w.tenant("ada", 2000*microsASecond)
	funds := &activities.Funds{Pool: w.App, Now: func() time.Time { return w.now }}
	w.inUse(principal, "k1")
	return w, funds, principal
}

func TestReviewRecordsAnAutomaticTopUpOnce(t *testing.T) {
	w, funds, principal := topUpWorld(t)
	began := w.now
	w.wants(principal, 0, 500*microsASecond, 900*microsASecond) // a threshold below the warning counts as the warning's
	review := w.review(funds, principal)
	if review.TopUp != "" || !review.Next.Equal(began.Add(900*time.Second)) {
		t.Fatalf("at first: %+v", review)
	}
	w.now = began.Add(900 * time.Second)
	var mutex sync.Mutex
	charges := map[id.Payment]int{}
	var looking sync.WaitGroup
	for range 8 { // the step delivered eight times at once
		looking.Go(func() {
			review, err := funds.Review(context.Background(), workflows.ReviewFundsIn{AccountID: principal.AccountID, TenantID: principal.TenantID})
			if err != nil {
				t.Error(err)
			}
			mutex.Lock()
			charges[review.TopUp]++
			mutex.Unlock()
		})
	}
	looking.Wait()
	if len(charges) != 1 || charges[""] != 0 {
		t.Fatalf("it is charged by %v", charges)
	}
	if n := w.count(`SELECT count(*) FROM payments WHERE method = 'auto_topup' AND state = 'requested' AND amount_micros = $1 AND card_id IS NOT NULL AND user_id IS NULL`, 500*microsASecond); n != 1 {
		t.Errorf("%d payments were recorded", n)
	}
	if n := w.count(`SELECT count(*) FROM audit_logs WHERE action = 'payment.auto_topup'`); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	// One that Stripe has is not started again, and no other one is recorded beside it.
	w.exec(`UPDATE payments SET state = 'processing', payment_intent_id = 'pi_a'`)
	if review = w.review(funds, principal); review.TopUp != "" || len(review.Standing) != 0 {
		t.Errorf("while it is under way: %+v", review)
	}
	// It is credited; the next one would be more than the month's cap, so the warning comes, and the month's end is waited for.
	w.exec(`ALTER TABLE payments DISABLE TRIGGER payments_are_facts`)
	w.exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		SELECT 'deposit', gen_random_uuid(), 'acct_platformstripeclearingusda', account_id, 'usd', amount_micros, 'stripe:pi:pi_a' FROM payments`)
	w.exec(`UPDATE payments SET state = 'credited', credited_at = now(), entry_id = (SELECT id FROM ledger_entries WHERE kind = 'deposit')`)
	w.exec(`ALTER TABLE payments ENABLE ALWAYS TRIGGER payments_are_facts`)
	if review = w.review(funds, principal); review.TopUp != "" || !review.Next.Equal(began.Add(1400*time.Second)) {
		t.Errorf("after the credit: %+v", review)
	}
	w.now = began.Add(1500 * time.Second)
	if review = w.review(funds, principal); review.TopUp != "" || len(review.Standing) != 1 {
		t.Errorf("at the cap: %+v", review)
	}
	w.exec(`UPDATE auto_topups SET monthly_cap_micros = $1`, 1000*microsASecond)
	if review = w.review(funds, principal); review.TopUp == "" {
		t.Errorf("with a higher cap: %+v", review)
	}
}

func TestNoTopUpIsRecordedThatNobodyWantsOrThatWouldFail(t *testing.T) {
	for name, sql := range map[string]string{
		"off":     `UPDATE auto_topups SET enabled = false`,
		"paused":  `UPDATE auto_topups SET paused_at = now()`,
		"no card": `UPDATE cards SET state = 'leaving'`,
		"not yet": `UPDATE auto_topups SET retry_at = '2026-06-01 12:20:00+00'`,
		"the cap": `INSERT INTO payments (id, tenant_id, account_id, method, currency, amount_micros, card_id, correlation_id, state)
			SELECT 'pay_aaaaaaaaaaaaaaaaaaaaaaaaaa', tenant_id, account_id, 'auto_topup', 'usd', 5000000, id, 'corr', 'held' FROM cards`,
		"nothing left": `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key, created_at)
			SELECT 'adjustment_debit', gen_random_uuid(), account_id, 'acct_platformcreditusdaaaaaaaaa', 'usd', 20000000, 'test:out', '2026-06-01 12:00:00+00' FROM cards`,
	} {
		t.Run(name, func(t *testing.T) {
			w, funds, principal := topUpWorld(t)
			w.wants(principal, 0, 500*microsASecond, 900*microsASecond)
			w.exec(sql)
			w.now = w.now.Add(900 * time.Second)
			review := w.review(funds, principal)
			if review.TopUp != "" || w.count(`SELECT count(*) FROM payments WHERE state = 'requested'`) != 0 {
				t.Errorf("it is charged: %+v", review)
			}
			if name == "not yet" {
				w.now = time.Date(2026, 6, 1, 12, 20, 0, 0, time.UTC)
				if again := w.review(funds, principal); again.TopUp == "" {
					t.Errorf("when it may be: %+v", again)
				}
			}
		})
	}
}

// constraintOf is the constraint that a statement violates; empty for none.
func constraintOf(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.ConstraintName
	}
	return ""
}

// What the review must not do, the database does not do either.
func TestTheDatabaseRefusesASecondChargeAndOneBeyondTheCap(t *testing.T) {
	w, _, principal := topUpWorld(t)
	w.wants(principal, 0, 500*microsASecond, 1100*microsASecond)
	charge := func(state string, amount money.Micros) error {
		_, err := w.App.Exec(t.Context(), `INSERT INTO payments (id, tenant_id, account_id, method, currency, amount_micros, card_id, correlation_id, state)
			SELECT $1, tenant_id, account_id, 'auto_topup', 'usd', $2, id, 'corr', $3 FROM cards`, newID[id.Payment](), int64(amount), state)
		return err
	}
	refused := func(err error, constraint string) {
		t.Helper()
		if constraintOf(err) != constraint {
			t.Errorf("%v, not %s", err, constraint)
		}
	}
	refused(charge("requested", 400*microsASecond), "payments_topup_wanted")
	var charging sync.WaitGroup
	var mutex sync.Mutex
	passed := 0
	for range 8 {
		charging.Go(func() {
			if err := charge("requested", 500*microsASecond); err == nil {
				mutex.Lock()
				passed++
				mutex.Unlock()
			} else if constraint := constraintOf(err); constraint != "payments_one_topup" && constraint != "payments_topup_cap" {
				t.Errorf("refused by %v", err)
			}
		})
	}
	charging.Wait()
	if passed != 1 {
		t.Errorf("%d charges at once", passed)
	}
	w.exec(`UPDATE payments SET state = 'held'`) // it was paid, whatever became of it
	if err := charge("requested", 500*microsASecond); err != nil {
		t.Error(err)
	}
	w.exec(`UPDATE payments SET state = 'held' WHERE state = 'requested'`)
	refused(charge("requested", 500*microsASecond), "payments_topup_cap")
	w.exec(`UPDATE payments SET state = 'failed' WHERE id = (SELECT min(id) FROM payments)`)
	if err := charge("requested", 500*microsASecond); err != nil {
		t.Errorf("what failed counts: %v", err)
	}
	w.exec(`UPDATE payments SET state = 'failed' WHERE state = 'requested'`)
	w.exec(`UPDATE auto_topups SET enabled = false`)
	refused(charge("requested", 500*microsASecond), "payments_topup_wanted")
	if _, err := w.App.Exec(t.Context(), `INSERT INTO cards (id, tenant_id, account_id, user_id, state, payment_method_id, correlation_id)
		SELECT $1, tenant_id, account_id, user_id, 'saved', 'pm_other', 'corr' FROM cards`, newID[id.Card]()); constraintOf(err) != "cards_one_saved" {
		t.Errorf("a second saved card: %v", err)
	}
}
