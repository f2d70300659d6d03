package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/workflows"
)

// rateOf is the price of the i-th allocation, no two alike, so that an entry tells whose it is.
func rateOf(i int) money.Micros { return money.Micros(23_920_000 + 1_234_567*i) }

// oneRound runs every meter anew on a database and a namespace of its own.
func oneRound(ctx context.Context, servers rig.Servers, chosen settings, settlement int64) (got measured, err error) {
	pool, drop, err := servers.Database(ctx, 16)
	if err != nil {
		return got, err
	}
	defer drop()
	namespace, err := servers.Namespace(ctx, fmt.Sprint("funds-", settlement))
	if err != nil {
		return got, err
	}
	log := slog.New(slog.DiscardHandler)
	cluster, err := temporal.Dial(ctx, namespace, log)
	if err != nil {
		return got, err
	}
	defer cluster.Close()
	stop, err := work(ctx, cluster, pool, log)
	if err != nil {
		return got, err
	}
	defer stop()

	if err := wait(ctx, warmUp); err != nil {
		return got, err
	}
	idle, err := cpuOver(ctx, quiet)
	if err != nil {
		return got, err
	}
	// Anchors are spread over one settlement, as those of people are.
	anchor := time.Now().UTC().Truncate(time.Millisecond)
	meters, err := makeMeters(ctx, pool, chosen, settlement, anchor)
	if err != nil {
		return got, err
	}
	if err := start(ctx, cluster, meters, settlement); err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, terminate(context.WithoutCancel(ctx), cluster, meters)) }()
	if err := wait(ctx, warmUp+time.Duration(settlement)*window); err != nil {
		return got, err
	}
	before, err := counted(ctx, cluster, pool, meters)
	if err != nil {
		return got, err
	}
	posted, err := windowsIn(ctx, pool)
	if err != nil {
		return got, err
	}
	used, err := cpuOver(ctx, chosen.measured)
	if err != nil {
		return got, err
	}
	if got.windows, err = windowsIn(ctx, pool); err != nil {
		return got, err
	}
	got.windows -= posted
	after, err := counted(ctx, cluster, pool, meters)
	if err != nil {
		return got, err
	}
	// Reading the transitions takes a while, in which windows are billed too: they are counted by the windows of their own span.
	got.transitions = (after.transitions - before.transitions) / float64(max(after.windows-before.windows, 1)) * float64(got.windows)
	got.cpuSeconds = used - idle*chosen.measured.Seconds()/quiet.Seconds()
	expected := int64(chosen.allocations) * int64(chosen.measured/window)
	if got.windows < expected*95/100 || got.cpuSeconds <= 0 {
		return got, fmt.Errorf("%d of %d windows were settled in time: the machine does not carry so many allocations", got.windows, expected)
	}
	got.entries, err = entriesOf(ctx, pool, meters)
	return got, err
}

// work starts a billing worker's ledger, its sealer and Funds, with the settings of the product.
func work(ctx context.Context, cluster client.Client, pool *pgxpool.Pool, log *slog.Logger) (func(), error) {
	_, failed := context.WithCancelCause(ctx)
	polling := worker.New(cluster, workflows.AllocationsQueue, process.DefaultWorkerConfig().Options(log, failed))
	ledger := activities.NewLedger(pool, policy.New(pool), time.Now, log)
	funds := &activities.Funds{Pool: pool, Cluster: cluster, Now: time.Now}
	polling.RegisterWorkflowWithOptions(workflows.Allocation, workflow.RegisterOptions{Name: workflows.AllocationType})
	polling.RegisterWorkflowWithOptions(workflows.Funds, workflow.RegisterOptions{Name: workflows.FundsType})
	ledger.Bind(polling)
	funds.Bind(polling)
	sealing, stopSealing := context.WithCancel(ctx)
	go func() { _ = activities.NewSealer(pool, log).Run(sealing) }()
	return func() { polling.Stop(); stopSealing(); ledger.Close() }, polling.Start()
}

// makeMeters fills the database with tenants, their money and active allocations.
func makeMeters(ctx context.Context, pool *pgxpool.Pool, chosen settings, settlement int64, anchor time.Time) ([]workflows.Meter, error) {
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
		VALUES ('bench', 'bench', 'gpu', 1, 1, 'cpu', 1, 1, 1, 'os', 'cuda', 'here')`)
	type owner struct {
		tenant  id.Tenant
		user    id.User
		project id.Project
		account id.Account
	}
	owners := make([]owner, chosen.accounts)
	for n := range owners {
		o := owner{rig.NewID[id.Tenant](), rig.NewID[id.User](), rig.NewID[id.Project](), rig.NewID[id.Account]()}
		batch.Queue(`INSERT INTO tenants (id, kind, name) VALUES ($1, 'personal', 'bench')`, o.tenant)
		batch.Queue(`INSERT INTO users (id, tenant_id, issuer, subject, username) VALUES ($1, $2, 'bench', $3, 'bench')`, o.user, o.tenant, fmt.Sprint(n))
		batch.Queue(`INSERT INTO projects (id, tenant_id, name, is_default) VALUES ($1, $2, 'default', true)`, o.project, o.tenant)
		batch.Queue(`INSERT INTO accounts (id, kind, tenant_id, currency) VALUES ($1, 'tenant', $2, 'usd')`, o.account, o.tenant)
		batch.Queue(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
			VALUES ('adjustment_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', $1, 'usd', 1000000000000, 'bench:' || $1::text)`, o.account)
		owners[n] = o
	}
	meters := make([]workflows.Meter, chosen.allocations)
	for i := range meters {
		o := owners[i%len(owners)]
		began := anchor.Add(time.Duration(i) * time.Duration(settlement) * window / time.Duration(len(meters))).Truncate(time.Millisecond)
		meters[i] = workflows.Meter{
			AllocationID: rig.NewID[id.Allocation](), TenantID: o.tenant, AccountID: o.account, Currency: "usd", RateMicrosPerHour: rateOf(i),
			WindowSeconds: int64(window / time.Second), Anchor: began, CorrelationID: "bench",
		}
		price := rig.NewID[id.Price]()
		batch.Queue(`INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from) VALUES ($1, 'bench', 'usd', $2, $3)`,
			price, int64(rateOf(i)), anchor.Add(-time.Duration(i+1)*time.Hour))
		batch.Queue(`INSERT INTO allocations (id, tenant_id, project_id, user_id, account_id, currency, name, sku_id, price_id, rate_micros_per_hour,
			window_seconds, windows_per_settlement, runtime_mode, isolation_model, state, node_id, metered_from, correlation_id)
			VALUES ($1, $2, $3, $4, $5, 'usd', 'bench', 'bench', $6, $7, $8, $9, 'noop', 'user-revoke', 'active', 'node', $10, 'bench')`,
			meters[i].AllocationID, o.tenant, o.project, o.user, o.account, price, int64(rateOf(i)), meters[i].WindowSeconds, settlement, began)
	}
	return meters, pool.SendBatch(ctx, batch).Close()
}

// start puts every meter into the state in which continue-as-new hands it over, and has every account watched.
func start(ctx context.Context, cluster client.Client, meters []workflows.Meter, settlement int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, meter := range meters {
		group.Go(func() error {
			lease := node.Lease{NodeID: "node", AllocationID: meter.AllocationID, Generation: 1}
			began := meter.Anchor
			_, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.AllocationWorkflowID(meter.AllocationID), TaskQueue: workflows.AllocationsQueue},
				workflows.AllocationType, workflows.AllocationInput{AllocationID: meter.AllocationID, Carried: &workflows.AllocationState{
					Terms: workflows.Terms{
						TenantID: meter.TenantID, AccountID: meter.AccountID, Currency: meter.Currency, RateMicrosPerHour: meter.RateMicrosPerHour,
						WindowSeconds: meter.WindowSeconds, WindowsPerSettlement: settlement, RuntimeMode: workflows.RuntimeNoop,
						CorrelationID: meter.CorrelationID, Lease: lease,
					},
					State: allocation.Active, Version: 3, Lease: &lease, LastNode: lease.NodeID, Anchor: &began, PostedTo: began,
				}})
			return err
		})
		group.Go(func() error {
			_, err := cluster.SignalWithStartWorkflow(ctx, workflows.FundsWorkflowID(meter.AccountID), workflows.FundsChangedSignal,
				workflows.FundsChange{Because: "an allocation became active"},
				client.StartWorkflowOptions{TaskQueue: workflows.AllocationsQueue}, workflows.FundsType,
				workflows.FundsInput{AccountID: meter.AccountID, TenantID: meter.TenantID})
			return err
		})
	}
	return group.Wait()
}

func terminate(ctx context.Context, cluster client.Client, meters []workflows.Meter) error {
	var failed []error
	watched := map[id.Account]bool{}
	for _, meter := range meters {
		failed = append(failed, cluster.TerminateWorkflow(ctx, workflows.AllocationWorkflowID(meter.AllocationID), "", "the round is over"))
		if !watched[meter.AccountID] {
			watched[meter.AccountID] = true
			failed = append(failed, cluster.TerminateWorkflow(ctx, workflows.FundsWorkflowID(meter.AccountID), "", "the round is over"))
		}
	}
	return errors.Join(failed...)
}

// count is what the platform did since it began.
type count struct {
	windows     int64
	transitions float64
}

// counted reads the ledger, and from Temporal every state transition of the allocations and of the watches over their accounts.
func counted(ctx context.Context, cluster client.Client, pool *pgxpool.Pool, meters []workflows.Meter) (c count, err error) {
	ids := map[string]bool{}
	for _, meter := range meters {
		ids[workflows.AllocationWorkflowID(meter.AllocationID)], ids[workflows.FundsWorkflowID(meter.AccountID)] = true, true
	}
	for workflowID := range ids {
		described, err := cluster.DescribeWorkflowExecution(ctx, workflowID, "")
		if err != nil {
			return c, err
		}
		c.transitions += float64(described.GetWorkflowExecutionInfo().GetStateTransitionCount())
	}
	c.windows, err = windowsIn(ctx, pool)
	return c, err
}

func windowsIn(ctx context.Context, pool *pgxpool.Pool) (windows int64, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*) FROM ledger_entries WHERE kind = 'usage'`).Scan(&windows)
	return windows, err
}

// entriesOf reads every window by its place on its meter, and holds each against the charge rule.
func entriesOf(ctx context.Context, pool *pgxpool.Pool, meters []workflows.Meter) ([]entry, error) {
	place := map[string]int{}
	for i, meter := range meters {
		place[string(meter.AllocationID)] = i
	}
	rows, err := pool.Query(ctx, `SELECT allocation_id, period_start, period_end, amount_micros FROM ledger_entries WHERE kind = 'usage'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []entry
	for rows.Next() {
		var allocationID string
		var period billing.Period
		var amount int64
		if err := rows.Scan(&allocationID, &period.Start, &period.End, &amount); err != nil {
			return nil, err
		}
		meter := meters[place[allocationID]]
		due, err := period.Amount(meter.RateMicrosPerHour, meter.Anchor)
		if err != nil {
			return nil, err
		}
		if int64(due) != amount {
			return nil, fmt.Errorf("%s from %s was charged %d, not %d", allocationID, period.Start, amount, due)
		}
		found = append(found, entry{
			allocation: place[allocationID], amountMicros: amount,
			startMS: period.Start.Sub(meter.Anchor).Milliseconds(), endMS: period.End.Sub(meter.Anchor).Milliseconds(),
		})
	}
	return found, rows.Err()
}

func wait(ctx context.Context, patience time.Duration) error {
	select {
	case <-time.After(patience):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
