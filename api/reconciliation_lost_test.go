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
	c := newCompared(t, 1)
	alice := c.token("alice")
	c.ask("GET", "/api/v1/me", alice, "", "")
	c.paid(alice, "deposit", 1000) // something for each check to look at
	path := c.activeAllocation(alice)
	allocation := idOf(path)
	posted := func() string {
		return c.field(`SELECT count(*)::text FROM ledger_entries WHERE kind = 'usage' AND allocation_id = $1`, allocation)
	}
	temporaltest.Eventually(t, time.Minute, func() error {
		if len(posted()) == 1 && posted() < "3" {
			return errors.New("no three windows are billed yet")
		}
		return nil
	})
	cluster := c.atTemporal()
	workflow := workflows.AllocationWorkflowID(id.Allocation(allocation))
	if err := cluster.TerminateWorkflow(context.Background(), workflow, "", "planted"); err != nil {
		t.Fatal(err)
	}
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
	if wrong := c.field(`SELECT (sum(CASE WHEN kind = 'usage' THEN amount_micros ELSE -amount_micros END) - floor(rate_micros_per_hour::numeric
			* round(extract(epoch FROM metered_to - metered_from) * 1000) / 3600000))::text
		FROM ledger_entries JOIN allocations ON allocations.id = allocation_id WHERE allocation_id = $1 GROUP BY rate_micros_per_hour, metered_from, metered_to`, allocation); wrong != "0" {
		t.Errorf("the bill is %s micros off", wrong)
	}
	if gaps := c.field(`SELECT count(*)::text FROM (SELECT period_start, lag(period_end) OVER (ORDER BY period_start) AS before FROM ledger_entries
		WHERE kind = 'usage' AND allocation_id = $1) AS windows WHERE before <> period_start`, allocation); gaps != "0" {
		t.Errorf("%s windows do not follow upon the one before", gaps)
	}
	if certificate := c.field(`SELECT certificate ->> 'wiped' FROM allocations WHERE id = $1`, allocation); certificate != "true" {
		t.Errorf("it is certified as wiped: %s", certificate)
	}
	c.reconcile(true)
	if found := c.open(); len(found) > 0 {
		t.Errorf("afterwards %q stands", found)
	}
}
