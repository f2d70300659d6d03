package temporal

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/workflows"
)

// BeginWebhookEvent begins the work on a stored event of the payment provider; one that is worked on already stays.
func BeginWebhookEvent(ctx context.Context, cluster client.Client, eventID string) error {
	_, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.WebhookEventWorkflowID(eventID), TaskQueue: workflows.WebhooksQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "Event " + eventID,
	}, workflows.WebhookEventType, workflows.WebhookEventInput{EventID: eventID})
	return err
}
