package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	// inFlight and statementWindows are the writer's own: the contenders beside it get the same.
	inFlight         = activities.StatementsInFlight
	statementWindows = activities.MaxStatementWindows
	copyWindows      = 10_000
	aimWriterVsBare  = 0.9
	aimWriterVsCopy  = 0.35
	revenueAccount   = id.Account("acct_platformrevenueusdaaaaaaaa")
)

// ledgerBench is the state that contenders share: every run posts the next windows of every allocation.
type ledgerBench struct {
	pool   *pgxpool.Pool
	ledger *activities.Ledger
	meters []workflows.Meter
	// posted is how many windows of each allocation stand.
	posted int64
	rounds int64
}

func benchLedger(ctx context.Context, databases databaseURLs, chosen settings) error {
	owner, err := store.Open(ctx, databases.owner, store.MaxConnections(2), withoutStatementTimeout)
	if err != nil {
		return err
	}
	defer owner.Close()
	meters, err := makeMeters(ctx, owner, chosen.accounts, chosen.allocations, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		return err
	}
	pool, err := store.Open(ctx, databases.program, store.MaxConnections(16))
	if err != nil {
		return err
	}
	defer pool.Close()
	quiet := slog.New(slog.DiscardHandler)
	bench := &ledgerBench{pool: pool, meters: meters, rounds: int64(chosen.windows), ledger: activities.NewLedger(pool, policy.New(pool), time.Now, quiet)}
	defer bench.ledger.Close()

	// The sealer runs beside every contender, as it does in production.
	sealing, stopSealing := context.WithCancel(ctx)
	sealed := make(chan error, 1)
	go func() { sealed <- activities.NewSealer(pool, quiet).Run(sealing) }()
	defer func() { stopSealing(); <-sealed }()

	contenders := []struct {
		name string
		post func(context.Context) error
	}{{"writer", bench.throughWriter}, {"bare", bench.bare}, {"copy", bench.copied}}
	rates := map[string][]float64{}
	fmt.Printf("ledger: %d allocations of %d accounts, %d windows each a run; %d statements in flight of at most %d windows, COPY of %d\n",
		len(meters), chosen.accounts, chosen.windows, inFlight, statementWindows, copyWindows)
	for round := range chosen.runs + 1 {
		for turn := range contenders {
			contender := contenders[(round+turn)%len(contenders)] // whoever comes first in a round finds the others' dirt
			began := time.Now()
			if err := contender.post(ctx); err != nil {
				return fmt.Errorf("%s: %w", contender.name, err)
			}
			rate := float64(len(meters)*chosen.windows) / time.Since(began).Seconds()
			bench.posted += bench.rounds
			if round == 0 {
				continue // warms connections, caches and plans
			}
			rates[contender.name] = append(rates[contender.name], rate)
			fmt.Printf("ledger run %d %-6s %8.0f windows/s\n", round, contender.name, rate)
		}
	}
	if err := bench.check(ctx, owner); err != nil {
		return err
	}
	stats := bench.ledger.Stats()
	fmt.Printf("ledger writer: %d windows in %d statements, %.0f a statement\n", stats.Posted, stats.Statements, float64(stats.Posted)/float64(stats.Statements))
	writer, bare, copied := median(rates["writer"]), median(rates["bare"]), median(rates["copy"])
	fmt.Printf("ledger median: writer %.0f windows/s, bare %.0f windows/s, copy %.0f windows/s\n", writer, bare, copied)
	rig.AtLeast("ledger_writer_vs_bare", writer/bare, aimWriterVsBare)
	rig.AtLeast("ledger_writer_vs_copy", writer/copied, aimWriterVsCopy)
	return nil
}

// throughWriter posts through the ledger's writer: one caller an allocation, all at once, each waiting for its window.
func (b *ledgerBench) throughWriter(ctx context.Context) error {
	var group errgroup.Group
	for _, meter := range b.meters {
		group.Go(func() error {
			for n := b.posted; n < b.posted+b.rounds; n++ {
				from := meter.Anchor.Add(time.Duration(n) * windowSeconds * time.Second)
				to := from.Add(windowSeconds * time.Second)
				if _, err := b.ledger.PostWindows(ctx, workflows.PostWindowsIn{Meter: meter, From: from, To: to, Now: to, DueAt: to}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// bare sends the writer's statement with nothing around it: as many in flight, full batches, one caller each, in a
// transaction that takes its xid first.
func (b *ledgerBench) bare(ctx context.Context) error {
	return b.share(statementWindows, func(meters []workflows.Meter, n int64) error {
		_, err := queries.PostUsage(ctx, b.pool, b.columns(meters, n))
		return err
	})
}

// share spreads the allocations over the statements in flight; each part posts its windows in order. As with the writer,
// the windows of a statement belong to allocations that are due together, whose ids lie anywhere, and are sorted.
func (b *ledgerBench) share(most int, post func(meters []workflows.Meter, n int64) error) error {
	var group errgroup.Group
	parts := slices.Collect(slices.Chunk(b.meters, (len(b.meters)+inFlight-1)/inFlight))
	for _, part := range parts {
		group.Go(func() error {
			for n := b.posted; n < b.posted+b.rounds; n++ {
				for due := range slices.Chunk(part, most) {
					meters := slices.SortedFunc(slices.Values(due), func(a, b workflows.Meter) int {
						return strings.Compare(string(a.AllocationID), string(b.AllocationID))
					})
					if err := post(meters, n); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// columns are the n-th windows of these allocations as the statement takes them.
func (b *ledgerBench) columns(meters []workflows.Meter, n int64) *queries.UsageBatch {
	usage := &queries.UsageBatch{TxnID: uuid(), OccurredAt: time.Now(), Currency: "usd", RevenueAccountID: revenueAccount}
	seen := map[id.Account]bool{}
	for _, meter := range meters {
		period := windowOf(meter, n)
		amount, _ := period.Amount(meter.RateMicrosPerHour, meter.Anchor)
		usage.AllocationIDs = append(usage.AllocationIDs, meter.AllocationID)
		usage.AccountIDs = append(usage.AccountIDs, meter.AccountID)
		usage.Amounts = append(usage.Amounts, amount)
		usage.PeriodStarts = append(usage.PeriodStarts, period.Start)
		usage.PeriodEnds = append(usage.PeriodEnds, period.End)
		usage.Heads = append(usage.Heads, n == 0)
		usage.IdempotencyKeys = append(usage.IdempotencyKeys, usageKey(meter, period))
		if !seen[meter.AccountID] {
			seen[meter.AccountID] = true
			usage.EventAccounts = append(usage.EventAccounts, meter.AccountID)
			usage.EventTenants = append(usage.EventTenants, meter.TenantID)
			usage.EventIDs = append(usage.EventIDs, uuid())
			usage.EventCorrelations = append(usage.EventCorrelations, meter.CorrelationID)
		}
	}
	return usage
}

// copied streams the same rows by COPY into the same tables, with their outbox rows.
func (b *ledgerBench) copied(ctx context.Context) error {
	entryColumns := []string{"kind", "txn_id", "debit_account_id", "credit_account_id", "currency", "amount_micros", "allocation_id", "period_start", "period_end", "prev_end", "idempotency_key"}
	outboxColumns := []string{"stream", "subject", "msg_id", "aggregate_id", "payload"}
	return b.share(copyWindows, func(meters []workflows.Meter, n int64) error {
		usage := b.columns(meters, n)
		return store.InTx(ctx, b.pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"ledger_entries"}, entryColumns, pgx.CopyFromSlice(usage.Len(), func(i int) ([]any, error) {
				var prevEnd *time.Time
				if !usage.Heads[i] {
					prevEnd = &usage.PeriodStarts[i]
				}
				return []any{"usage", usage.TxnID, string(usage.AccountIDs[i]), string(revenueAccount), "usd", int64(usage.Amounts[i]),
					string(usage.AllocationIDs[i]), usage.PeriodStarts[i], usage.PeriodEnds[i], prevEnd, usage.IdempotencyKeys[i]}, nil
			}))
			if err != nil {
				return err
			}
			_, err = tx.CopyFrom(ctx, pgx.Identifier{"outbox"}, outboxColumns, pgx.CopyFromSlice(len(usage.EventAccounts), func(i int) ([]any, error) {
				return []any{"BILLING", "billing.usage_recorded", usage.EventIDs[i], string(usage.EventAccounts[i]), json.RawMessage(`{"payload": {}}`)}, nil
			}))
			return err
		})
	})
}

// check wants every window of every contender in the ledger once, and its sum to the micro.
func (b *ledgerBench) check(ctx context.Context, owner *pgxpool.Pool) error {
	whole := billing.Period{Start: b.meters[0].Anchor, End: windowOf(b.meters[0], b.posted-1).End}
	each, err := whole.Amount(rate, whole.Start)
	if err != nil {
		return err
	}
	var windows, total int64
	if err := owner.QueryRow(ctx, `SELECT count(*), sum(amount_micros)::bigint FROM ledger_entries WHERE kind = 'usage'`).Scan(&windows, &total); err != nil {
		return err
	}
	if windows != b.posted*int64(len(b.meters)) || total != int64(each)*int64(len(b.meters)) {
		return fmt.Errorf("%d windows of %d micros stand, want %d of %d", windows, total, b.posted*int64(len(b.meters)), int64(each)*int64(len(b.meters)))
	}
	fmt.Printf("ledger: %d windows stand, their sum is right to the micro\n", windows)
	return nil
}

func windowOf(meter workflows.Meter, n int64) billing.Period {
	start := meter.Anchor.Add(time.Duration(n) * windowSeconds * time.Second)
	return billing.Period{Start: start, End: start.Add(windowSeconds * time.Second)}
}

func usageKey(meter workflows.Meter, period billing.Period) string {
	return "usage/" + string(meter.AllocationID) + "/" + strconv.FormatInt(period.Start.UnixMilli(), 10)
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
