//go:build integration

package workflows_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// A delivery that is refused twice and then taken, on a real server, whose history is kept.
func TestServerDeliversAWebhook(t *testing.T) {
	ctx := deadline(t)
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	polling := worker.New(dialled, workflows.DeliveriesQueue, worker.Options{})
	polling.RegisterWorkflow(workflows.WebhookDelivery)
	attempts := 0
	workflows.StepAttemptDelivery.Bind(polling, func(_ context.Context, in workflows.DeliveryAttempt) (workflows.DeliveryStanding, error) {
		if attempts = in.Number; attempts < 3 {
			return workflows.DeliveryStanding{State: webhook.Pending, Outcome: webhook.Rejected, StatusCode: 503, RetryAfterMs: 1000}, nil
		}
		return workflows.DeliveryStanding{State: webhook.Delivered, Outcome: webhook.Accepted, StatusCode: 204}, nil
	})
	require.NoError(t, polling.Start())
	t.Cleanup(polling.Stop)
	in := workflows.WebhookDeliveryInput{DeliveryID: "dlv_aaaaaaaaaaaaaaaaaaaaaaaaaa", Round: 1, EventType: event.ProvisioningActive}
	workflowID := workflows.WebhookDeliveryWorkflowID(in.DeliveryID, in.Round)
	run, err := dialled.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflowID, TaskQueue: workflows.DeliveriesQueue}, workflows.WebhookDeliveryType, in)
	require.NoError(t, err)
	require.NoError(t, run.Get(ctx, nil))
	require.Equal(t, 3, attempts)
	(&served{world: &world{t: t}, client: dialled}).record(ctx, workflowID, "", "webhook-delivered-at-last")
}
