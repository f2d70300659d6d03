// Command outbox measures the publishing of events beside its limits, on a real PostgreSQL and a real NATS with its streams on disk: the
// relay against publishing alone, asynchronously and with as many messages under way; and writers of events with a relay beside them
// against writers alone; and how long an event takes from its commit to a WebSocket. Runs alternate and the median of at least three
// counts. It may import internal and what lies below it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/outbox"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	aimRelay    = 0.5
	aimProducer = 0.9
	connections = 24
	// turns of the writers, for each run of the others: what else the machine does changes within seconds, so many short ones tell more
	// than few long ones.
	turns = 3
)

// settings are what the command line decides.
type settings struct {
	runs, events, writers, deliveries int
	produce                           time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench outbox:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("outbox", flag.ContinueOnError)
	var chosen settings
	flags.IntVar(&chosen.runs, "runs", 9, "runs of each contender, alternating; the median counts")
	flags.IntVar(&chosen.events, "events", 60_000, "events of one run")
	flags.IntVar(&chosen.writers, "writers", 8, "writers of events at once")
	flags.IntVar(&chosen.deliveries, "deliveries", 200, "events that are followed to a WebSocket, one after the other")
	flags.DurationVar(&chosen.produce, "produce", 3*time.Second, "how long writers write in one run, after a tenth of it that does not count")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if chosen.runs < 3 {
		return fmt.Errorf("a median needs at least 3 runs, not %d", chosen.runs)
	}
	b, err := newBench(ctx, chosen)
	if err != nil {
		return err
	}
	defer b.close()
	// Publishing comes last: its millions of message ids stay in the server's memory, and would burden what is no part of it.
	if err := b.producing(ctx); err != nil {
		return err
	}
	if err := b.delivering(ctx); err != nil {
		return err
	}
	return b.publishing(ctx)
}

// bench is a database whose outbox is sealed, and a NATS.
type bench struct {
	settings
	pool *pgxpool.Pool
	bus  *nats.Client
	// natsConfig is where it is.
	natsConfig nats.Config
	remove     func()
	stop       context.CancelFunc
	sealing    sync.WaitGroup
	written    int
}

func newBench(ctx context.Context, chosen settings) (*bench, error) {
	servers := rig.Servers{DatabaseURL: os.Getenv("GPUAAS_TEST_DATABASE_URL")}
	address := os.Getenv("GPUAAS_TEST_NATS_URL")
	if servers.DatabaseURL == "" || address == "" {
		return nil, errors.New("GPUAAS_TEST_DATABASE_URL and GPUAAS_TEST_NATS_URL must name a server each: run make bench-outbox")
	}
	b := &bench{settings: chosen, natsConfig: nats.Config{URL: address, Streams: nats.DefaultStreams()}}
	var err error
	if b.pool, b.remove, err = servers.Database(ctx, connections); err != nil {
		return nil, err
	}
	if b.bus, err = nats.Open(b.natsConfig, "bench", slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if _, err := b.bus.AwaitDeclared(ctx); err != nil {
		return nil, err
	}
	sealing, stop := context.WithCancel(ctx)
	b.stop = stop
	b.sealing.Go(func() { _ = activities.NewSealer(b.pool, slog.New(slog.DiscardHandler)).Run(sealing) })
	return b, nil
}

func (b *bench) close() {
	b.stop()
	b.sealing.Wait()
	b.bus.Close()
	b.remove()
}

// publishing compares the relay with publishing alone.
func (b *bench) publishing(ctx context.Context) error {
	var relayed, alone []float64
	for range b.runs {
		rows, err := b.fill(ctx)
		if err != nil {
			return err
		}
		rate, err := b.publishAlone(ctx, rows)
		if err != nil {
			return err
		}
		alone = append(alone, rate)
		if rate, err = b.relay(ctx, rows[len(rows)-1].ID); err != nil {
			return err
		}
		relayed = append(relayed, rate)
	}
	fmt.Printf("publishing alone %.0f events/s, relay %.0f events/s, %d events of about 500 bytes\n", rig.Median(alone), rig.Median(relayed), b.events)
	rig.AtLeast("outbox_relay_vs_publish", rig.Median(relayed)/rig.Median(alone), aimRelay)
	return nil
}

// fill writes a run's events, waits until they are sealed, and answers them.
func (b *bench) fill(ctx context.Context) ([]queries.SealedRow, error) {
	var behind int64
	if err := b.pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM outbox`).Scan(&behind); err != nil {
		return nil, err
	}
	columns := []string{"stream", "subject", "msg_id", "aggregate_id", "payload"}
	err := store.InTx(ctx, b.pool, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"outbox"}, columns, pgx.CopyFromSlice(b.events, func(int) ([]any, error) {
			row, err := b.next().Row()
			return []any{row.Stream, row.Subject, row.MsgID, row.AggregateID, row.Payload}, err
		}))
		return err
	})
	if err != nil {
		return nil, err
	}
	for {
		sealed, err := queries.NewestSeal(ctx, b.pool, queries.SealedOutbox)
		if err != nil {
			return nil, err
		}
		if sealed >= behind+int64(b.events) {
			return queries.ReadOutbox(ctx, b.pool, behind, b.events)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// next is another event as a posting writes it.
func (b *bench) next() queries.Event {
	b.written++
	return queries.Event{
		Type: event.BillingUsageRecorded, Fact: fmt.Sprintf("bench/%d/%x", b.written, rig.Entropy(4)), AggregateID: fmt.Sprintf("acct-%d", b.written%500), OccurredAt: time.Now(), CorrelationID: "bench",
		Payload: map[string]any{"tenant_id": "tenant_mfrggzdfmztwq2lknnwg23tpoa", "account_id": "acct_mfrggzdfmztwq2lknnwg23tpoa", "currency": "usd", "amount_micros": b.written, "entry_ids": []int{b.written, b.written + 1, b.written + 2}},
	}
}

// publishAlone publishes rows that are in memory, under message ids of their own, with as many under way as a relay has.
func (b *bench) publishAlone(ctx context.Context, rows []queries.SealedRow) (float64, error) {
	began := time.Now()
	batch := outbox.DefaultConfig().Batch
	for from := 0; from < len(rows); from += batch {
		part := rows[from:min(from+batch, len(rows))]
		acknowledgements := make([]jetstream.PubAckFuture, len(part))
		for i, row := range part {
			message := &natsgo.Msg{Subject: row.Subject, Data: row.Payload, Header: natsgo.Header{jetstream.MsgIDHeader: {"alone-" + row.MsgID}}}
			acknowledgement, err := b.bus.JetStream.PublishMsgAsync(message)
			if err != nil {
				return 0, err
			}
			acknowledgements[i] = acknowledgement
		}
		for _, acknowledgement := range acknowledgements {
			select {
			case <-acknowledgement.Ok():
			case err := <-acknowledgement.Err():
				return 0, err
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	return float64(len(rows)) / time.Since(began).Seconds(), nil
}

// relay runs a relay until it has passed a row.
func (b *bench) relay(ctx context.Context, last int64) (float64, error) {
	_, stop := b.startRelay(ctx)
	defer stop()
	began := time.Now()
	for {
		at, err := queries.OutboxRelay(ctx, b.pool)
		if err != nil {
			return 0, err
		}
		if at.CursorID >= last {
			return float64(b.events) / time.Since(began).Seconds(), nil
		}
		if err := pause(ctx); err != nil {
			return 0, err
		}
	}
}

// startRelay runs a relay until it is stopped; it gives its lead back then.
func (b *bench) startRelay(ctx context.Context) (relay *outbox.Relay, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	relay = outbox.New(b.pool, b.bus, outbox.DefaultConfig(), "bench", slog.New(slog.DiscardHandler))
	running.Go(func() { _ = relay.Run(ctx) })
	return relay, func() { cancel(); running.Wait() }
}

// producing compares writers with a relay beside them with writers alone, turn by turn: the two of a turn follow each other closely, alternately
// the one first and the other, so that what else the machine does meets both.
func (b *bench) producing(ctx context.Context) error {
	var beside, alone, ratios []float64
	for turn := range turns * b.runs {
		rates, err := b.produceTwice(ctx, turn%2 == 1)
		if err != nil {
			return err
		}
		alone, beside, ratios = append(alone, rates[false]), append(beside, rates[true]), append(ratios, rates[true]/rates[false])
		fmt.Printf("producers turn %d: alone %.0f events/s, with a relay beside them %.0f\n", turn+1, rates[false], rates[true])
	}
	fmt.Printf("writers alone %.0f events/s, with a relay beside them %.0f events/s, %d writers, an event a transaction\n", rig.Median(alone), rig.Median(beside), b.writers)
	rig.AtLeast("outbox_producer_rate", rig.Median(ratios), aimProducer)
	return nil
}

// produceTwice answers the rates of writers with a relay beside them, and without.
func (b *bench) produceTwice(ctx context.Context, besideFirst bool) (map[bool]float64, error) {
	rates := map[bool]float64{}
	for _, beside := range []bool{besideFirst, !besideFirst} {
		relay, stop := b.startRelay(ctx)
		err := b.caughtUp(ctx, relay) // neither its start nor what was written without it is part of the run
		if err == nil && !beside {
			stop()
		}
		if err == nil {
			rates[beside], err = b.produceFor(ctx)
		}
		stop()
		if err != nil {
			return nil, err
		}
	}
	return rates, nil
}

// caughtUp waits until a relay leads and nothing waits for it.
func (b *bench) caughtUp(ctx context.Context, relay *outbox.Relay) error {
	for {
		if !relay.Leads() {
			if err := pause(ctx); err != nil {
				return err
			}
			continue
		}
		at, err := queries.OutboxRelay(ctx, b.pool)
		if err != nil {
			return err
		}
		pending, err := queries.OutboxPending(ctx, b.pool, at.CursorID, 1)
		if err != nil || pending.Events == 0 {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// produceFor writes events, each in a transaction of its own, and answers how many a second once the writers are in stride.
func (b *bench) produceFor(ctx context.Context) (float64, error) {
	warmup := b.produce / 10
	ctx, cancel := context.WithTimeout(ctx, warmup+b.produce)
	defer cancel()
	var (
		writers sync.WaitGroup
		mutex   sync.Mutex
		written atomic.Int64
		failed  error
	)
	for range b.writers {
		writers.Go(func() {
			for ctx.Err() == nil {
				mutex.Lock()
				next := b.next()
				mutex.Unlock()
				err := store.InTx(ctx, b.pool, func(ctx context.Context, tx pgx.Tx) error { return queries.InsertOutbox(ctx, tx, next) })
				if err == nil {
					written.Add(1)
					continue
				}
				if ctx.Err() == nil {
					mutex.Lock()
					failed = errors.Join(failed, err)
					mutex.Unlock()
					return
				}
			}
		})
	}
	select {
	case <-time.After(warmup):
	case <-ctx.Done():
	}
	before, began := written.Load(), time.Now()
	<-ctx.Done()
	rate := float64(written.Load()-before) / time.Since(began).Seconds()
	writers.Wait()
	return rate, failed
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Millisecond):
		return nil
	}
}
