package api

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/workflows"
)

// standingPatience bounds the wait for a change of standing; a repeat of the request finds what came of it.
const standingPatience = 10 * time.Second

// changeStanding suspends or restores a tenant or a user: the workflow of its suspension has Postgres keep the change, and
// then tells every allocation of it, however often a worker dies on the way.
func (s *server) changeStanding(ctx context.Context, update string, subject workflows.Subject, reason string) error {
	cluster, err := s.temporal()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, standingPatience)
	defer cancel()
	change := workflows.StandingChange{
		Subject: subject, Actor: middleware.Principal(ctx).Actor(), Reason: reason,
		RequestID: middleware.RequestOf(ctx).ID, CorrelationID: telemetry.Correlation(ctx),
	}
	start := cluster.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: workflows.SuspensionWorkflowID(subject), TaskQueue: workflows.AllocationsQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            fmt.Sprintf("Suspension of %s", subject.ID()),
	}, workflows.SuspensionType, workflows.SuspensionInput{Subject: subject})
	handle, err := cluster.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: change.RequestID, UpdateName: update, Args: []any{change}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	var reply workflows.StandingReply
	if err == nil {
		err = handle.Get(ctx, &reply)
	}
	if err != nil {
		found := temporal.FromError(err)
		if found.Code == fault.InternalError {
			// An update that a closing run lost may simply be asked again.
			found = fault.Wrap(err, fault.ServiceUnavailable, "")
		}
		return found
	}
	if reply.Fault != nil {
		return fromStep(reply.Fault)
	}
	return nil
}
