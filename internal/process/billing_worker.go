package process

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/internal/evidence"
	"github.com/gpuaas/gpuaas/internal/ledgerchain"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// BillingWorkerConfig is what a billing worker needs: the database and the cluster.
type BillingWorkerConfig struct {
	Database DatabaseConfig
	Temporal temporal.Config
	Worker   WorkerConfig
	Health   HealthConfig
	Log      LogConfig
	Heads    LedgerHeadsConfig
}

// LedgerHeadsConfig is where signed heads of the ledger's hash chain are kept outside the database.
type LedgerHeadsConfig struct {
	Directory string `env:"GPUAAS_LEDGER_HEADS_DIRECTORY" usage:"directory, on another machine's disk if possible, where signed heads of the ledger's hash chain are kept; empty keeps none"`
	KeyFile   string `env:"GPUAAS_EVIDENCE_KEY_FILE" usage:"PEM file with the Ed25519 key that signs them"`
}

// Check says what is wrong with it.
func (c LedgerHeadsConfig) Check() []string {
	if c.Directory != "" && c.KeyFile == "" {
		return []string{"GPUAAS_LEDGER_HEADS_DIRECTORY needs GPUAAS_EVIDENCE_KEY_FILE: a head that nobody signed proves nothing."}
	}
	return nil
}

// open makes what keeps heads; nil where none are kept.
func (c LedgerHeadsConfig) open() (*ledgerchain.Heads, error) {
	if c.Directory == "" {
		return nil, nil
	}
	keys, err := evidence.LoadKeys(c.KeyFile)
	if err != nil {
		return nil, err
	}
	return ledgerchain.NewHeads(c.Directory, keys)
}

// Check says what is wrong with it.
func (c BillingWorkerConfig) Check() []string {
	return append(append(append(append(c.Database.Check(), c.Temporal.Check()...), c.Worker.Check()...), c.Heads.Check()...), c.Health.Check()...)
}

// RunBillingWorker runs Allocation, Funds, Adjustment, Suspension, TenantClosure, Reconciliation and Correction and every step that touches
// Postgres, with the ledger's upkeep and the schedule of the reconciliation beside them, until ctx ends.
func RunBillingWorker(ctx context.Context, config BillingWorkerConfig) error {
	const program = "billing-worker"
	log := config.Log.logger(program)
	heads, err := config.Heads.open()
	if err != nil {
		return err
	}
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
	observePlatform(shown.meter, pool)
	connection := &reached{}
	return shown.beside(ctx, []probe{{"postgres", pool.Ping}, connection.probe()}, func(ctx context.Context) error {
		cluster, err := connection.dial(ctx, config.Temporal, shown)
		if err != nil {
			return err
		}
		defer cluster.Close()
		return bill(ctx, config, pool, cluster, ledgerchain.New(pool, heads, log), shown)
	})
}

// bill does the work of a billing worker until ctx ends.
func bill(ctx context.Context, config BillingWorkerConfig, pool *pgxpool.Pool, cluster client.Client, chain *ledgerchain.Chain, shown internals) error {
	log, meter := shown.log, shown.meter
	policies := policy.New(pool)
	nodes := &activities.Nodes{Pool: pool}
	standings := &activities.Standings{Pool: pool}
	ledger := activities.NewLedger(pool, policies, time.Now, log)
	ledger.Measure(meter.Histogram(telemetry.LedgerStatementWindows))
	funds := &activities.Funds{
		Pool: pool, Cluster: cluster, Now: time.Now,
		Rungs: meter.Counter(telemetry.FundsRungs).FromZero(words(billing.Rungs())...), Lateness: meter.Histogram(telemetry.FundsLateness),
	}
	allocations := &activities.Allocations{Pool: pool, Policy: policies, Now: time.Now, Funds: funds}
	closures := &activities.Closures{Pool: pool, Ledger: ledger, Now: time.Now}
	// After the worker has stopped: what it accepted is posted before the pool closes.
	defer ledger.Close()
	reconciliation := &activities.Reconciliation{
		Pool: pool, Ledger: ledger, Cluster: cluster, Policy: policies, Now: time.Now, Log: log,
		Runs: meter.Counter(telemetry.ReconciliationRuns).FromZero(queries.RunCompleted, queries.RunIncomplete), Duration: meter.Histogram(telemetry.ReconciliationRunDuration),
	}
	sealer := activities.NewSealer(pool, log)
	observeLedger(meter, ledger)
	observeSealer(meter, sealer)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return keepTables(ctx, pool, log) })
	group.Go(func() error { return sealer.Run(ctx) })
	group.Go(func() error { return funds.Watch(ctx, log) })
	group.Go(func() error { return keepSchedule(ctx, cluster, policies, log) })
	group.Go(func() error { return chain.Run(ctx) })
	group.Go(func() error {
		return work(ctx, cluster, workflows.AllocationsQueue, config.Worker, log, func(registry worker.Registry) {
			registry.RegisterWorkflowWithOptions(workflows.Allocation, workflow.RegisterOptions{Name: workflows.AllocationType})
			registry.RegisterWorkflowWithOptions(workflows.Adjustment, workflow.RegisterOptions{Name: workflows.AdjustmentType})
			registry.RegisterWorkflowWithOptions(workflows.Suspension, workflow.RegisterOptions{Name: workflows.SuspensionType})
			registry.RegisterWorkflowWithOptions(workflows.TenantClosure, workflow.RegisterOptions{Name: workflows.TenantClosureType})
			registry.RegisterWorkflowWithOptions(workflows.Funds, workflow.RegisterOptions{Name: workflows.FundsType})
			registry.RegisterWorkflowWithOptions(workflows.Reconciliation, workflow.RegisterOptions{Name: workflows.ReconciliationType})
			registry.RegisterWorkflowWithOptions(workflows.Correction, workflow.RegisterOptions{Name: workflows.CorrectionType})
			allocations.Bind(registry)
			reconciliation.Bind(registry)
			closures.Bind(registry)
			funds.Bind(registry)
			standings.Bind(registry)
			nodes.Bind(registry)
			ledger.Bind(registry)
		})
	})
	return group.Wait()
}

const (
	upkeepInterval      = 10 * time.Minute
	upkeepRetry         = 10 * time.Second
	outboxDaysAhead     = 7
	idempotencyPurgeRun = 10_000
)

// forgetAnswers removes the idempotency records past their retention, a limited number in one statement.
func forgetAnswers(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		removed, err := queries.PurgeIdempotency(ctx, pool, idempotencyPurgeRun)
		if err != nil || removed < idempotencyPurgeRun {
			return err
		}
	}
}

// keepTables makes tomorrow's outbox partitions and forgets idempotency records past their retention. Two workers may
// do so at once.
func keepTables(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	for {
		pause := upkeepInterval
		_, partitionErr := queries.MakeOutboxPartitions(ctx, pool, outboxDaysAhead)
		purgeErr := forgetAnswers(ctx, pool)
		if err := errors.Join(partitionErr, purgeErr); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "the upkeep of the tables had trouble and will be tried again", "error", err.Error())
			pause = upkeepRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
