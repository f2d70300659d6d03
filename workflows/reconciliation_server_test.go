//go:build integration

package workflows_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// On a real server: a run of which one check takes several stretches and one step fails first, and a correction that one person may not
// post and another may.
func TestServerReconcilesAndCorrects(t *testing.T) {
	ctx := deadline(t)
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	s := &served{world: newWorld(t), client: dialled}
	a := newAuditor(t)
	a.stretches[reconciliation.Windows], a.fail[workflows.StepCheckProvider.Name] = 2, 1
	for _, queue := range []string{workflows.AllocationsQueue, workflows.PaymentsQueue} {
		polling := worker.New(dialled, queue, worker.Options{})
		polling.RegisterWorkflow(workflows.Reconciliation)
		polling.RegisterWorkflow(workflows.Correction)
		a.registry = polling
		a.bind()
		require.NoError(t, polling.Start())
		t.Cleanup(polling.Stop)
	}
	workflowID := workflows.ReconciliationWorkflowID("recon_a")
	run, err := dialled.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflowID, TaskQueue: workflows.AllocationsQueue}, workflows.Reconciliation, workflows.ReconciliationInput{})
	require.NoError(t, err)
	var result workflows.ReconciliationResult
	require.NoError(t, run.Get(ctx, &result))
	require.Len(t, result.Checks, len(reconciliation.Checks()))
	require.EqualValues(t, 30, result.Checks[0].Examined)
	s.record(ctx, workflowID, "", "reconciliation-of-everything")

	workflowID = workflows.CorrectionWorkflowID("corr_a")
	var replies []workflows.CorrectionReply
	for _, person := range []string{"user_proposer", "user_other"} {
		start := dialled.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: workflowID, TaskQueue: workflows.AllocationsQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, workflows.Correction, workflows.CorrectionInput{CorrectionID: "corr_a"})
		handle, err := dialled.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{StartWorkflowOperation: start, UpdateOptions: client.UpdateWorkflowOptions{
			UpdateName: workflows.ApproveUpdate, WaitForStage: client.WorkflowUpdateStageCompleted, Args: []any{approvalBy(person, person)},
		}})
		require.NoError(t, err)
		var reply workflows.CorrectionReply
		require.NoError(t, handle.Get(ctx, &reply))
		replies = append(replies, reply)
		require.NoError(t, dialled.GetWorkflow(ctx, workflowID, "").Get(ctx, nil))
	}
	require.Equal(t, "second_approver_required", replies[0].Fault.Code)
	require.EqualValues(t, 41, replies[1].EntryID)
	s.record(ctx, workflowID, "", "correction-posted")
}
