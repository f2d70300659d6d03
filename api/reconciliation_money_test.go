//go:build integration

package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// Money that is under way and that nobody is at work on is found, each once; and what the finding says begins it again.
func TestReconciliationFindsMoneyThatNobodyIsAtWorkOn(t *testing.T) {
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
	for _, workflow := range []string{
		workflows.FundsWorkflowID(id.Account(account)), workflows.PaymentWorkflowID(id.Payment(open)), workflows.RefundWorkflowID(id.Refund(refund)),
		workflows.DisputeWorkflowID(id.Dispute(dispute)),
	} {
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
	c.startAgain(cluster)
	temporaltest.Eventually(t, time.Minute, func() error {
		if states := c.field(`SELECT (SELECT state FROM refunds WHERE id = $1) || ' ' || (SELECT state FROM disputes WHERE id = $2)`, refund, dispute); states != "succeeded lost" {
			return fmt.Errorf("the refund and the dispute are %s", states)
		}
		return nil
	})
	c.findAll(nil)
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

// startAgain does what the findings say: a signal that starts the workflow.
func (c *compared) startAgain(cluster client.Client) {
	c.t.Helper()
	rows, err := c.Owner.Query(context.Background(), `SELECT detail -> 'start' FROM reconciliation_findings WHERE state = 'open' AND detail ? 'start'`)
	if err != nil {
		c.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var start struct {
			WorkflowID   string          `json:"workflow_id"`
			WorkflowType string          `json:"workflow_type"`
			TaskQueue    string          `json:"task_queue"`
			Signal       string          `json:"signal"`
			Input        json.RawMessage `json:"input"`
		}
		if err := rows.Scan(&start); err != nil {
			c.t.Fatal(err)
		}
		if _, err := cluster.SignalWithStartWorkflow(context.Background(), start.WorkflowID, start.Signal, nil, client.StartWorkflowOptions{TaskQueue: start.TaskQueue}, start.WorkflowType, start.Input); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		c.t.Fatal(err)
	}
}
