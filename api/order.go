package api

import (
	"context"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/temporal"
)

// orderedWorkflow is a workflow that an update is sent to, started where it does not run.
type orderedWorkflow struct {
	id, queue, kind, update, summary string
	input, asked                     any
}

// order sends the update of this request and waits so long for its reply; a repeat of the request finds what came of it.
func (s *server) order(ctx context.Context, patience time.Duration, o orderedWorkflow, reply any) error {
	cluster, err := s.temporal()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = temporal.AskUntilAnswered(ctx, func(ctx context.Context) error {
		start := cluster.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: o.id, TaskQueue: o.queue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, StaticSummary: o.summary,
		}, o.kind, o.input)
		handle, err := cluster.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: start,
			UpdateOptions: client.UpdateWorkflowOptions{
				UpdateID: middleware.RequestOf(ctx).ID, UpdateName: o.update, Args: []any{o.asked}, WaitForStage: client.WorkflowUpdateStageCompleted,
			},
		})
		if err != nil {
			return err
		}
		return handle.Get(ctx, reply)
	})
	if err == nil {
		return nil
	}
	found := temporal.FromError(err)
	if found.Code == fault.InternalError {
		// An update that a closing run lost may simply be asked again.
		found = fault.Wrap(err, fault.ServiceUnavailable, "")
	}
	return found
}
