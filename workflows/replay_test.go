package workflows_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/workflows"
)

// Histories recorded from a real server (see server_test.go) must replay: a change that breaks one would break every
// allocation that is running while it is deployed, and needs workflow.GetVersion.
func TestStoredHistoriesReplay(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "histories", "*.json"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 28, "the stored histories")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			replayer := worker.NewWorkflowReplayer()
			replayer.RegisterWorkflow(workflows.Allocation)
			replayer.RegisterWorkflow(workflows.Node)
			replayer.RegisterWorkflow(workflows.Suspension)
			replayer.RegisterWorkflow(workflows.TenantClosure)
			replayer.RegisterWorkflow(workflows.Funds)
			replayer.RegisterWorkflow(workflows.Adjustment)
			replayer.RegisterWorkflow(workflows.WebhookDelivery)
			replayer.RegisterWorkflow(workflows.EmailDelivery)
			replayer.RegisterWorkflow(workflows.Payment)
			replayer.RegisterWorkflow(workflows.Refund)
			replayer.RegisterWorkflow(workflows.Dispute)
			replayer.RegisterWorkflow(workflows.Card)
			replayer.RegisterWorkflow(workflows.WebhookEvent)
			replayer.RegisterWorkflow(workflows.StripeSweep)
			replayer.RegisterWorkflow(workflows.Reconciliation)
			replayer.RegisterWorkflow(workflows.Correction)
			require.NoError(t, replayer.ReplayWorkflowHistoryFromJSONFile(quiet{}, file))
		})
	}
}
