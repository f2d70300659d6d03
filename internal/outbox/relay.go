// Package outbox is the relay: it publishes the rows of the outbox to NATS JetStream, each at least once and in the order of their ids,
// and nothing else publishes events. It reads sealed rows behind a cursor, holds no transaction while it publishes, awaits every
// acknowledgement, and then moves the cursor under the epoch in which it leads. Any number of relays may run; one of them leads. It
// imports domain, schema/queries, internal/nats and internal/store.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// Name is how letters name the relay.
const Name = "outbox-relay"

const (
	// A round that had trouble is tried again after a pause that grows.
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
	// lagAlarm is how long an event may wait before somebody must hear of it, and how often.
	lagAlarm = 30 * time.Second
	// troubleEvery is how often the same trouble is logged.
	troubleEvery = 5 * time.Second
	// resignTimeout bounds a leader's last word.
	resignTimeout = 2 * time.Second
	// busyRound is how many events in one round have the next one wait longest, and longestGathering how many poll intervals that is.
	busyRound        = 128
	longestGathering = 4
	// leaseParts: a lease is prolonged, and asked for, several times while it lasts.
	leaseParts = 5
)

// Config of a relay.
type Config struct {
	Poll  time.Duration `env:"OUTBOX_POLL_INTERVAL" envDefault:"20ms" usage:"how often the leading relay looks for sealed events; up to four times less often while many are written"`
	Lease time.Duration `env:"OUTBOX_LEASE" envDefault:"5s" usage:"how long a relay that falls silent keeps leading"`
	Batch int           `env:"OUTBOX_BATCH" envDefault:"1000" usage:"events published before the cursor is moved"`
}

// DefaultConfig is what an empty environment gives.
func DefaultConfig() Config {
	return Config{Poll: 20 * time.Millisecond, Lease: 5 * time.Second, Batch: 1000}
}

// Check says in one sentence each what is wrong with it.
func (c Config) Check() []string {
	var mistakes []string
	if c.Poll < time.Millisecond || c.Poll > time.Second {
		mistakes = append(mistakes, "OUTBOX_POLL_INTERVAL must lie between 1ms and 1s.")
	}
	if c.Lease < time.Second || c.Lease > time.Minute {
		mistakes = append(mistakes, "OUTBOX_LEASE must lie between 1s and 1m.")
	}
	if c.Batch < 1 || c.Batch > nats.MostUnacknowledged {
		mistakes = append(mistakes, fmt.Sprintf("OUTBOX_BATCH must lie between 1 and %d.", nats.MostUnacknowledged))
	}
	return mistakes
}

// errDeposed says that another relay leads, or that an operator moved the cursor.
var errDeposed = errors.New("another epoch has begun")

// Relay publishes one database's outbox.
type Relay struct {
	pool   *pgxpool.Pool
	bus    *nats.Client
	config Config
	// name tells this relay from others.
	name string
	log  *slog.Logger

	// waiting is the instant, in Unix milliseconds, at which the oldest event that waits was written; 0 for none.
	waiting   atomic.Int64
	leading   atomic.Bool
	published atomic.Int64
	// ahead delivers the rows that were read ahead; nil when none were.
	ahead     chan batch
	keptAt    time.Time
	alarmedAt time.Time
	saidAt    time.Time
}

// batch is what was read behind an id.
type batch struct {
	after int64
	rows  []queries.SealedRow
	err   error
}

// New makes a relay; its name must be no other's.
func New(pool *pgxpool.Pool, bus *nats.Client, config Config, name string, log *slog.Logger) *Relay {
	return &Relay{pool: pool, bus: bus, config: config, name: name, log: log}
}

// Leads says whether this relay leads.
func (r *Relay) Leads() bool { return r.leading.Load() }

// Published counts the rows that this relay published and passed.
func (r *Relay) Published() int64 { return r.published.Load() }

// Lag is how long the oldest event that this relay has in hand waits; 0 while it does not lead or nothing waits.
func (r *Relay) Lag() time.Duration {
	if since := r.waiting.Load(); since != 0 && r.Leads() {
		return max(time.Since(time.UnixMilli(since)), time.Millisecond)
	}
	return 0
}

// Run publishes, whenever this relay leads, until ctx ends. A database or a NATS that is away is waited for.
func (r *Relay) Run(ctx context.Context) error {
	if _, err := r.bus.AwaitDeclared(ctx); err != nil {
		return err
	}
	for {
		term, err := r.lead(ctx)
		if err != nil {
			return err
		}
		r.log.InfoContext(ctx, "this relay leads", "epoch", term.Epoch, "cursor", term.CursorID)
		r.leading.Store(true)
		err = r.serve(ctx, term)
		r.leading.Store(false)
		if ctx.Err() != nil {
			r.resign(ctx, term)
			return ctx.Err()
		}
		r.log.InfoContext(ctx, "this relay leads no more", "epoch", term.Epoch, "reason", err.Error())
	}
}

// lead waits until nobody else leads.
func (r *Relay) lead(ctx context.Context) (queries.RelayTerm, error) {
	for {
		term, leads, err := queries.LeadOutbox(ctx, r.pool, r.name, r.config.Lease)
		if leads {
			r.keptAt = time.Now()
			return term, nil
		}
		if err != nil {
			r.trouble(ctx, err)
		}
		if err := pause(ctx, r.config.Lease/leaseParts); err != nil {
			return term, err
		}
	}
}

func (r *Relay) resign(ctx context.Context, term queries.RelayTerm) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if err := queries.ResignOutbox(ctx, r.pool, term.Epoch); err != nil {
		r.log.WarnContext(ctx, "the lead was not given back; it ends by itself", "error", err.Error())
	}
}

// serve publishes batch after batch until the epoch is over or ctx ends.
func (r *Relay) serve(ctx context.Context, term queries.RelayTerm) error {
	wait := firstPause
	for {
		published, err := r.round(ctx, &term)
		switch {
		case errors.Is(err, errDeposed), ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case err != nil:
			r.trouble(ctx, err)
			if err := pause(ctx, wait); err != nil {
				return err
			}
			wait = min(2*wait, longestPause)
			continue
		}
		wait = firstPause
		if published < r.config.Batch { // nothing more was sealed yet
			if err := pause(ctx, r.gathering(published)); err != nil {
				return err
			}
		}
	}
}

// gathering is how long to let events gather after a round: the poll interval while there are few, and longer the more there were, so that
// rounds stay few where many write, and leave the machine to the writers.
func (r *Relay) gathering(published int) time.Duration {
	return r.config.Poll + r.config.Poll*(longestGathering-1)*time.Duration(min(published, busyRound))/busyRound
}

// round publishes one batch and moves the cursor behind what was acknowledged of it without a gap.
func (r *Relay) round(ctx context.Context, term *queries.RelayTerm) (published int, err error) {
	if time.Since(r.keptAt) > r.config.Lease/leaseParts {
		if err := r.keep(ctx, term.Epoch); err != nil {
			return 0, err
		}
	}
	rows, err := r.read(ctx, term.CursorID)
	if err != nil || len(rows) == 0 {
		if err == nil {
			r.waiting.Store(0)
		}
		return 0, err
	}
	r.waiting.Store(rows[0].CreatedAt.UnixMilli())
	r.watchLag(ctx)
	acknowledgements, unsent := r.send(rows)
	if unsent == nil && len(rows) == r.config.Batch {
		r.readAhead(ctx, rows[len(rows)-1].ID)
	}
	passed, refused, err := r.confirm(ctx, rows, acknowledgements)
	if err == nil {
		err = unsent
	}
	if passed == 0 {
		return 0, err
	}
	if moveErr := r.move(ctx, term, rows[passed-1].ID, refused); moveErr != nil {
		return 0, moveErr
	}
	r.published.Add(int64(passed))
	return passed, err
}

// read answers the rows behind the cursor, those that were read ahead if they are these.
func (r *Relay) read(ctx context.Context, cursor int64) ([]queries.SealedRow, error) {
	if ahead := r.ahead; ahead != nil {
		r.ahead = nil
		if found := <-ahead; found.after == cursor && found.err == nil && len(found.rows) > 0 {
			return found.rows, nil
		}
	}
	return queries.ReadOutbox(ctx, r.pool, cursor, r.config.Batch)
}

// readAhead reads the next rows while those before them are acknowledged. What is sealed never changes, so they may be read early.
func (r *Relay) readAhead(ctx context.Context, after int64) {
	ahead := make(chan batch, 1)
	r.ahead = ahead
	go func() {
		rows, err := queries.ReadOutbox(ctx, r.pool, after, r.config.Batch)
		ahead <- batch{after, rows, err}
	}()
}

func (r *Relay) keep(ctx context.Context, epoch int64) error {
	kept, err := queries.KeepOutboxLead(ctx, r.pool, epoch, r.config.Lease)
	if err == nil && !kept {
		return errDeposed
	}
	r.keptAt = time.Now()
	return err
}

// move moves the cursor, and writes the letters of the rows that nobody will ever take, in one transaction with it.
func (r *Relay) move(ctx context.Context, term *queries.RelayTerm, to int64, refused []refusal) error {
	move := func(ctx context.Context, db queries.DB) error {
		moved, err := queries.MoveOutboxCursor(ctx, db, term.Epoch, term.CursorID, to, r.config.Lease)
		if err == nil && !moved {
			return errDeposed
		}
		return err
	}
	var err error
	if len(refused) == 0 {
		err = move(ctx, r.pool)
	} else {
		err = store.InTx(ctx, r.pool, func(ctx context.Context, tx pgx.Tx) error {
			if err := move(ctx, tx); err != nil {
				return err
			}
			return r.writeLetters(ctx, tx, refused)
		})
	}
	if err != nil {
		return err
	}
	term.CursorID, r.keptAt = to, time.Now()
	return nil
}

func (r *Relay) writeLetters(ctx context.Context, tx pgx.Tx, refused []refusal) error {
	for _, one := range refused {
		if one.row.Stream == event.DeadLetters {
			// A letter about a letter would have no end; its row stays in the outbox for as long as any.
			r.log.ErrorContext(ctx, "alarm: a dead letter cannot be published", "outbox_id", one.row.ID, "subject", one.row.Subject, "reason", one.reason)
			continue
		}
		letter := event.Letter{
			EventID: one.row.MsgID, Stream: one.row.Stream, Subject: one.row.Subject, Consumer: Name, Reason: event.Readable(one.reason), Attempts: 1,
			FailedAt: time.Now().UTC().Truncate(time.Millisecond), OutboxID: one.row.ID,
		}
		letter.Carry(one.row.Payload)
		if err := queries.InsertLetter(ctx, tx, letter, one.row.AggregateID); err != nil {
			return err
		}
		r.log.ErrorContext(ctx, "alarm: an event cannot be published and became a dead letter", "outbox_id", one.row.ID, "subject", one.row.Subject, "reason", one.reason)
	}
	return nil
}

func (r *Relay) watchLag(ctx context.Context) {
	if lag := r.Lag(); lag > lagAlarm && time.Since(r.alarmedAt) > lagAlarm {
		r.alarmedAt = time.Now()
		r.log.ErrorContext(ctx, "alarm: events wait to be published", "lag_ms", lag.Milliseconds())
	}
}

// trouble logs what will be tried again, now and then.
func (r *Relay) trouble(ctx context.Context, err error) {
	if ctx.Err() == nil && time.Since(r.saidAt) > troubleEvery {
		r.saidAt = time.Now()
		r.log.WarnContext(ctx, "the relay had trouble and goes on", "error", err.Error())
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
