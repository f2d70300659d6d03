package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gpuaas/gpuaas/domain/event"
)

// ErrNoLetter says that there is no dead letter of this number.
var ErrNoLetter = errors.New("there is no such dead letter")

// Letter is a dead letter as it stands in its stream. Its number is its sequence there.
type Letter struct {
	event.Letter
	Number   uint64
	StoredAt time.Time
}

// Letters reads dead letters from a number on, oldest first: all of them, or one consumer's. Unreachable servers are ErrAway.
func (c *Client) Letters(ctx context.Context, from uint64, consumer string, limit int) ([]Letter, error) {
	stream, err := c.letters(ctx)
	if err != nil {
		return nil, err
	}
	subjects := event.SubjectsOf(event.DeadLetters)
	if consumer != "" {
		subjects = strings.TrimSuffix(event.LetterSubject(consumer, ""), "_") + ">"
	}
	letters := []Letter{}
	for next := max(from, 1); len(letters) < limit; {
		message, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subjects))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, away(err)
		}
		letters = append(letters, opened(message))
		next = message.Sequence + 1
	}
	return letters, nil
}

// Letter reads one dead letter; ErrNoLetter where there is none.
func (c *Client) Letter(ctx context.Context, number uint64) (Letter, error) {
	stream, err := c.letters(ctx)
	if err != nil {
		return Letter{}, err
	}
	message, err := stream.GetMsg(ctx, number)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Letter{}, ErrNoLetter
	}
	if err != nil {
		return Letter{}, away(err)
	}
	return opened(message), nil
}

// RemoveLetter removes one for ever. That it is gone already is no error.
func (c *Client) RemoveLetter(ctx context.Context, number uint64) error {
	stream, err := c.letters(ctx)
	if err != nil {
		return err
	}
	if err := stream.DeleteMsg(ctx, number); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		if _, readErr := stream.GetMsg(ctx, number); errors.Is(readErr, jetstream.ErrMsgNotFound) {
			return nil
		}
		return away(err)
	}
	return nil
}

// CountLetters says how many dead letters there are. Unreachable servers are ErrAway.
func (c *Client) CountLetters(ctx context.Context) (int64, error) {
	stream, err := c.letters(ctx)
	if err != nil {
		return 0, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return 0, away(err)
	}
	return int64(info.State.Msgs), nil
}

func (c *Client) letters(ctx context.Context) (jetstream.Stream, error) {
	if !c.connection.IsConnected() {
		return nil, ErrAway
	}
	stream, err := c.JetStream.Stream(ctx, event.DeadLetters)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = c.Declare(ctx); err == nil {
			stream, err = c.JetStream.Stream(ctx, event.DeadLetters)
		}
	}
	return stream, away(err)
}

// away marks the errors of a NATS that cannot be asked.
func away(err error) error {
	for _, cause := range []error{natsgo.ErrTimeout, natsgo.ErrDisconnected, natsgo.ErrConnectionClosed, natsgo.ErrNoResponders, natsgo.ErrReconnectBufExceeded, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", ErrAway, err)
		}
	}
	return err
}

// opened reads a letter. One that nobody of ours wrote is shown as what it is.
func opened(message *jetstream.RawStreamMsg) Letter {
	letter := Letter{Number: message.Sequence, StoredAt: message.Time}
	if err := json.Unmarshal(message.Data, &letter.Letter); err != nil || letter.Subject == "" {
		letter.Letter = event.Letter{Stream: event.DeadLetters, Subject: message.Subject, Reason: "The letter itself cannot be read.", FailedAt: message.Time, Body: message.Data}
	}
	return letter
}
