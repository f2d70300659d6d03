//go:build integration

package workflows_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// A mail that is postponed twice and then taken, on a real server, whose history is kept.
func TestServerDeliversAMail(t *testing.T) {
	ctx := deadline(t)
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	polling := worker.New(dialled, workflows.DeliveriesQueue, worker.Options{})
	polling.RegisterWorkflow(workflows.EmailDelivery)
	attempts := 0
	workflows.StepAttemptEmail.Bind(polling, func(_ context.Context, in workflows.EmailAttempt) (workflows.EmailStanding, error) {
		if attempts = in.Number; attempts < 3 {
			return workflows.EmailStanding{State: email.Pending, Code: 451, RetryAfterMs: 1000}, nil
		}
		return workflows.EmailStanding{State: email.Sent, Code: 250}, nil
	})
	require.NoError(t, polling.Start())
	t.Cleanup(polling.Stop)
	in := workflows.EmailDeliveryInput{MessageID: "mail_aaaaaaaaaaaaaaaaaaaaaaaaaa", Kind: "billing.auto_release_pending"}
	workflowID := workflows.EmailDeliveryWorkflowID(in.MessageID)
	run, err := dialled.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflowID, TaskQueue: workflows.DeliveriesQueue}, workflows.EmailDeliveryType, in)
	require.NoError(t, err)
	require.NoError(t, run.Get(ctx, nil))
	require.Equal(t, 3, attempts)
	(&served{world: &world{t: t}, client: dialled}).record(ctx, workflowID, "", "email-sent-at-last")
}
