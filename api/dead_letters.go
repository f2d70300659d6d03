package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// letterBox is the stream of dead letters.
type letterBox interface {
	Letters(ctx context.Context, from uint64, consumer string, limit int) ([]nats.Letter, error)
	Letter(ctx context.Context, number uint64) (nats.Letter, error)
	RemoveLetter(ctx context.Context, number uint64) error
	Ready(ctx context.Context) error
}

type (
	deadLetterBody struct {
		ID         int64    `json:"id" doc:"Its place in the stream of dead letters."`
		EventID    string   `json:"event_id,omitempty" doc:"The id in the event's envelope; absent for what is no event."`
		Stream     string   `json:"stream" doc:"The stream of the message."`
		Subject    string   `json:"subject" doc:"Its subject."`
		Consumer   string   `json:"consumer" doc:"Who gave up on it: a durable consumer, or outbox-relay."`
		Reason     string   `json:"reason"`
		Attempts   int      `json:"attempts"`
		FailedAt   moment   `json:"failed_at"`
		Replayable bool     `json:"replayable" doc:"Whether the letter holds the event, so that it can be published again."`
		Event      freeForm `json:"event,omitempty" doc:"The message as it was, where it is an object."`
		Body       string   `json:"body_base64,omitempty" doc:"The message as it was, where it is none."`
	}
	deadLetterListIn struct {
		Paging
		Consumer string `query:"consumer" maxLength:"100" pattern:"^[a-z0-9-]+$" doc:"Only what this consumer gave up on."`
	}
	DeadLetterPath struct {
		LetterID int64 `path:"letter_id" minimum:"1"`
	}
	operateDeadLetterIn struct {
		DeadLetterPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
	deadLetterOut     struct{ Body deadLetterBody }
	deadLetterListOut struct{ Body list[deadLetterBody] }
)

func (s *server) deadLetterOperations() {
	handle(s, "listDeadLetters", s.listDeadLetters)
	handle(s, "getDeadLetter", s.getDeadLetter)
	handle(s, "replayDeadLetter", s.replayDeadLetter)
	handle(s, "discardDeadLetter", s.discardDeadLetter)
}

func (s *server) listDeadLetters(ctx context.Context, in *deadLetterListIn) (*deadLetterListOut, error) {
	box, err := s.bus()
	if err != nil {
		return nil, err
	}
	behind, err := in.start()
	if err != nil {
		return nil, err
	}
	var from uint64
	if behind.ID != "" {
		if from, err = strconv.ParseUint(behind.ID, 10, 64); err != nil {
			return nil, invalid("query.cursor", "the cursor is not one that a page of dead letters answered")
		}
	}
	letters, err := box.Letters(ctx, from+1, in.Consumer, in.fetch())
	if err != nil {
		return nil, orAway(err, nats.ErrAway)
	}
	return &deadLetterListOut{Body: paged(in.Paging, letters,
		func(letter nats.Letter) after { return after{letter.StoredAt, strconv.FormatUint(letter.Number, 10)} }, renderDeadLetter)}, nil
}

func (s *server) getDeadLetter(ctx context.Context, in *DeadLetterPath) (*deadLetterOut, error) {
	letter, err := s.deadLetter(ctx, in.LetterID)
	if err != nil {
		return nil, err
	}
	return &deadLetterOut{Body: renderDeadLetter(letter)}, nil
}

func (s *server) deadLetter(ctx context.Context, number int64) (nats.Letter, error) {
	box, err := s.bus()
	if err != nil {
		return nats.Letter{}, err
	}
	letter, err := box.Letter(ctx, uint64(number)) //nolint:gosec // the contract's minimum is 1
	if errors.Is(err, nats.ErrNoLetter) {
		return letter, fault.New(fault.DeadLetterNotFound, "")
	}
	return letter, orAway(err, nats.ErrAway)
}

// replayDeadLetter has the event published again, by the relay like any other, and gives the consumer that gave up all its attempts back.
func (s *server) replayDeadLetter(ctx context.Context, in *operateDeadLetterIn) (*struct{}, error) {
	return nil, s.endLetter(ctx, in, "dead_letter.replay", func(ctx context.Context, tx pgx.Tx, letter nats.Letter) error {
		if letter.Event == nil || letter.EventID == "" {
			return fault.New(fault.DeadLetterNotReplayable, "")
		}
		if err := queries.ForgiveFailures(ctx, tx, letter.Consumer, letter.EventID); err != nil {
			return err
		}
		return queries.InsertReplay(ctx, tx, letter.Letter, letter.Number)
	})
}

func (s *server) discardDeadLetter(ctx context.Context, in *operateDeadLetterIn) (*struct{}, error) {
	return nil, s.endLetter(ctx, in, "dead_letter.discard", func(context.Context, pgx.Tx, nats.Letter) error { return nil })
}

// endLetter does what becomes of a letter once, in one transaction with its audit row, and then removes it. A repeat removes what the
// first request left.
func (s *server) endLetter(ctx context.Context, in *operateDeadLetterIn, action string, do func(context.Context, pgx.Tx, nats.Letter) error) error {
	box, err := s.bus()
	if err != nil {
		return err
	}
	if _, made, err := s.changed(ctx); err != nil || made {
		return errors.Join(err, orAway(box.RemoveLetter(ctx, uint64(in.LetterID)), nats.ErrAway)) //nolint:gosec // the contract's minimum is 1
	}
	letter, err := s.deadLetter(ctx, in.LetterID)
	if err != nil {
		return err
	}
	row := &queries.Audit{Action: action, TargetType: "dead_letter", TargetID: strconv.FormatInt(in.LetterID, 10), Details: map[string]any{
		"reason": in.Body.Reason, "event_id": letter.EventID, "subject": letter.Subject, "consumer": letter.Consumer, "failure": letter.Reason,
	}}
	if err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error { return do(ctx, tx, letter) }); err != nil {
		return err
	}
	return orAway(box.RemoveLetter(ctx, letter.Number), nats.ErrAway)
}

func renderDeadLetter(letter nats.Letter) deadLetterBody {
	body := deadLetterBody{
		ID: int64(letter.Number), EventID: letter.EventID, Stream: letter.Stream, Subject: letter.Subject, Consumer: letter.Consumer, //nolint:gosec // far below 2^53
		Reason: letter.Reason, Attempts: letter.Attempts, FailedAt: moment(letter.FailedAt), Replayable: letter.Event != nil && letter.EventID != "",
	}
	switch {
	case letter.Event != nil && json.Unmarshal(letter.Event, &body.Event) != nil:
		body.Body = base64.StdEncoding.EncodeToString(letter.Event)
	case letter.Body != nil:
		body.Body = base64.StdEncoding.EncodeToString(letter.Body)
	}
	return body
}
