// Package consumer applies events to tables of our own: a durable pull consumer hands over messages, and a function changes what it will in
// one transaction with the inbox key, by which every event is applied once however often it is delivered. What cannot be applied is
// tried again, and ends as a dead letter with its reason, in a transaction of its own; nothing behind it waits. It imports domain,
// schema/queries, internal/nats and internal/store.
package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	// most is how many messages share a transaction.
	most = 64
	// idleWait is how long a pull waits for the first message.
	idleWait = 5 * time.Second
	// A message that could not be applied comes again after a pause that doubles.
	firstBackOff   = 100 * time.Millisecond
	longestBackOff = 30 * time.Second
	// awayPause is the pause while the database cannot be asked at all, which is no message's fault.
	awayPause    = time.Second
	troublePause = 500 * time.Millisecond
	troubleEvery = 5 * time.Second
)

// ErrPoison marks an error that no other attempt would change.
var ErrPoison = errors.New("the message cannot be applied")

// Message is an event as it was delivered; Body is the whole envelope as it was published.
type Message struct {
	event.Envelope
	Body     json.RawMessage
	Stream   string
	Sequence uint64
}

// Config of a consumer.
type Config struct {
	// Name is that of the durable consumer, in internal/nats.
	Name string
	// Prepare, if set, begins every transaction, before anything is applied in it.
	Prepare func(ctx context.Context, tx pgx.Tx) error
	// Apply changes what the event changes. A fault that is not retryable, and ErrPoison, end the message at once.
	Apply func(ctx context.Context, tx pgx.Tx, message Message) error
	// Applied, if set, hears after the commit which messages were applied for the first time.
	Applied func(ctx context.Context, messages []Message)
	// Attempts is how often a message is tried before it becomes a dead letter.
	Attempts func(ctx context.Context) (int64, error)
}

// Consumer applies the events of one durable consumer. Any number may run at once.
type Consumer struct {
	Config
	pool *pgxpool.Pool
	bus  *nats.Client
	log  *slog.Logger

	applied, dead atomic.Int64
}

// New makes one.
func New(pool *pgxpool.Pool, bus *nats.Client, config Config, log *slog.Logger) *Consumer {
	return &Consumer{Config: config, pool: pool, bus: bus, log: log}
}

// Counts are how many events this consumer applied, and how many it gave up on.
func (c *Consumer) Counts() (applied, dead int64) { return c.applied.Load(), c.dead.Load() }

// Run consumes until ctx ends. A NATS or a database that is away is waited for.
func (c *Consumer) Run(ctx context.Context) error {
	if _, err := c.bus.AwaitDeclared(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, stream := range nats.StreamsOf(c.Name) {
		group.Go(func() error { return c.follow(ctx, stream) })
	}
	return group.Wait()
}

// follow pulls from one stream.
func (c *Consumer) follow(ctx context.Context, stream string) error {
	var saidAt time.Time
	for {
		err := c.pull(ctx, stream)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(saidAt) > troubleEvery {
			saidAt = time.Now()
			c.log.WarnContext(ctx, "consuming had trouble and goes on", "stream", stream, "error", err.Error())
		}
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
			if _, err := c.bus.AwaitDeclared(ctx); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(troublePause):
		}
	}
}

func (c *Consumer) pull(ctx context.Context, stream string) error {
	durable, err := c.bus.JetStream.Consumer(ctx, stream, c.Name)
	if err != nil {
		return err
	}
	for {
		messages, err := drain(durable.FetchNoWait(most))
		if err == nil && len(messages) == 0 {
			messages, err = await(ctx, durable)
		}
		if len(messages) > 0 {
			c.take(ctx, stream, messages)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// await waits a while for the next message.
func await(ctx context.Context, durable jetstream.Consumer) ([]jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, idleWait)
	defer cancel()
	return drain(durable.Fetch(1, jetstream.FetchContext(ctx)))
}

// drain collects what a pull delivers. That nothing came is no error.
func drain(batch jetstream.MessageBatch, err error) ([]jetstream.Msg, error) {
	if err != nil {
		return nil, err
	}
	var messages []jetstream.Msg
	for message := range batch.Messages() {
		messages = append(messages, message)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) && !errors.Is(err, context.DeadlineExceeded) {
		return messages, err
	}
	return messages, nil
}

// take applies messages together, or one by one when together they cannot be.
func (c *Consumer) take(ctx context.Context, stream string, messages []jetstream.Msg) {
	if c.apply(ctx, stream, messages) == nil {
		for _, message := range messages {
			c.acknowledge(ctx, message)
		}
		return
	}
	for _, message := range messages {
		if ctx.Err() != nil {
			_ = message.Nak() // to whoever runs now; if that is lost, after the acknowledgement wait
			continue
		}
		if err := c.apply(ctx, stream, []jetstream.Msg{message}); err != nil {
			c.refuse(ctx, stream, message, err)
			continue
		}
		c.acknowledge(ctx, message)
	}
}

func (c *Consumer) acknowledge(ctx context.Context, message jetstream.Msg) {
	if err := message.Ack(); err != nil && ctx.Err() == nil {
		c.log.InfoContext(ctx, "an acknowledgement was not sent; the event comes again and changes nothing", "subject", message.Subject(), "error", err.Error())
	}
}

// apply applies messages in one transaction, each unless it was before.
func (c *Consumer) apply(ctx context.Context, stream string, messages []jetstream.Msg) error {
	var fresh []Message
	err := store.InTx(ctx, c.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
		fresh = fresh[:0]
		defer func() {
			if reason := recover(); reason != nil {
				err = fmt.Errorf("applying it panicked: %v", reason)
			}
		}()
		if c.Prepare != nil {
			if err := c.Prepare(ctx, tx); err != nil {
				return err
			}
		}
		for _, raw := range messages {
			message, err := parse(stream, raw)
			if err != nil {
				return err
			}
			first, err := queries.InsertInbox(ctx, tx, c.Name, message.EventID)
			if err != nil {
				return err
			}
			if !first {
				continue
			}
			if err := c.Apply(ctx, tx, message); err != nil {
				return err
			}
			fresh = append(fresh, message)
		}
		return nil
	})
	if err != nil || len(fresh) == 0 {
		return err
	}
	c.applied.Add(int64(len(fresh)))
	if c.Applied != nil {
		c.Applied(ctx, fresh)
	}
	return nil
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func parse(stream string, raw jetstream.Msg) (Message, error) {
	message := Message{Body: raw.Data(), Stream: stream}
	if metadata, err := raw.Metadata(); err == nil {
		message.Sequence = metadata.Sequence.Stream
	}
	if err := json.Unmarshal(raw.Data(), &message.Envelope); err != nil {
		return message, fmt.Errorf("%w: it is no event: %w", ErrPoison, err)
	}
	switch {
	case !uuidForm.MatchString(message.EventID):
		return message, fmt.Errorf("%w: its event_id %q is no UUID", ErrPoison, message.EventID)
	case string(message.EventType) != raw.Subject():
		return message, fmt.Errorf("%w: it says that it is %q and was published as %q", ErrPoison, message.EventType, raw.Subject())
	case message.Version != event.Version:
		return message, fmt.Errorf("%w: its version is %q, and this consumer knows %q", ErrPoison, message.Version, event.Version)
	}
	return message, nil
}

// refuse decides what becomes of a message that could not be applied: it comes again after a while, or is given up.
func (c *Consumer) refuse(ctx context.Context, stream string, raw jetstream.Msg, cause error) {
	if ctx.Err() != nil {
		return
	}
	message, _ := parse(stream, raw)
	name := message.EventID
	if !uuidForm.MatchString(name) {
		name = fmt.Sprintf("%s/%d", stream, message.Sequence)
	}
	reason := event.Readable(secret.Text(cause.Error()))
	attempts, err := queries.RecordFailure(ctx, c.pool, c.Name, name, reason)
	if err != nil { // the database is away: nobody can tell whose fault it was
		c.later(ctx, raw, awayPause)
		return
	}
	allowed, err := c.Attempts(ctx)
	if err != nil {
		c.later(ctx, raw, awayPause)
		return
	}
	if !definite(cause) && int64(attempts) < allowed {
		c.log.InfoContext(ctx, "an event could not be applied and will come again", "consumer", c.Name, "event_id", name, "attempts", attempts, "error", reason)
		c.later(ctx, raw, backOff(attempts))
		return
	}
	letter := event.Letter{
		Stream: stream, Subject: event.Readable(raw.Subject()), Consumer: c.Name, Reason: reason, Attempts: attempts,
		FailedAt: time.Now().UTC().Truncate(time.Millisecond), Sequence: message.Sequence,
	}
	if uuidForm.MatchString(message.EventID) {
		letter.EventID = message.EventID
	}
	letter.Carry(raw.Data())
	err = store.InTx(ctx, c.pool, func(ctx context.Context, tx pgx.Tx) error {
		return queries.InsertLetter(ctx, tx, letter, name)
	})
	if err != nil {
		c.later(ctx, raw, awayPause)
		return
	}
	c.dead.Add(1)
	c.log.ErrorContext(ctx, "alarm: an event cannot be applied and became a dead letter", "consumer", c.Name, "subject", raw.Subject(), "event_id", name,
		"attempts", attempts, "reason", reason)
	c.acknowledge(ctx, raw)
}

// definite says whether another attempt would end the same.
func definite(err error) bool {
	var refused *fault.Error
	return errors.Is(err, ErrPoison) || queries.Unstorable(err) || errors.As(err, &refused) && !refused.Code.Retryable()
}

func backOff(attempts int) time.Duration {
	pause := firstBackOff
	for range attempts - 1 {
		if pause *= 2; pause > longestBackOff {
			return longestBackOff
		}
	}
	return pause
}

// later has a message delivered again after a pause; should that be lost, its acknowledgement wait does the same.
func (c *Consumer) later(ctx context.Context, message jetstream.Msg, pause time.Duration) {
	if err := message.NakWithDelay(pause); err != nil && ctx.Err() == nil {
		c.log.InfoContext(ctx, "a message could not be given back and comes again by itself", "subject", message.Subject(), "error", err.Error())
	}
}
