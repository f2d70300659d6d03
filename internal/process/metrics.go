package process

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/consumer"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/outbox"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	// snapshotLife is how old what a database or NATS says of the whole platform may be: several scrape, and none of them may load either.
	snapshotLife = 15 * time.Second
	// snapshotTimeout bounds the asking.
	snapshotTimeout = 3 * time.Second
	// fundsPatience is how long after the end of money was found what costs money may go on.
	fundsPatience = 5 * time.Minute
	// mostPending bounds the counting of events that wait.
	mostPending = 100_000
)

// snapshot asks for something at most once in snapshotLife, whoever scrapes. What could not be asked for is asked for again.
func snapshot[T any](ask func(ctx context.Context) (T, error)) func(ctx context.Context) (T, error) {
	var (
		mutex sync.Mutex
		taken time.Time
		kept  T
	)
	return func(ctx context.Context) (T, error) {
		mutex.Lock()
		defer mutex.Unlock()
		if !taken.IsZero() && time.Since(taken) < snapshotLife {
			return kept, nil
		}
		ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
		defer cancel()
		fresh, err := ask(ctx)
		if err == nil {
			taken, kept = time.Now(), fresh
		}
		return fresh, err
	}
}

func observePool(meter *telemetry.Meter, pool *pgxpool.Pool) {
	meter.Observe(func(_ context.Context, see telemetry.See) error {
		stat := pool.Stat()
		see(telemetry.DatabaseConnections, float64(stat.IdleConns()), "idle")
		see(telemetry.DatabaseConnections, float64(stat.AcquiredConns()), "acquired")
		see(telemetry.DatabaseConnections, float64(stat.ConstructingConns()), "constructing")
		see(telemetry.DatabaseConnectionsLimit, float64(stat.MaxConns()))
		see(telemetry.DatabaseAcquires, float64(stat.AcquireCount()))
		see(telemetry.DatabaseAcquireWaits, float64(stat.EmptyAcquireCount()))
		see(telemetry.DatabaseAcquireSeconds, stat.AcquireDuration().Seconds())
		see(telemetry.DatabaseAcquiresCanceled, float64(stat.CanceledAcquireCount()))
		return nil
	}, telemetry.DatabaseConnections, telemetry.DatabaseConnectionsLimit, telemetry.DatabaseAcquires, telemetry.DatabaseAcquireWaits,
		telemetry.DatabaseAcquireSeconds, telemetry.DatabaseAcquiresCanceled)
}

func observeLedger(meter *telemetry.Meter, ledger *activities.Ledger) {
	meter.Observe(func(_ context.Context, see telemetry.See) error {
		stats := ledger.Stats()
		see(telemetry.LedgerStatements, float64(stats.Statements))
		see(telemetry.LedgerWindows, float64(stats.Posted), "posted")
		see(telemetry.LedgerWindows, float64(stats.Repeated), "repeated")
		see(telemetry.LedgerBisections, float64(stats.Bisections))
		see(telemetry.LedgerRefusals, float64(stats.Refused))
		see(telemetry.LedgerConflicts, float64(stats.Conflicts))
		return nil
	}, telemetry.LedgerStatements, telemetry.LedgerWindows, telemetry.LedgerBisections, telemetry.LedgerRefusals, telemetry.LedgerConflicts)
}

func observeSealer(meter *telemetry.Meter, sealer *activities.Sealer) {
	meter.Observe(func(_ context.Context, see telemetry.See) error {
		see(telemetry.SealLag, sealer.Lag().Seconds())
		see(telemetry.LedgerCheckpoints, float64(sealer.Checkpoints()))
		if looked := sealer.Looked(); !looked.IsZero() {
			see(telemetry.SealLooked, seconds(looked))
		}
		return nil
	}, telemetry.SealLag, telemetry.LedgerCheckpoints, telemetry.SealLooked)
}

// words are the texts of typed ones.
func words[Word ~string](all []Word) []string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = string(one)
	}
	return texts
}

// seconds since the epoch, as Prometheus tells time.
func seconds(instant time.Time) float64 { return float64(instant.UnixMilli()) / 1000 }

// census is what the database says of the whole platform.
type census struct {
	allocations map[allocation.State]int64
	nodes       []queries.NodeCount
	funds       map[billing.Rung]int64
	overdue     int64
	findings    map[reconciliation.Kind]int64
	completed   *time.Time
	unchained   int64
}

func takeCensus(ctx context.Context, db queries.DB) (taken census, err error) {
	if taken.allocations, err = queries.CountAllocations(ctx, db); err != nil {
		return taken, err
	}
	if taken.nodes, err = queries.CountNodes(ctx, db); err != nil {
		return taken, err
	}
	if taken.funds, err = queries.CountFunds(ctx, db); err != nil {
		return taken, err
	}
	if taken.overdue, err = queries.CountOverdueFunds(ctx, db, time.Now().Add(-fundsPatience)); err != nil {
		return taken, err
	}
	if taken.findings, err = queries.OpenFindings(ctx, db); err != nil {
		return taken, err
	}
	if taken.completed, err = queries.ReconciliationCompleted(ctx, db); err != nil {
		return taken, err
	}
	newest, err := queries.NewestLedgerBlock(ctx, db)
	if err != nil {
		return taken, err
	}
	var chained int64
	if newest != nil {
		chained = newest.UpToID
	}
	behind, err := queries.LedgerBehind(ctx, db, chained)
	taken.unchained = behind.Entries
	return taken, err
}

// observePlatform measures what the database says. Whatever may be counted is there as zero while there is none of it.
func observePlatform(meter *telemetry.Meter, pool *pgxpool.Pool) {
	ask := snapshot(func(ctx context.Context) (census, error) { return takeCensus(ctx, pool) })
	meter.Observe(func(ctx context.Context, see telemetry.See) error {
		taken, err := ask(ctx)
		if err != nil {
			return err
		}
		for _, state := range allocation.States() {
			if !state.Terminal() {
				see(telemetry.Allocations, float64(taken.allocations[state]), string(state))
			}
		}
		taken.seeNodes(see)
		taken.seeFunds(see)
		taken.seeFindings(see)
		if taken.completed != nil {
			see(telemetry.ReconciliationCompleted, seconds(*taken.completed))
		}
		see(telemetry.LedgerUnchained, float64(taken.unchained))
		return nil
	}, telemetry.Allocations, telemetry.Nodes, telemetry.NodesClaimed, telemetry.FundsAccounts, telemetry.FundsOverdue, telemetry.ReconciliationFindings,
		telemetry.ReconciliationCompleted, telemetry.LedgerUnchained)
}

func (c census) seeNodes(see telemetry.See) {
	states, claimed := map[string]int64{}, int64(0)
	for _, reachability := range node.Reachabilities() {
		for _, scheduling := range node.Schedulings() {
			states[node.State(reachability, scheduling)] = 0
		}
	}
	for _, row := range c.nodes {
		states[node.State(row.Reachability, row.Scheduling)] += row.Nodes
		claimed += row.Claimed
	}
	for state, nodes := range states {
		see(telemetry.Nodes, float64(nodes), state)
	}
	see(telemetry.NodesClaimed, float64(claimed))
}

func (c census) seeFunds(see telemetry.See) {
	for _, rung := range billing.Rungs() {
		see(telemetry.FundsAccounts, float64(c.funds[rung]), string(rung))
	}
	see(telemetry.FundsOverdue, float64(c.overdue))
}

func (c census) seeFindings(see telemetry.See) {
	type group struct {
		check    reconciliation.Check
		severity reconciliation.Severity
	}
	open := map[group]int64{}
	for _, kind := range reconciliation.Kinds() {
		open[group{kind.Check(), kind.Severity()}] += c.findings[kind]
	}
	for of, findings := range open {
		see(telemetry.ReconciliationFindings, float64(findings), string(of.check), string(of.severity))
	}
}

// observeRelay measures the outbox and what became of events that nobody takes.
func observeRelay(meter *telemetry.Meter, relay *outbox.Relay, pool *pgxpool.Pool, bus *nats.Client) {
	meter.Observe(func(_ context.Context, see telemetry.See) error {
		leads := 0.0
		if relay.Leads() {
			leads = 1
		}
		see(telemetry.OutboxLeads, leads)
		see(telemetry.OutboxPublished, float64(relay.Published()))
		return nil
	}, telemetry.OutboxLeads, telemetry.OutboxPublished)
	type waiting struct {
		events int64
		age    time.Duration
	}
	ask := snapshot(func(ctx context.Context) (waiting, error) {
		at, err := queries.OutboxRelay(ctx, pool)
		if err != nil {
			return waiting{}, err
		}
		pending, err := queries.OutboxPending(ctx, pool, at.CursorID, mostPending)
		found := waiting{events: pending.Events}
		if pending.Since != nil {
			found.age = max(at.Now.Sub(*pending.Since), 0)
		}
		return found, err
	})
	meter.Observe(func(ctx context.Context, see telemetry.See) error {
		found, err := ask(ctx)
		if err == nil {
			see(telemetry.OutboxUnpublished, float64(found.events))
			see(telemetry.OutboxUnpublishedAge, found.age.Seconds())
		}
		return err
	}, telemetry.OutboxUnpublished, telemetry.OutboxUnpublishedAge)
	letters := snapshot(bus.CountLetters)
	meter.Observe(func(ctx context.Context, see telemetry.See) error {
		found, err := letters(ctx)
		if err == nil {
			see(telemetry.DeadLetters, float64(found))
		}
		return err
	}, telemetry.DeadLetters)
}

// observeConsumers measures the consumers of a process, and how far they are.
func observeConsumers(meter *telemetry.Meter, bus *nats.Client, consumers map[string]*consumer.Consumer) {
	meter.Observe(func(_ context.Context, see telemetry.See) error {
		for name, one := range consumers {
			applied, dead := one.Counts()
			see(telemetry.ConsumerEvents, float64(applied), name, "applied")
			see(telemetry.ConsumerEvents, float64(dead), name, "given_up")
		}
		return nil
	}, telemetry.ConsumerEvents)
	ask := snapshot(func(ctx context.Context) ([]nats.Backlog, error) {
		var all []nats.Backlog
		var trouble error
		for name := range consumers {
			found, err := bus.Backlogs(ctx, name)
			all, trouble = append(all, found...), errors.Join(trouble, err)
		}
		return all, trouble
	})
	meter.Observe(func(ctx context.Context, see telemetry.See) error {
		found, err := ask(ctx)
		for _, one := range found {
			see(telemetry.ConsumerPending, float64(one.Pending), one.Consumer, one.Stream)
			see(telemetry.ConsumerUnacknowledged, float64(one.Unacknowledged), one.Consumer, one.Stream)
		}
		return err
	}, telemetry.ConsumerPending, telemetry.ConsumerUnacknowledged)
}
