package process

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/webhook"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// WebhooksConfig is how customers' webhooks are signed, and which addresses they may have.
type WebhooksConfig struct {
	Keys     string   `env:"GPUAAS_WEBHOOK_KEYS" usage:"id:hex,id:hex: keys of 32 bytes that seal the signing secrets of customers' webhooks, the current one first, the same everywhere; empty sends none"`
	Networks []string `env:"GPUAAS_WEBHOOK_ALLOWED_NETWORKS" usage:"networks that webhooks may be sent to although they are not public, such as 10.1.0.0/16, comma separated"`
}

// Enabled says whether webhooks are sent.
func (c WebhooksConfig) Enabled() bool { return c.Keys != "" }

// Check says what is wrong with it.
func (c WebhooksConfig) Check() []string {
	var mistakes []string
	if c.Enabled() {
		if _, err := webhook.ParseKeys(c.Keys); err != nil {
			mistakes = append(mistakes, "GPUAAS_WEBHOOK_KEYS is not usable: "+err.Error()+".")
		}
	}
	if _, err := rules.ParseNetworks(c.Networks); err != nil {
		mistakes = append(mistakes, fmt.Sprintf("GPUAAS_WEBHOOK_ALLOWED_NETWORKS: %v.", err))
	}
	return mistakes
}

// open reads the keys, nil where no webhooks are sent, and the guard.
func (c WebhooksConfig) open() (*webhook.Keys, rules.Guard, error) {
	networks, err := rules.ParseNetworks(c.Networks)
	if err != nil || !c.Enabled() {
		return nil, rules.Guard{Allowed: networks}, err
	}
	keys, err := webhook.ParseKeys(c.Keys)
	return keys, rules.Guard{Allowed: networks}, err
}

// deliverWebhooks begins the deliveries of webhooks and runs their workflows until ctx ends.
func deliverWebhooks(ctx context.Context, config NotificationRelayConfig, pool *pgxpool.Pool, policies *policy.Client, starter *webhook.Starter, shown internals) error {
	keys, guard, err := config.Webhooks.open()
	if err != nil {
		return err
	}
	cluster, err := (&reached{}).dial(ctx, config.Temporal, shown)
	if err != nil {
		return err
	}
	defer cluster.Close()
	begin := func(ctx context.Context, due queries.DueDelivery) error {
		return temporal.BeginWebhookDelivery(ctx, cluster, workflows.WebhookDeliveryInput{DeliveryID: due.ID, Round: due.Round, EventType: due.EventType})
	}
	log, meter := shown.log, shown.meter
	deliveries := &activities.WebhookDeliveries{
		Pool: pool, Keys: keys, Sender: webhook.NewSender(guard, nil, time.Now), Policy: policies, Now: time.Now, Log: log,
		Attempts: meter.Counter(telemetry.WebhookAttempts).FromZero(words(rules.Outcomes())...), Latency: meter.Histogram(telemetry.WebhookAttemptDuration),
		Ended: meter.Counter(telemetry.WebhookDeliveries).FromZero(string(rules.Delivered), string(rules.Failed), string(rules.Skipped)), GivenUp: meter.Counter(telemetry.WebhookEndpointsGivenUp),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return starter.Run(ctx, begin) })
	group.Go(func() error {
		return work(ctx, cluster, workflows.DeliveriesQueue, config.Worker, log, func(registry worker.Registry) {
			registry.RegisterWorkflowWithOptions(workflows.WebhookDelivery, workflow.RegisterOptions{Name: workflows.WebhookDeliveryType})
			deliveries.Bind(registry)
		})
	})
	return group.Wait()
}
