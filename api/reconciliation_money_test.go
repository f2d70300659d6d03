//go:build integration

package api_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// Money that is under way and that nobody is at work on is found, each once; and an operator begins it again.
func TestReconciliationFindsMoneyThatNobodyIsAtWorkOn(t *testing.T) {
	t.Parallel()
	c := newCompared(t, 1)
	alice, carol := c.token("alice"), c.token("carol")
	for _, person := range []string{alice, carol} {
		c.ask("GET", "/api/v1/me", person, "", "")
	}
	path := c.activeAllocation(alice)
	account := c.field(`SELECT account_id FROM allocations WHERE id = $1`, idOf(path))
	open := c.deposit(carol, "open", 2000).text("id")
	refunded, disputed := c.paid(carol, "refunded", 5000), c.paid(carol, "disputed", 3000)
	c.stripe.Order("faults", map[string]any{"faults": map[string]any{"refunds": "pending"}})
	refund := c.ask("POST", "/api/v1/payments/"+refunded+"/refunds", carol, "refund", `{"amount_minor":100,"reason":"too much"}`).text("id")
	atStripe := c.atStripe(refund)
	stripeDispute, _ := c.stripe.Order("dispute", map[string]any{"payment_intent": c.intentOf(disputed), "reason": "fraudulent"})["id"].(string)
	temporaltest.Eventually(t, time.Minute, func() error {
		if c.field(`SELECT count(*)::text FROM disputes WHERE stripe_dispute_id = $1 AND withdrawn_entry_id IS NOT NULL`, stripeDispute) != "1" {
			return errors.New("the dispute is not known")
		}
		return nil
	})
	c.settled()
	dispute := c.field(`SELECT id FROM disputes WHERE stripe_dispute_id = $1`, stripeDispute)
	c.closeHooks(true)
	c.older()
	c.findAll(nil)

	cluster := c.atTemporal()
	missing := map[string]string{
		"funds_without_workflow": workflows.FundsWorkflowID(id.Account(account)), "payment_without_workflow": workflows.PaymentWorkflowID(id.Payment(open)),
		"refund_without_workflow": workflows.RefundWorkflowID(id.Refund(refund)), "dispute_without_workflow": workflows.DisputeWorkflowID(id.Dispute(dispute)),
	}
	for _, workflow := range missing {
		if err := cluster.TerminateWorkflow(context.Background(), workflow, "", "planted"); err != nil {
			t.Fatal(err)
		}
	}
	c.stripe.Order("refund", map[string]any{"refund": atStripe, "outcome": "succeeded"})
	c.stripe.Order("close_dispute", map[string]any{"dispute": stripeDispute, "outcome": "lost"})
	c.findAll([]string{
		"funds_without_workflow " + account, "payment_without_workflow " + open, "refund_without_workflow " + refund, "dispute_without_workflow " + dispute,
		"dispute_differs " + stripeDispute,
	})
	c.resumeAll(missing)
	temporaltest.Eventually(t, time.Minute, func() error {
		if states := c.field(`SELECT (SELECT state FROM refunds WHERE id = $1) || ' ' || (SELECT state FROM disputes WHERE id = $2)`, refund, dispute); states != "succeeded lost" {
			return fmt.Errorf("the refund and the dispute are %s", states)
		}
		return nil
	})
}

// older waits until everything that is there was there before the tolerance.
func (c *compared) older() {
	c.t.Helper()
	began := c.field(`SELECT now()::text`)
	temporaltest.Eventually(c.t, time.Minute, func() error {
		if c.field(`SELECT (now() > $1::timestamptz + interval '11 seconds')::text`, began) != "true" {
			return errors.New("it is too young")
		}
		return nil
	})
}

// resumeAll has an operator begin again what can be, and nothing else; a repeat is answered the same once it is resolved.
func (c *compared) resumeAll(workflowIDs map[string]string) {
	c.t.Helper()
	resume := func(finding string) string { return reconciliations + "findings/" + finding + "/resume" }
	c.want(c.ask("POST", resume(c.finding("dispute_differs")), c.root, "another-kind", mending), 409, "finding_not_resumable")
	c.want(c.ask("POST", resume(string(randomID[id.Finding]())), c.root, "none", mending), 404, "finding_not_found")
	c.want(c.ask("POST", resume(c.finding("funds_without_workflow")), c.root, "no-reason", `{}`), 422, "validation_error")
	resumed := map[string]string{}
	for kind := range workflowIDs {
		finding := c.finding(kind)
		if got := c.ask("GET", reconciliations+"findings/"+finding, c.root, "", ""); got.fields()["resumable"] != true {
			c.t.Fatalf("%s cannot be resumed: %s", kind, got.body)
		}
		resumed[finding] = kind
		for range 2 { // as a caller repeats it whose answer was lost
			if got := c.ask("POST", resume(finding), c.root, "resume-"+kind, mending); got.status != 200 || got.text("id") != finding {
				c.t.Fatalf("resuming %s is answered %d %s", kind, got.status, got.body)
			}
		}
	}
	c.findAll(nil)
	for finding, kind := range resumed {
		if got := c.ask("POST", resume(finding), c.root, "resume-"+kind, mending); got.status != 200 {
			c.t.Errorf("a repeat after it is resolved is answered %d %s", got.status, got.body)
		}
		c.want(c.ask("POST", resume(finding), c.root, "again-"+kind, mending), 409, "finding_not_open")
		audited := c.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'finding.resume' AND result = 'success' AND target_id = $1
			AND details ->> 'workflow_id' = $2 AND details ->> 'reason' = 'mended'`, finding, workflowIDs[kind])
		if audited != "1" {
			c.t.Errorf("resuming %s left %s rows in the audit log", kind, audited)
		}
	}
}
