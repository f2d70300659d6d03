package temporal

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/workflows"
)

// BeginWebhookEvent begins the work on a stored event of the payment provider; one that is worked on already stays.
func BeginWebhookEvent(ctx context.Context, cluster client.Client, eventID string) error {
	_, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.WebhookEventWorkflowID(eventID), TaskQueue: workflows.WebhooksQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "Event " + eventID,
	}, workflows.WebhookEventType, workflows.WebhookEventInput{EventID: eventID})
	return err
}

// TellCard has the workflow of a card look, starting it where it does not run.
func TellCard(ctx context.Context, cluster client.Client, cardID id.Card, because string) error {
	_, err := cluster.SignalWithStartWorkflow(ctx, workflows.CardWorkflowID(cardID), workflows.LookSignal, because, client.StartWorkflowOptions{
		TaskQueue: workflows.PaymentsQueue, StaticSummary: "Card " + string(cardID), WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, workflows.CardType, workflows.CardInput{CardID: cardID})
	return err
}
