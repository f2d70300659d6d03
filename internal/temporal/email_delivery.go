package temporal

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/workflows"
)

// BeginEmailDelivery begins a mail's workflow; one that was begun before stays, also when it has ended.
func BeginEmailDelivery(ctx context.Context, cluster client.Client, in workflows.EmailDeliveryInput) error {
	_, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.EmailDeliveryWorkflowID(in.MessageID), TaskQueue: workflows.DeliveriesQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		StaticSummary:            "Write about " + string(in.Kind),
	}, workflows.EmailDeliveryType, in)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return nil
	}
	return err
}
