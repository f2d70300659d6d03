package process

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/webhook"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// MailConfig is how people are written to.
type MailConfig struct {
	SMTP      email.Config
	PublicURL string `env:"GPUAAS_PUBLIC_URL" envDefault:"http://localhost:8081" usage:"where browsers find the API, without a path: what mails link to"`
}

// Check says what is wrong with it.
func (c MailConfig) Check() []string { return c.SMTP.Check() }

// deliveries are what one relay brings to customers' endpoints and to people.
type deliveries struct {
	config   NotificationRelayConfig
	pool     *pgxpool.Pool
	policies *policy.Client
	hooks    *webhook.Starter
	mails    *email.Starter
	shown    internals
}

// run begins the deliveries that are switched on, and runs their workflows, until ctx ends. A worker knows both kinds: the queue is one, and
// what another relay begins must not find a worker that never heard of it.
func (d deliveries) run(ctx context.Context) error {
	keys, guard, err := d.config.Webhooks.open()
	if err != nil {
		return err
	}
	var sender *email.Sender
	if d.config.Mail.SMTP.Enabled() {
		if sender, err = email.NewSender(d.config.Mail.SMTP); err != nil {
			return err
		}
	}
	cluster, err := (&reached{}).dial(ctx, d.config.Temporal, d.shown)
	if err != nil {
		return err
	}
	defer cluster.Close()
	log, meter := d.shown.log, d.shown.meter
	hooks := &activities.WebhookDeliveries{
		Pool: d.pool, Keys: keys, Sender: webhook.NewSender(guard, nil, time.Now), Policy: d.policies, Now: time.Now, Log: log,
		Attempts: meter.Counter(telemetry.WebhookAttempts).FromZero(words(rules.Outcomes())...), Latency: meter.Histogram(telemetry.WebhookAttemptDuration),
		Ended: meter.Counter(telemetry.WebhookDeliveries).FromZero(string(rules.Delivered), string(rules.Failed), string(rules.Skipped)), GivenUp: meter.Counter(telemetry.WebhookEndpointsGivenUp),
	}
	mails := &activities.EmailMessages{Pool: d.pool, Sender: sender, Console: d.config.Mail.PublicURL, Policy: d.policies, Now: time.Now, Log: log}
	group, ctx := errgroup.WithContext(ctx)
	if d.config.Webhooks.Enabled() {
		group.Go(func() error {
			return d.hooks.Run(ctx, func(ctx context.Context, due queries.DueDelivery) error {
				return temporal.BeginWebhookDelivery(ctx, cluster, workflows.WebhookDeliveryInput{DeliveryID: due.ID, Round: due.Round, EventType: due.EventType})
			})
		})
	}
	if sender != nil {
		group.Go(func() error {
			return d.mails.Run(ctx, func(ctx context.Context, due queries.DueEmail) error {
				return temporal.BeginEmailDelivery(ctx, cluster, workflows.EmailDeliveryInput{MessageID: due.ID, Kind: due.Kind})
			})
		})
	}
	group.Go(func() error {
		return work(ctx, cluster, workflows.DeliveriesQueue, d.config.Worker, log, func(registry worker.Registry) {
			registry.RegisterWorkflowWithOptions(workflows.WebhookDelivery, workflow.RegisterOptions{Name: workflows.WebhookDeliveryType})
			registry.RegisterWorkflowWithOptions(workflows.EmailDelivery, workflow.RegisterOptions{Name: workflows.EmailDeliveryType})
			hooks.Bind(registry)
			mails.Bind(registry)
		})
	})
	return group.Wait()
}
