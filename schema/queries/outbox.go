package queries

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
)

// Event is one row of the outbox to be. Fact names what happened, once for ever (for instance
// "alloc_…/transition/3"): the event's id derives from it, so that a repeated step writes the same message id.
type Event struct {
	Type          event.Type
	Fact          string
	AggregateID   string
	OccurredAt    time.Time
	CorrelationID string
	Payload       any
}

// InsertOutbox writes the event in the transaction of the change it tells of, after the aggregate is locked.
func InsertOutbox(ctx context.Context, db DB, e Event) error {
	row, err := e.Row()
	if err != nil {
		return err
	}
	_, err = execute(ctx, db, "OutboxInsert", pgx.NamedArgs{
		"stream": row.Stream, "subject": row.Subject, "msg_id": row.MsgID, "aggregate_id": row.AggregateID, "payload": row.Payload,
	})
	return err
}

// OutboxRow is an event as its row holds it; Payload is the whole envelope.
type OutboxRow struct {
	Stream, Subject, MsgID, AggregateID string
	Payload                             json.RawMessage
}

// Row renders the event as its outbox row.
func (e Event) Row() (OutboxRow, error) {
	payload, err := json.Marshal(e.Payload)
	if err != nil {
		return OutboxRow{}, fmt.Errorf("payload of %s: %w", e.Type, err)
	}
	eventID := factUUID(string(e.Type) + "\x00" + e.Fact)
	envelope, err := json.Marshal(event.Envelope{
		EventID: eventID, EventType: e.Type, OccurredAt: e.OccurredAt.UTC().Truncate(time.Millisecond),
		Version: event.Version, CorrelationID: e.CorrelationID, Payload: payload,
	})
	if err != nil {
		return OutboxRow{}, fmt.Errorf("envelope of %s: %w", e.Type, err)
	}
	return OutboxRow{Stream: e.Type.Stream(), Subject: string(e.Type), MsgID: eventID, AggregateID: e.AggregateID, Payload: envelope}, nil
}

// factUUID is a version 8 UUID over the SHA-256 of a fact's name.
func factUUID(fact string) string {
	sum := sha256.Sum256([]byte(fact))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// MakeOutboxPartitions makes the partitions of today and the next days; safe to run twice and by two processes.
func MakeOutboxPartitions(ctx context.Context, db DB, days int) (made int, err error) {
	row, err := one[struct{ Made int }](ctx, db, "OutboxMakePartitions", pgx.NamedArgs{"days": days})
	return row.Made, err
}

// InsertLetter writes a dead letter, in the transaction in which somebody gives up on its message. The same consumer's letter about the same
// message after as many attempts has the same id. An event that is JSON and nothing that PostgreSQL holds (a lone surrogate, a number
// beyond any) is carried as bytes.
func InsertLetter(ctx context.Context, tx pgx.Tx, letter event.Letter, aggregateID string) error {
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error { return insertLetter(ctx, savepoint, letter, aggregateID) })
	if letter.Event != nil && Unstorable(err) {
		letter.Seal()
		err = insertLetter(ctx, tx, letter, aggregateID)
	}
	return err
}

func insertLetter(ctx context.Context, db DB, letter event.Letter, aggregateID string) error {
	body, err := json.Marshal(letter)
	if err != nil {
		return fmt.Errorf("letter about %s: %w", letter.Subject, err)
	}
	about := letter.EventID
	if about == "" {
		about = fmt.Sprintf("%s/%d", letter.Stream, letter.Sequence)
	}
	_, err = execute(ctx, db, "OutboxInsert", pgx.NamedArgs{
		"stream": event.DeadLetters, "subject": event.LetterSubject(letter.Consumer, letter.Subject),
		"msg_id": factUUID(fmt.Sprintf("letter\x00%s\x00%s\x00%d", letter.Consumer, about, letter.Attempts)), "aggregate_id": aggregateID, "payload": body,
	})
	return err
}

// InsertReplay writes an event of a dead letter again, to be published under another message id, so that no stream takes it for one that it
// knows. The event's own id stays, by which consumers that applied it pass it over. The same letter's replay has the same message id.
func InsertReplay(ctx context.Context, db DB, letter event.Letter, number uint64) error {
	_, err := execute(ctx, db, "OutboxInsert", pgx.NamedArgs{
		"stream": letter.Stream, "subject": letter.Subject, "aggregate_id": letter.EventID, "payload": letter.Event,
		"msg_id": factUUID(fmt.Sprintf("replay\x00%s\x00%s\x00%d\x00%d", letter.Consumer, letter.EventID, letter.FailedAt.UnixMilli(), number)),
	})
	return err
}
