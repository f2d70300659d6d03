package temporal

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/workflows"
)

// BeginWebhookDelivery begins a round of a delivery; one that was begun before stays, also when it has ended.
func BeginWebhookDelivery(ctx context.Context, cluster client.Client, in workflows.WebhookDeliveryInput) error {
	_, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.WebhookDeliveryWorkflowID(in.DeliveryID, in.Round), TaskQueue: workflows.DeliveriesQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:            "Tell an endpoint of " + string(in.EventType),
	}, workflows.WebhookDeliveryType, in)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return nil
	}
	return err
}
