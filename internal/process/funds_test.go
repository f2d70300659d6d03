//go:build integration

package process_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// The whole ladder for real: two allocations use up what there is, a credit at the last moment averts the end once, policy moves a rung
// while they run, and in the end both are released as of one millisecond, with the balance that the charge rule leaves.
func TestTheLadderIsClimbedDownForReal(t *testing.T) {
	p := newPlatform(t, 2)
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.window_seconds', 1, '1', 'platform'),
		('billing.runway_seconds', 1, '0', 'platform'), ('billing.low_balance_threshold_minor', 1, '0', 'platform'),
		('billing.auto_release_grace_seconds', 1, '4', 'platform')`)
	alice, root := p.signIn(t, "alice"), p.operator(t, "root")
	account := p.text(t, `SELECT accounts.id FROM accounts JOIN users ON users.tenant_id = accounts.tenant_id WHERE username = 'alice'`)
	const left = 28_000 // micros; each allocation costs one a millisecond
	p.exec(t, `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		VALUES ('adjustment_debit', gen_random_uuid(), $1, 'acct_platformcreditusdaaaaaaaaa', 'usd', $2, 'test:spent')`, account, 1_000_000_000-left)
	var allocations []id.Allocation
	for i := range 2 {
		made, err := p.ask(t.Context(), alice, fmt.Sprint("k", i))
		if err != nil || made.status != 201 {
			t.Fatalf("it answers %+v, %v", made, err)
		}
		allocations = append(allocations, made.body.ID)
	}
	reached := func(rung string, crossing int) {
		t.Helper()
		temporaltest.Eventually(t, 40*time.Second, func() error {
			if n := p.count(t, fmt.Sprintf(`SELECT count(*) FROM funds_crossings WHERE rung = '%s' AND crossing = %d AND fact = 'reached'`, rung, crossing)); n != 1 {
				return fmt.Errorf("%s has not been reached %d times", rung, crossing)
			}
			return nil
		})
	}
	for _, allocation := range allocations {
		p.reach(t, allocation, "active", 30*time.Second)
	}
	// What was not low is low at once when the threshold goes up; nobody but the worker that listens tells Funds.
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.low_balance_threshold_minor', 2, '100000', 'platform')`)
	reached("low_balance", 1)
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.low_balance_threshold_minor', 3, '0', 'platform')`)
	reached("auto_release_pending", 1)
	credited, err := replica{url: p.url}.post(t.Context(), root, "/api/v1/admin/accounts/"+account+"/adjustments", "c1", `{"amount_minor":1,"currency":"usd","reason":"goodwill"}`)
	if err != nil || credited.status != 201 {
		t.Fatalf("a credit answers %+v, %v", credited, err)
	}
	reached("auto_release_pending", 2)
	reached("balance_depleted", 1)
	for _, allocation := range allocations {
		p.reach(t, allocation, "released", 30*time.Second)
	}

	if n := p.count(t, `SELECT count(DISTINCT metered_to) FROM allocations WHERE release_cause = 'funds'`); n != 1 {
		t.Errorf("they ended at %d instants", n)
	}
	due := p.count(t, `SELECT sum(floor(extract(epoch FROM metered_to - metered_from) * 1000)) FROM allocations`)
	balance := p.count(t, fmt.Sprintf(`SELECT sum(CASE WHEN credit_account_id = '%[1]s' THEN amount_micros ELSE -amount_micros END) FROM ledger_entries
		WHERE '%[1]s' IN (credit_account_id, debit_account_id)`, account))
	if balance != left+10_000-due || balance > 0 || balance <= -2 {
		t.Errorf("the balance is %d after %d were due, want %d", balance, due, left+10_000-due)
	}
	if n := p.count(t, `SELECT count(*) FROM allocations WHERE metered_to <> (SELECT at FROM funds_crossings WHERE rung = 'balance_depleted')`); n != 0 {
		t.Errorf("%d did not end at the instant of the rung", n)
	}
	for subject, want := range map[string]int{
		"billing.low_balance_warning":  p.count(t, `SELECT count(*) FROM funds_crossings WHERE rung = 'low_balance' AND fact = 'reached'`),
		"billing.auto_release_pending": 2, "billing.balance_depleted": 1, "provisioning.force_release_requested": 2,
	} {
		if n := p.count(t, fmt.Sprintf(`SELECT count(*) FROM outbox WHERE subject = '%s'`, subject)); n != want {
			t.Errorf("%d events %s, want %d", n, subject, want)
		}
	}
	temporaltest.Eventually(t, 20*time.Second, func() error {
		described, err := p.cluster.DescribeWorkflowExecution(t.Context(), workflows.FundsWorkflowID(id.Account(account)), "")
		if err != nil {
			return err
		}
		if described.GetWorkflowExecutionInfo().GetCloseTime() == nil {
			return errors.New("nothing costs money, yet the account is watched")
		}
		return nil
	})
}
