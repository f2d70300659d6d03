//go:build integration

package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// On a real server: a tenant whose notice passes, and one that is opened again before.
func TestServerClosureIsErasedUnlessItIsOpenedAgain(t *testing.T) {
	ctx := deadline(t)
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	s := &served{world: newWorld(t), client: dialled}
	notice, erased := time.Second, make(chan string, 2)
	polling := worker.New(dialled, workflows.AllocationsQueue, worker.Options{})
	polling.RegisterWorkflow(workflows.TenantClosure)
	workflows.StepCloseTenant.Bind(polling, func(context.Context, workflows.ClosureChange) (workflows.Closure, error) {
		return workflows.Closure{Closed: true, EraseAt: time.Now().Add(notice)}, nil
	})
	workflows.StepReopenTenant.Bind(polling, func(context.Context, workflows.ClosureChange) (workflows.Closure, error) {
		return workflows.Closure{}, nil
	})
	workflows.StepEraseTenant.Bind(polling, func(_ context.Context, in workflows.EraseTenantIn) (workflows.Closure, error) {
		erased <- string(in.TenantID)
		return workflows.Closure{}, nil
	})
	require.NoError(t, polling.Start())
	t.Cleanup(polling.Stop)
	change := func(update string) {
		start := dialled.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: workflows.TenantClosureWorkflowID(someTenant), TaskQueue: workflows.AllocationsQueue,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, workflows.TenantClosure, workflows.TenantClosureInput{TenantID: someTenant})
		handle, err := dialled.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: start,
			UpdateOptions: client.UpdateWorkflowOptions{
				UpdateName: update, WaitForStage: client.WorkflowUpdateStageCompleted,
				Args: []any{workflows.ClosureChange{TenantID: someTenant, Reason: "we move on", RequestID: update, CorrelationID: "corr"}},
			},
		})
		require.NoError(t, err)
		var reply workflows.ClosureReply
		require.NoError(t, handle.Get(ctx, &reply))
		require.Equal(t, update == workflows.CloseUpdate, reply.Closed)
	}
	ended := func(name string) {
		require.NoError(t, dialled.GetWorkflow(ctx, workflows.TenantClosureWorkflowID(someTenant), "").Get(ctx, nil))
		s.record(ctx, workflows.TenantClosureWorkflowID(someTenant), "", name)
	}
	change(workflows.CloseUpdate)
	ended("closure-erased")
	require.Equal(t, string(someTenant), <-erased)
	notice = time.Hour
	change(workflows.CloseUpdate)
	change(workflows.ReopenUpdate)
	ended("closure-opened-again")
	require.Empty(t, erased)
}
