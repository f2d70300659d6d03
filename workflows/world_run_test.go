package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/workflows"
)

// run executes the workflow, through every continuation, and returns its outcome.
func (w *world) run() workflows.AllocationOutcome {
	w.t.Helper()
	return w.runFrom(workflows.AllocationInput{AllocationID: theAllocation, AdmitBefore: start.Add(time.Minute)})
}

func (w *world) runFrom(input workflows.AllocationInput) workflows.AllocationOutcome {
	w.t.Helper()
	for {
		w.env.ExecuteWorkflow(workflows.Allocation, input)
		require.True(w.t, w.env.IsWorkflowCompleted())
		err := w.env.GetWorkflowError()
		var again *workflow.ContinueAsNewError
		if errors.As(err, &again) {
			input = workflows.AllocationInput{}
			require.NoError(w.t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &input))
			w.newRun()
			continue
		}
		require.NoError(w.t, err)
		var outcome workflows.AllocationOutcome
		require.NoError(w.t, w.env.GetWorkflowResult(&outcome))
		return outcome
	}
}

// request sends Admit at the start of the run.
func (w *world) request() { w.send("request-1") }

func (w *world) send(updateID string) *reply {
	got := &reply{}
	w.env.RegisterDelayedCallback(func() {
		w.env.UpdateWorkflow(workflows.AdmitUpdate, updateID, &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { got.err = err },
			OnComplete: func(value any, err error) { got.set(w.t, value, err) },
		}, admitRequest())
	}, 0)
	return got
}

type reply struct {
	value workflows.AdmitReply
	err   error
	done  bool
}

func (r *reply) set(t *testing.T, value any, err error) {
	r.err, r.done = err, true
	if err == nil {
		raw, marshalErr := json.Marshal(value)
		require.NoError(t, marshalErr)
		require.NoError(t, json.Unmarshal(raw, &r.value))
	}
}

func admitRequest() workflows.AdmitRequest {
	return workflows.AdmitRequest{AllocationID: theAllocation, SKU: "h100-8x", Name: "one", CorrelationID: "corr-admit"}
}

// releaseAfter has the tenant ask for release this long after the start.
func (w *world) releaseAfter(delay time.Duration) {
	w.env.RegisterDelayedCallback(func() { w.env.SignalWorkflow(workflows.ReleaseSignal, w.release()) }, delay)
}

func (w *world) release() workflows.ReleaseRequest {
	return workflows.ReleaseRequest{
		AskedAt: w.env.Now(), Actor: identity.Actor{ID: "user_aaaaaaaaaaaaaaaaaaaaaaaaaa", Role: identity.RoleUser},
		Cause: allocation.CauseTenant, Reason: "done", CorrelationID: "corr-release",
	}
}

func (w *world) force(abandon bool) workflows.ForceReleaseRequest {
	return workflows.ForceReleaseRequest{
		AskedAt: w.env.Now(), Actor: identity.Actor{ID: "user_bbbbbbbbbbbbbbbbbbbbbbbbbb", Role: identity.RoleAdmin},
		Reason: "stuck", AbandonNode: abandon, CorrelationID: "corr-force",
	}
}

// holdUntilCancelled is an activity that runs until the workflow no longer wants it.
func (w *world) holdUntilCancelled(step string) <-chan struct{} {
	cancelled := make(chan struct{})
	var once sync.Once
	w.env.SetOnActivityCanceledListener(func(info *activity.Info) {
		if info.ActivityType.Name == step {
			once.Do(func() { close(cancelled) })
		}
	})
	return cancelled
}

func silent() error {
	return temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)
}

func failing(errorType string) func(context.Context, int) error {
	return func(context.Context, int) error { return temporal.NewApplicationError("told to fail", errorType) }
}

func failingOnce(errorType string) func(context.Context, int) error {
	return func(_ context.Context, call int) error {
		if call == 1 {
			return temporal.NewApplicationError("told to fail once", errorType)
		}
		return nil
	}
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
