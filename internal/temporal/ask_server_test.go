//go:build integration

package temporal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// A cluster whose workers came too late thrice refuses an update at once, although it would give the task out again: an
// overloaded platform answered a create with 503 for it, while the same create a second later was admitted.
func TestAnUpdateOutlivesWorkflowTasksThatFailed(t *testing.T) {
	config := temporaltest.New(t)
	cluster, err := temporal.Dial(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var healthy atomic.Bool
	answers := func(ctx workflow.Context) error {
		if !healthy.Load() {
			panic("this task fails")
		}
		answered := false
		err := workflow.SetUpdateHandler(ctx, "ask", func(workflow.Context, string) (string, error) {
			answered = true
			return "answered", nil
		})
		if err != nil {
			return err
		}
		return workflow.Await(ctx, func() bool { return answered && workflow.AllHandlersFinished(ctx) })
	}
	polling := worker.New(cluster, "queue", worker.Options{})
	polling.RegisterWorkflowWithOptions(answers, workflow.RegisterOptions{Name: "Answers"})
	if err := polling.Start(); err != nil {
		t.Fatal(err)
	}
	defer polling.Stop()
	start := client.StartWorkflowOptions{ID: "answers", TaskQueue: "queue", WorkflowTaskTimeout: time.Second,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING}
	if _, err := cluster.ExecuteWorkflow(t.Context(), start, "Answers"); err != nil {
		t.Fatal(err)
	}
	temporaltest.Eventually(t, time.Minute, func() error {
		described, err := cluster.DescribeWorkflowExecution(t.Context(), "answers", "")
		if attempt := described.GetPendingWorkflowTask().GetAttempt(); err == nil && attempt < 3 {
			err = fmt.Errorf("the task failed %d times", attempt)
		}
		return err
	})

	asked, got := 0, ""
	var first error
	err = temporal.AskUntilAnswered(t.Context(), func(ctx context.Context) error {
		asked++
		handle, err := cluster.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: cluster.NewWithStartWorkflowOperation(start, "Answers"),
			UpdateOptions:          client.UpdateWorkflowOptions{UpdateID: "one", UpdateName: "ask", Args: []any{"?"}, WaitForStage: client.WorkflowUpdateStageCompleted},
		})
		if err == nil {
			return handle.Get(ctx, &got)
		}
		if asked == 1 {
			first = err
			healthy.Store(true)
		}
		return err
	})
	var notReady *serviceerror.WorkflowNotReady
	if !errors.As(first, &notReady) {
		t.Errorf("the cluster did not lose the update, but said %v", first)
	}
	if err != nil || got != "answered" || asked < 2 {
		t.Errorf("after asking %d times: %q, %v", asked, got, err)
	}
}
