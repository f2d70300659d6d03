package process

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// WebhookWorkerConfig is what a webhook worker needs: the database, the cluster and Stripe.
type WebhookWorkerConfig struct {
	Database DatabaseConfig
	Temporal temporal.Config
	Worker   WorkerConfig
	Stripe   stripe.Config
	Health   HealthConfig
	Log      LogConfig
}

// Check says what is wrong with it.
func (c WebhookWorkerConfig) Check() []string {
	return append(append(append(append(c.Database.Check(), c.Temporal.Check()...), c.Worker.Check()...), c.Stripe.Check()...), c.Health.Check()...)
}

// RunWebhookWorker runs Payment, Refund, Dispute, Card and WebhookEvent with their steps, and the sweep for what no webhook told, until ctx ends.
// It alone holds the secret key of Stripe.
func RunWebhookWorker(ctx context.Context, config WebhookWorkerConfig) error {
	const program = "webhook-worker"
	log := config.Log.logger(program)
	shown, err := newInternals(config.Health, program, log)
	if err != nil {
		return err
	}
	pool, err := store.Open(ctx, config.Database.URL, store.MaxConnections(config.Database.MaxConnections), store.ApplicationName(program))
	if err != nil {
		return err
	}
	defer pool.Close()
	observePool(shown.meter, pool)
	connection := &reached{}
	return shown.beside(ctx, []probe{{"postgres", pool.Ping}, connection.probe()}, func(ctx context.Context) error {
		cluster, err := connection.dial(ctx, config.Temporal, shown)
		if err != nil {
			return err
		}
		defer cluster.Close()
		return pay(ctx, config, pool, cluster, shown)
	})
}

// pay does the work of a webhook worker until ctx ends.
func pay(ctx context.Context, config WebhookWorkerConfig, pool *pgxpool.Pool, cluster client.Client, shown internals) error {
	log, meter := shown.log, shown.meter
	policies, provider := policy.New(pool), stripe.New(config.Stripe)
	ledger := activities.NewLedger(pool, policies, time.Now, log)
	defer ledger.Close()
	observeLedger(meter, ledger)
	payments := &activities.Payments{Pool: pool, Ledger: ledger, Stripe: provider, Policy: policies, Now: time.Now, Log: log}
	webhooks := &activities.Webhooks{
		Pool: pool, Temporal: cluster, Stripe: provider, Policy: policies, Now: time.Now, Log: log,
		Events: meter.Counter(telemetry.StripeEvents).FromZero(queries.StripeEventTold, queries.StripeEventIgnored, queries.StripeEventUnmatched),
		Swept:  meter.Counter(telemetry.StripeEventsSwept),
	}
	books := &activities.ProviderReconciliation{Pool: pool, Stripe: provider, Log: log}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return work(ctx, cluster, workflows.PaymentsQueue, config.Worker, log, func(registry worker.Registry) {
			registry.RegisterWorkflowWithOptions(workflows.Payment, workflow.RegisterOptions{Name: workflows.PaymentType})
			registry.RegisterWorkflowWithOptions(workflows.Refund, workflow.RegisterOptions{Name: workflows.RefundType})
			registry.RegisterWorkflowWithOptions(workflows.Dispute, workflow.RegisterOptions{Name: workflows.DisputeType})
			registry.RegisterWorkflowWithOptions(workflows.Card, workflow.RegisterOptions{Name: workflows.CardType})
			registry.RegisterWorkflowWithOptions(workflows.StripeSweep, workflow.RegisterOptions{Name: workflows.StripeSweepType})
			payments.Bind(registry)
			webhooks.BindSweep(registry)
			books.Bind(registry)
		})
	})
	group.Go(func() error {
		return work(ctx, cluster, workflows.WebhooksQueue, config.Worker, log, func(registry worker.Registry) {
			registry.RegisterWorkflowWithOptions(workflows.WebhookEvent, workflow.RegisterOptions{Name: workflows.WebhookEventType})
			webhooks.Bind(registry)
		})
	})
	group.Go(func() error {
		return temporal.UntilReady(ctx, sweepStartRetry, func() error { return beginSweep(ctx, cluster) })
	})
	return group.Wait()
}

const sweepStartRetry = 2 * time.Second

// beginSweep starts the one sweep there is, or finds it.
func beginSweep(ctx context.Context, cluster client.Client) error {
	_, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.StripeSweepWorkflowID, TaskQueue: workflows.PaymentsQueue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary: "Asks Stripe for events of which no webhook told",
	}, workflows.StripeSweepType, workflows.StripeSweepInput{})
	return err
}
