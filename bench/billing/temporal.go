package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	// meteredAtOnce allocations with windows of a second offer more windows than Temporal takes on two cores.
	meteredAtOnce  = 400
	shortWindow    = 1 // seconds
	meteringWarmUp = 8 * time.Second
	meteringTime   = 15 * time.Second
	startersAtOnce = 32
	// meteringRounds of each side take half a minute each. The two of a round follow each other, in turn the one first and the other, so that
	// what else the machine does meets both; the median of the rounds' ratios counts.
	meteringRounds = 5
	aimThrough     = 0.9
)

// benchTemporal counts the settlements a second (a window timer and the local step that posts what is due) of Allocation
// with the real ledger, beside a bare workflow with the same timers and the same local step whose body does nothing. The
// load is more than either can take; a settlement that comes late posts every window that is due, so what is compared is
// settlements and never the windows in them. It uses the database server that Temporal itself is on.
func benchTemporal(ctx context.Context, _ databaseURLs, _ settings) error {
	servers, err := rig.FromEnvironment()
	if err != nil {
		return err
	}
	ours, bare := &metering{name: "ours", servers: servers}, &metering{name: "bare", servers: servers}
	for _, side := range []*metering{ours, bare} {
		if side.namespace, err = servers.Namespace(ctx, "metering-"+side.name); err != nil {
			return err
		}
	}
	var ratios []float64
	for n := range meteringRounds {
		sides := []*metering{ours, bare}
		if n%2 == 1 {
			sides = []*metering{bare, ours}
		}
		for _, side := range sides {
			if err := side.round(ctx, n); err != nil {
				return fmt.Errorf("%s, round %d: %w", side.name, n+1, err)
			}
		}
		ratios = append(ratios, ours.rates[n]/bare.rates[n])
	}
	fmt.Printf("events a settlement: ours %.2f, bare %.2f\n", ours.events, bare.events)
	rig.AtLeast("windows_through_temporal", rig.Median(ratios), aimThrough)
	return nil
}

// metering is one side: its namespace and what it did in each round.
type metering struct {
	name      string
	servers   rig.Servers
	namespace temporal.Config
	// rates is settlements a second of each round; events is history events a settlement.
	rates  []float64
	events float64
}

// round starts every meter anew on a database of its own, lets them run warm, and counts.
func (m *metering) round(ctx context.Context, n int) (err error) {
	pool, drop, err := m.servers.Database(ctx, 16)
	if err != nil {
		return err
	}
	defer drop()
	anchor := time.Now().UTC().Truncate(time.Millisecond)
	meters, err := makeMeters(ctx, pool, meteredAtOnce/4, meteredAtOnce, anchor)
	if err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		SELECT 'opening_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', id, 'usd', 1000000000000, 'bench:' || id FROM accounts WHERE kind = 'tenant'`); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	cluster, err := temporal.Dial(ctx, m.namespace, log)
	if err != nil {
		return err
	}
	defer cluster.Close()
	posted := &postings{of: map[id.Allocation]int64{}}
	stop, err := m.work(ctx, cluster, pool, log, posted)
	if err != nil {
		return err
	}
	defer stop()

	if err := start(ctx, cluster, meters, n); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, terminate(ctx, cluster, meters, n)) }()
	if err := wait(ctx, meteringWarmUp); err != nil {
		return err
	}
	settled, windows, began := posted.settled.Load(), posted.windows.Load(), time.Now()
	if err := wait(ctx, meteringTime); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	rate := float64(posted.settled.Load()-settled) / took
	if m.events, err = eventsPerSettlement(ctx, cluster, meters, n, posted); err != nil {
		return err
	}
	m.rates = append(m.rates, rate)
	fmt.Printf("%s round %d: %d meters of %d s, %.1f settlements a second with %.1f windows in them\n",
		m.name, n+1, len(meters), shortWindow, rate, float64(posted.windows.Load()-windows)/took)
	return nil
}

// work starts the worker of this side with the settings of the product.
func (m *metering) work(ctx context.Context, cluster client.Client, pool *pgxpool.Pool, log *slog.Logger, posted *postings) (func(), error) {
	_, failed := context.WithCancelCause(ctx)
	options := process.DefaultWorkerConfig().Options(log, failed)
	options.Interceptors = append(options.Interceptors, posted)
	polling := worker.New(cluster, workflows.AllocationsQueue, options)
	stop := polling.Stop
	if m.name == "bare" {
		polling.RegisterWorkflowWithOptions(bareMeter, workflow.RegisterOptions{Name: workflows.AllocationType})
		workflows.StepPostWindows.Bind(polling, func(_ context.Context, in workflows.PostWindowsIn) (workflows.PostWindowsOut, error) {
			return workflows.PostWindowsOut{PostedTo: in.To, ChargedMicros: 1}, nil
		})
	} else {
		ledger := activities.NewLedger(pool, policy.New(pool), time.Now, log)
		sealing, stopSealing := context.WithCancel(ctx)
		go func() { _ = activities.NewSealer(pool, log).Run(sealing) }()
		polling.RegisterWorkflowWithOptions(workflows.Allocation, workflow.RegisterOptions{Name: workflows.AllocationType})
		ledger.Bind(polling)
		stop = func() { polling.Stop(); stopSealing(); ledger.Close() }
	}
	return stop, polling.Start()
}

// bareMeter is the limit: the same timers with the same summaries and the same local step, falling back in the same way.
func bareMeter(ctx workflow.Context, input workflows.AllocationInput) error {
	state := input.Carried
	window := time.Duration(state.Terms.WindowSeconds) * time.Second
	for {
		now := workflow.Now(ctx).UTC().Truncate(time.Millisecond)
		if due := state.PostedTo.Add(window); now.Before(due) {
			summary := "Next settlement at " + due.Format(time.RFC3339Nano)
			if err := workflow.NewTimerWithOptions(ctx, due.Sub(now), workflow.TimerOptions{Summary: summary}).Get(ctx, nil); err != nil {
				return err
			}
			continue
		}
		to := state.Anchor.Add(now.Sub(*state.Anchor).Truncate(window))
		in := workflows.PostWindowsIn{Meter: meterOf(input), From: state.PostedTo, To: to, Now: now}
		summary := "Windows up to " + to.Format(time.RFC3339Nano)
		out, err := workflows.StepPostWindows.RunLocal(ctx, summary, 5*time.Second, in)
		if err != nil {
			if out, err = workflows.StepPostWindows.Run(ctx, summary, in); err != nil {
				return err
			}
		}
		state.PostedTo = out.PostedTo
	}
}

func meterOf(input workflows.AllocationInput) workflows.Meter {
	terms := input.Carried.Terms
	return workflows.Meter{
		AllocationID: input.AllocationID, TenantID: terms.TenantID, AccountID: terms.AccountID, Currency: terms.Currency,
		RateMicrosPerHour: terms.RateMicrosPerHour, WindowSeconds: terms.WindowSeconds, Anchor: *input.Carried.Anchor, CorrelationID: terms.CorrelationID,
	}
}

// postings counts the steps that posted, in the worker itself: all of them, and each meter's own.
type postings struct {
	interceptor.WorkerInterceptorBase
	settled, windows atomic.Int64

	mutex sync.Mutex
	of    map[id.Allocation]int64
}

func (p *postings) count(posting workflows.PostWindowsIn) {
	p.settled.Add(1)
	p.windows.Add(int64(posting.To.Sub(posting.From) / (shortWindow * time.Second)))
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.of[posting.Meter.AllocationID]++
}

// settledOf is how many settlements of one meter posted.
func (p *postings) settledOf(meter workflows.Meter) int64 {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.of[meter.AllocationID]
}

// InterceptActivity listens to the steps of this worker.
func (p *postings) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	listener := &postingListener{postings: p}
	listener.Next = next
	return listener
}

type postingListener struct {
	interceptor.ActivityInboundInterceptorBase
	postings *postings
}

// ExecuteActivity runs the step and counts what it posted.
func (l *postingListener) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	out, err := l.Next.ExecuteActivity(ctx, in)
	if err == nil && len(in.Args) == 1 {
		if posting, is := in.Args[0].(workflows.PostWindowsIn); is {
			l.postings.count(posting)
		}
	}
	return out, err
}

func meteringID(meter workflows.Meter, round int) string {
	return fmt.Sprintf("%s/round-%d", workflows.AllocationWorkflowID(meter.AllocationID), round)
}

// start puts every meter into the state in which continue-as-new hands it over: active, with nothing posted yet.
func start(ctx context.Context, cluster client.Client, meters []workflows.Meter, round int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(startersAtOnce)
	for _, meter := range meters {
		group.Go(func() error {
			lease := node.Lease{NodeID: "node", AllocationID: meter.AllocationID, Generation: 1}
			anchor := meter.Anchor
			_, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: meteringID(meter, round), TaskQueue: workflows.AllocationsQueue},
				workflows.AllocationType, workflows.AllocationInput{AllocationID: meter.AllocationID, Carried: &workflows.AllocationState{
					Terms: workflows.Terms{
						TenantID: meter.TenantID, AccountID: meter.AccountID, Currency: meter.Currency, RateMicrosPerHour: meter.RateMicrosPerHour,
						WindowSeconds: shortWindow, WindowsPerSettlement: 1, RuntimeMode: workflows.RuntimeNoop, CorrelationID: meter.CorrelationID, Lease: lease,
					},
					State: allocation.Active, Version: 3, Lease: &lease, LastNode: lease.NodeID, Anchor: &anchor, PostedTo: anchor,
				}})
			return err
		})
	}
	return group.Wait()
}

func terminate(ctx context.Context, cluster client.Client, meters []workflows.Meter, round int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(startersAtOnce)
	for _, meter := range meters {
		group.Go(func() error { return cluster.TerminateWorkflow(ctx, meteringID(meter, round), "", "the round is over") })
	}
	return group.Wait()
}

// eventsPerSettlement is what the histories of some meters hold, by the settlements of those same meters: under overload
// some meters get on faster than others. They are spread over all.
func eventsPerSettlement(ctx context.Context, cluster client.Client, meters []workflows.Meter, round int, posted *postings) (float64, error) {
	const sampled = 20
	var events, settled int64
	for i := 0; i < len(meters); i += max(len(meters)/sampled, 1) {
		described, err := cluster.DescribeWorkflowExecution(ctx, meteringID(meters[i], round), "")
		if err != nil {
			return 0, err
		}
		events += described.GetWorkflowExecutionInfo().GetHistoryLength()
		settled += posted.settledOf(meters[i])
	}
	if settled == 0 {
		return 0, errors.New("no sampled meter was settled")
	}
	return float64(events) / float64(settled), nil
}

func wait(ctx context.Context, patience time.Duration) error {
	select {
	case <-time.After(patience):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
