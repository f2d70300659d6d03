//go:build integration

package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// The whole ladder on a real server, whose history is kept: three seconds of money, an allocation that obeys, and changes told all
// along.
func TestServerFundsRunOut(t *testing.T) {
	ctx := deadline(t)
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	f := newTreasury(t, 3_000_000)
	f.clock = time.Now
	f.ladder = billing.Ladder{ThresholdMicros: 2_000_000, Grace: time.Second}
	m := f.begin(hourly, time.Now())
	obedient := func(ctx workflow.Context) error {
		var ask workflows.ReleaseRequest
		workflow.GetSignalChannel(ctx, workflows.ReleaseSignal).Receive(ctx, &ask)
		return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute}),
			func(context.Context) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				m.stop(ask.AskedAt, f.now(), allocation.CauseFunds)
				return nil
			}).Get(ctx, nil)
	}
	polling := worker.New(dialled, workflows.AllocationsQueue, worker.Options{})
	polling.RegisterWorkflow(workflows.Funds)
	polling.RegisterWorkflowWithOptions(obedient, workflow.RegisterOptions{Name: "Obedient"})
	workflows.StepReviewFunds.Bind(polling, f.review)
	require.NoError(t, polling.Start())
	t.Cleanup(polling.Stop)
	obeying, err := dialled.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.AllocationWorkflowID(m.id), TaskQueue: workflows.AllocationsQueue}, "Obedient")
	require.NoError(t, err)
	watch := workflows.FundsWorkflowID(theAccount)
	tell := func() {
		_, err := dialled.SignalWithStartWorkflow(ctx, watch, workflows.FundsChangedSignal, workflows.FundsChange{Because: "a test"},
			client.StartWorkflowOptions{TaskQueue: workflows.AllocationsQueue}, workflows.FundsType, workflows.FundsInput{AccountID: theAccount, TenantID: someTenant})
		require.NoError(t, err)
	}
	for range 5 {
		tell()
	}
	require.NoError(t, obeying.Get(ctx, nil))
	tell()
	require.NoError(t, dialled.GetWorkflow(ctx, watch, "").Get(ctx, nil))
	require.Len(t, f.written, 3)
	require.Equal(t, 3*time.Second, m.end.Sub(m.anchor))
	f.requireRight()
	(&served{world: &world{t: t}, client: dialled}).record(ctx, watch, "", "funds-run-out")
}

// An account that is topped up by itself once, and then runs out.
func TestServerFundsToppedUp(t *testing.T) {
	ctx := deadline(t)
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	f := newTreasury(t, 3_000_000)
	f.clock = time.Now
	f.ladder = billing.Ladder{ThresholdMicros: 1_000_000, Grace: 500 * time.Millisecond}
	f.topping = &topping{rule: billing.TopUp{LevelMicros: 1_500_000, Lead: 500 * time.Millisecond}, amount: 2_000_000, most: 1}
	m := f.begin(hourly, time.Now())
	watch := workflows.FundsWorkflowID(theAccount)
	tell := func() {
		_, err := dialled.SignalWithStartWorkflow(ctx, watch, workflows.FundsChangedSignal, workflows.FundsChange{Because: "a test"},
			client.StartWorkflowOptions{TaskQueue: workflows.AllocationsQueue}, workflows.FundsType, workflows.FundsInput{AccountID: theAccount, TenantID: someTenant})
		require.NoError(t, err)
	}
	charged := func(ctx workflow.Context, in workflows.PaymentInput) error {
		return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute}),
			func(context.Context) error {
				f.mu.Lock()
				f.topping.flying = ""
				f.deposit(f.topping.amount)
				f.mu.Unlock()
				tell()
				return nil
			}).Get(ctx, nil)
	}
	obedient := func(ctx workflow.Context) error {
		var ask workflows.ReleaseRequest
		workflow.GetSignalChannel(ctx, workflows.ReleaseSignal).Receive(ctx, &ask)
		return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{ScheduleToCloseTimeout: time.Minute}),
			func(context.Context) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				m.stop(ask.AskedAt, f.now(), allocation.CauseFunds)
				return nil
			}).Get(ctx, nil)
	}
	for _, queue := range []string{workflows.AllocationsQueue, workflows.PaymentsQueue} {
		polling := worker.New(dialled, queue, worker.Options{})
		polling.RegisterWorkflow(workflows.Funds)
		polling.RegisterWorkflowWithOptions(charged, workflow.RegisterOptions{Name: workflows.PaymentType})
		polling.RegisterWorkflowWithOptions(obedient, workflow.RegisterOptions{Name: "Obedient"})
		workflows.StepReviewFunds.Bind(polling, f.review)
		require.NoError(t, polling.Start())
		t.Cleanup(polling.Stop)
	}
	obeying, err := dialled.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.AllocationWorkflowID(m.id), TaskQueue: workflows.AllocationsQueue}, "Obedient")
	require.NoError(t, err)
	tell()
	require.NoError(t, obeying.Get(ctx, nil))
	tell()
	require.NoError(t, dialled.GetWorkflow(ctx, watch, "").Get(ctx, nil))
	require.Equal(t, 1, f.topping.charges)
	require.Equal(t, 5*time.Second, m.end.Sub(m.anchor))
	f.requireRight()
	(&served{world: &world{t: t}, client: dialled}).record(ctx, watch, "", "funds-topped-up")
}
