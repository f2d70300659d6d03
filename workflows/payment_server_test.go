//go:build integration

package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// counter is a till and a postman behind real workers on a real server.
type counter struct {
	*postman
	client client.Client
}

func serveCounter(t *testing.T, route workflows.EventRoute) *counter {
	t.Helper()
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	c := &counter{postman: emptyPostman(t, route), client: dialled}
	c.again = 1
	for _, queue := range []string{workflows.PaymentsQueue, workflows.WebhooksQueue, workflows.AllocationsQueue} {
		polling := worker.New(dialled, queue, worker.Options{})
		for _, one := range []any{workflows.Payment, workflows.Refund, workflows.Dispute, workflows.Card, workflows.WebhookEvent, workflows.StripeSweep} {
			polling.RegisterWorkflow(one)
		}
		c.till.bind(polling)
		c.postman.bind(polling)
		require.NoError(t, polling.Start())
		t.Cleanup(polling.Stop)
	}
	return c
}

// order starts a workflow by its update, as the API does.
func (c *counter) order(ctx context.Context, workflowID, kind, update string, input, asked any) {
	c.t.Helper()
	handle, err := c.client.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: c.client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: workflowID, TaskQueue: workflows.PaymentsQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, kind, input),
		UpdateOptions: client.UpdateWorkflowOptions{UpdateID: "request-1", UpdateName: update, Args: []any{asked}, WaitForStage: client.WorkflowUpdateStageCompleted},
	})
	require.NoError(c.t, err)
	require.NoError(c.t, handle.Get(ctx, nil))
}

// happens changes what the provider says, and tells whoever it is about.
func (c *counter) happens(ctx context.Context, workflowID string, change func()) {
	c.t.Helper()
	c.mu.Lock()
	change()
	c.mu.Unlock()
	for n := range 3 {
		err := c.client.SignalWorkflow(ctx, workflowID, "", workflows.LookSignal, fmt.Sprintf("evt_%d", n))
		if n == 0 {
			require.NoError(c.t, err)
		}
	}
}

func (c *counter) looked(least int) {
	c.t.Helper()
	temporaltest.Eventually(c.t, time.Minute, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.looks < least {
			return fmt.Errorf("the provider was asked %d times", c.looks)
		}
		return nil
	})
}

func (c *counter) ended(ctx context.Context, workflowID, name string) {
	c.t.Helper()
	require.NoError(c.t, c.client.GetWorkflow(ctx, workflowID, "").Get(ctx, nil))
	(&served{world: &world{t: c.t}, client: c.client}).record(ctx, workflowID, "", name)
}

func TestServerPayments(t *testing.T) {
	ctx, id := deadline(t), workflows.PaymentWorkflowID(somePayment)
	t.Run("a deposit", func(t *testing.T) {
		c := serveCounter(t, workflows.EventRoute{})
		c.fail[workflows.StepOpenCheckout.Name], c.lose[workflows.StepLookPayment.Name] = 1, 1
		c.order(ctx, id, workflows.PaymentType, workflows.OpenUpdate, workflows.PaymentInput{PaymentID: somePayment}, workflows.OpenPayment{PaymentID: somePayment})
		c.happens(ctx, id, func() { c.provider = payment.Credited })
		c.ended(ctx, id, "payment-credited")
		require.Equal(t, 1, c.credits)
	})
	t.Run("a deposit that nobody makes", func(t *testing.T) {
		c := serveCounter(t, workflows.EventRoute{})
		c.order(ctx, id, workflows.PaymentType, workflows.OpenUpdate, workflows.PaymentInput{PaymentID: somePayment}, workflows.OpenPayment{PaymentID: somePayment})
		c.happens(ctx, id, func() { c.provider = payment.Expired })
		c.ended(ctx, id, "payment-expired")
	})
	for name, declined := range map[string]bool{"payment-charged": false, "payment-declined": true} {
		t.Run(name, func(t *testing.T) {
			c := serveCounter(t, workflows.EventRoute{})
			c.payment, c.provider, c.declined = payment.Requested, payment.Processing, declined
			_, err := c.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: workflows.PaymentsQueue}, workflows.PaymentType,
				workflows.PaymentInput{PaymentID: somePayment, Charge: true})
			require.NoError(t, err)
			if !declined {
				temporaltest.Eventually(t, time.Minute, func() error {
					c.mu.Lock()
					defer c.mu.Unlock()
					if c.charges == 0 {
						return fmt.Errorf("nothing was charged")
					}
					return nil
				})
				c.happens(ctx, id, func() { c.provider = payment.Credited })
			}
			c.ended(ctx, id, name)
			require.Equal(t, 1, c.charges)
		})
	}
}

func TestServerRefunds(t *testing.T) {
	ctx, id := deadline(t), workflows.RefundWorkflowID(someRefund)
	for name, end := range map[string]payment.RefundState{"refund-succeeded": payment.RefundSucceeded, "refund-came-back": payment.RefundFailed} {
		c := serveCounter(t, workflows.EventRoute{})
		c.lose[workflows.StepSettleRefund.Name] = 1
		c.order(ctx, id, workflows.RefundType, workflows.AuthoriseUpdate, workflows.RefundInput{RefundID: someRefund},
			workflows.RefundRequest{RefundID: someRefund, PaymentID: somePayment, AmountMicros: 10_000_000})
		c.looked(1)
		c.happens(ctx, id, func() { c.refundProvider = end })
		c.ended(ctx, id, name)
		require.Equal(t, end, c.refund)
	}
}

func TestServerDisputes(t *testing.T) {
	ctx, id := deadline(t), workflows.DisputeWorkflowID(someDispute)
	for name, end := range map[string]payment.DisputeState{"dispute-won": payment.DisputeWon, "dispute-lost": payment.DisputeLost} {
		c := serveCounter(t, workflows.EventRoute{})
		_, err := c.client.SignalWithStartWorkflow(ctx, id, workflows.LookSignal, "evt_0", client.StartWorkflowOptions{TaskQueue: workflows.PaymentsQueue},
			workflows.DisputeType, workflows.DisputeInput{DisputeID: someDispute, StripeDisputeID: "dp_a"})
		require.NoError(t, err)
		c.looked(1)
		c.happens(ctx, id, func() { c.disputed = end })
		c.ended(ctx, id, name)
		require.Equal(t, 2, c.bites)
	}
}

func TestServerCards(t *testing.T) {
	ctx, id := deadline(t), workflows.CardWorkflowID(someCard)
	c := serveCounter(t, workflows.EventRoute{})
	c.order(ctx, id, workflows.CardType, workflows.OpenCardUpdate, workflows.CardInput{CardID: someCard}, workflows.OpenCard{CardID: someCard})
	c.happens(ctx, id, func() { c.cardProvider = payment.CardSaved })
	c.ended(ctx, id, "card-saved")
	c.card = payment.CardLeaving
	_, err := c.client.SignalWithStartWorkflow(ctx, id, workflows.LookSignal, "it leaves", client.StartWorkflowOptions{TaskQueue: workflows.PaymentsQueue},
		workflows.CardType, workflows.CardInput{CardID: someCard})
	require.NoError(t, err)
	c.ended(ctx, id, "card-gone")
	require.Equal(t, 1, c.forgotten)
}

func TestServerWebhookEvents(t *testing.T) {
	ctx, id := deadline(t), workflows.WebhookEventWorkflowID(someEvent)
	for name, route := range map[string]workflows.EventRoute{
		"webhook-event-told": {PaymentID: somePayment, About: somePayment, Outcome: "told"}, "webhook-event-unmatched": {Outcome: "unmatched"},
	} {
		c := serveCounter(t, route)
		c.fail[workflows.StepRouteEvent.Name], c.lose[workflows.StepNoteEvent.Name] = 1, 1
		_, err := c.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: workflows.WebhooksQueue}, workflows.WebhookEventType,
			workflows.WebhookEventInput{EventID: someEvent})
		require.NoError(t, err)
		c.ended(ctx, id, name)
		require.Equal(t, map[string]string{someEvent: route.Outcome}, c.noted)
	}
}

func TestServerSweeps(t *testing.T) {
	ctx, id := deadline(t), workflows.StripeSweepWorkflowID
	c := serveCounter(t, workflows.EventRoute{})
	c.fail[workflows.StepSweep.Name] = 1
	first, err := c.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: workflows.PaymentsQueue}, workflows.StripeSweepType,
		workflows.StripeSweepInput{Sweeps: 2})
	require.NoError(t, err)
	temporaltest.Eventually(t, time.Minute, func() error {
		described, err := c.client.DescribeWorkflowExecution(ctx, id, "")
		if err == nil && described.GetWorkflowExecutionInfo().GetExecution().GetRunId() == first.GetRunID() {
			err = errors.New("the first run goes on")
		}
		return err
	})
	(&served{world: &world{t: t}, client: c.client}).record(ctx, id, first.GetRunID(), "stripe-sweep-continued")
	require.NoError(t, c.client.TerminateWorkflow(ctx, id, "", "the test is over"))
}
