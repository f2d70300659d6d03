package temporal

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/workflows"
)

// Resume begins a workflow that is missing again where it was; one that runs meanwhile is told to look, where there is a signal for that, and
// otherwise left alone. subject is what it is about, because one short phrase. Under WithRequestID a run takes a repeat of the request once.
func Resume(ctx context.Context, cluster client.Client, missing workflows.Resumption, subject, because, correlationID string) error {
	start := client.StartWorkflowOptions{
		ID: missing.WorkflowID, TaskQueue: missing.TaskQueue, StaticSummary: missing.WorkflowType + " " + subject,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}
	var err error
	if missing.Signal == "" {
		_, err = cluster.ExecuteWorkflow(ctx, start, missing.WorkflowType, missing.Input)
	} else {
		_, err = cluster.SignalWithStartWorkflow(ctx, missing.WorkflowID, missing.Signal, missing.Argument(because, correlationID), start, missing.WorkflowType, missing.Input)
	}
	return err
}
