//go:build integration

package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// An allocation whose workflow is lost while it is in use is found, neither billed nor released; an operator resumes it, and it is billed
// for the time between, as if nothing had been, and releases.
func TestAnAllocationWhoseWorkflowIsLostIsResumed(t *testing.T) {
	t.Parallel()
	c := newCompared(t, 1)
	alice := c.token("alice")
	c.ask("GET", "/api/v1/me", alice, "", "")
	c.paid(alice, "deposit", 1000) // something for each check to look at
	path, allocation := c.lostInUse(alice)
	posted := func() string { return c.windowsOf(allocation) }
	c.older()
	c.findAll([]string{"allocation_without_workflow " + allocation, "unbilled " + allocation})
	c.want(c.ask("POST", path+"/release", alice, "too-early", `{}`), 409, "allocation_state_conflict")

	finding := c.finding("allocation_without_workflow")
	resume := reconciliations + "findings/" + finding + "/resume"
	c.want(c.ask("POST", reconciliations+"findings/"+c.finding("unbilled")+"/resume", c.root, "unbilled", mending), 409, "finding_not_resumable")
	before := posted()
	for range 2 {
		if got := c.ask("POST", resume, c.root, "resume", mending); got.status != 200 || got.text("id") != finding {
			t.Fatalf("resuming is answered %d %s", got.status, got.body)
		}
	}
	temporaltest.Eventually(t, 3*time.Minute, func() error {
		c.reconcile(false)
		if found := c.open(); len(found) > 0 {
			return fmt.Errorf("%q stands", found)
		}
		return nil
	})
	if posted() == before {
		t.Error("nothing is billed of the time between")
	}
	if told := c.ask("GET", path+"/explain", alice, "", ""); !strings.Contains(string(told.body), "in use") {
		t.Errorf("it explains itself as %s", told.body)
	}
	c.ask("POST", path+"/release", alice, "release", `{}`)
	c.reach(path, alice, "released")
	c.billedExactly(allocation)
	c.reconcile(true)
	if found := c.open(); len(found) > 0 {
		t.Errorf("afterwards %q stands", found)
	}
}

// What runs out of money while its workflow is lost cannot be released then. Resumed, it hears the order, and the tenant pays to the instant
// at which the money ended, however much was billed beyond it meanwhile.
func TestALostAllocationWhoseMoneyRanOutIsReleasedOnceItIsResumed(t *testing.T) {
	t.Parallel()
	c := newCompared(t, 1)
	c.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.runway_seconds', 1, '0', 'platform'),
		('billing.low_balance_threshold_minor', 1, '0', 'platform'), ('billing.auto_release_grace_seconds', 1, '0', 'platform')`)
	alice := c.token("alice")
	c.ask("GET", "/api/v1/me", alice, "", "")
	c.paid(alice, "deposit", 1000) // something for each check to look at
	path, allocation := c.lostInUse(alice)
	account := c.field(`SELECT account_id FROM allocations WHERE id = $1`, allocation)
	// The last cents pay for 20 to 30 seconds at 3.60 an hour.
	left := c.field(`SELECT (sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END) / 10000 - 2)::bigint::text FROM ledger_entries
		WHERE $1 IN (credit_account_id, debit_account_id)`, account)
	taken := c.ask("POST", "/api/v1/admin/accounts/"+account+"/adjustments", c.root, "taken", `{"amount_minor":-`+left+`,"currency":"usd","reason":"taken back"}`)
	if taken.status != 201 {
		t.Fatalf("a debit is answered %d %s", taken.status, taken.body)
	}
	temporaltest.Eventually(t, time.Minute, func() error {
		if c.field(`SELECT count(*)::text FROM funds_crossings WHERE account_id = $1 AND rung = 'balance_depleted' AND fact = 'reached'`, account) != "1" {
			return errors.New("there is money left")
		}
		return nil
	})
	c.findAll([]string{"allocation_without_workflow " + allocation, "unbilled " + allocation})
	if state := c.field(`SELECT state FROM allocations WHERE id = $1`, allocation); state != "active" {
		t.Errorf("it is %s although nobody is at work on it", state)
	}
	resumed := c.ask("POST", reconciliations+"findings/"+c.finding("allocation_without_workflow")+"/resume", c.root, "resume", mending)
	if resumed.status != 200 {
		t.Fatalf("resuming is answered %d %s", resumed.status, resumed.body)
	}
	temporaltest.Eventually(t, 3*time.Minute, func() error {
		if state := c.field(`SELECT state FROM allocations WHERE id = $1`, allocation); state != "released" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	if ended := c.field(`SELECT release_cause || ' ' || (metered_to = (SELECT at FROM funds_crossings WHERE account_id = $2 AND rung = 'balance_depleted'))::text
		FROM allocations WHERE id = $1`, allocation, account); ended != "funds true" {
		t.Errorf("its end is by funds, and at the instant of the rung: %s", ended)
	}
	if ordered := c.field(`SELECT count(*)::text FROM outbox WHERE subject = 'provisioning.force_release_requested'`); ordered != "1" {
		t.Errorf("its release is told %s times", ordered)
	}
	c.billedExactly(allocation)
	if balance := c.ask("GET", "/api/v1/billing/balance", alice, "", ""); !strings.Contains(string(balance.body), `"balance_micros":0`) &&
		!strings.Contains(string(balance.body), `"balance_micros":-1`) {
		t.Errorf("the balance is %s", balance.body)
	}
	if told := c.ask("GET", path+"/explain", alice, "", ""); !strings.Contains(string(told.body), "released") {
		t.Errorf("it explains itself as %s", told.body)
	}
	c.reconcile(true)
	if found := c.open(); len(found) > 0 {
		t.Errorf("afterwards %q stands", found)
	}
}

// lostInUse is an allocation of three windows and more, whose workflow is lost then.
func (c *compared) lostInUse(token string) (path, allocation string) {
	c.t.Helper()
	path = c.activeAllocation(token)
	allocation = idOf(path)
	temporaltest.Eventually(c.t, time.Minute, func() error {
		if posted := c.windowsOf(allocation); len(posted) == 1 && posted < "3" {
			return errors.New("no three windows are billed yet")
		}
		return nil
	})
	if err := c.atTemporal().TerminateWorkflow(context.Background(), workflows.AllocationWorkflowID(id.Allocation(allocation)), "", "planted"); err != nil {
		c.t.Fatal(err)
	}
	return path, allocation
}

// windowsOf counts the windows that are billed.
func (c *compared) windowsOf(allocation string) string {
	c.t.Helper()
	return c.field(`SELECT count(*)::text FROM ledger_entries WHERE kind = 'usage' AND allocation_id = $1`, allocation)
}

// billedExactly holds the bill of what has ended against the charge rule, and its windows against each other.
func (c *compared) billedExactly(allocation string) {
	c.t.Helper()
	if wrong := c.field(`SELECT (sum(CASE WHEN kind = 'usage' THEN amount_micros ELSE -amount_micros END) - floor(rate_micros_per_hour::numeric
			* round(extract(epoch FROM metered_to - metered_from) * 1000) / 3600000))::text
		FROM ledger_entries JOIN allocations ON allocations.id = allocation_id WHERE allocation_id = $1 GROUP BY rate_micros_per_hour, metered_from, metered_to`, allocation); wrong != "0" {
		c.t.Errorf("the bill is %s micros off", wrong)
	}
	if gaps := c.field(`SELECT count(*)::text FROM (SELECT period_start, lag(period_end) OVER (ORDER BY period_start) AS before FROM ledger_entries
		WHERE kind = 'usage' AND allocation_id = $1) AS windows WHERE before <> period_start`, allocation); gaps != "0" {
		c.t.Errorf("%s windows do not follow upon the one before", gaps)
	}
	if certificate := c.field(`SELECT certificate ->> 'wiped' FROM allocations WHERE id = $1`, allocation); certificate != "true" {
		c.t.Errorf("it is certified as wiped: %s", certificate)
	}
}
