package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// headerRoom is what the headers of a message take of the server's bound, generously.
const headerRoom = 512

// Refusals of the server that no other attempt would change (JSMessageSizeExceedsMaximum, JSStreamNotMatch).
const (
	codeTooLarge    jetstream.ErrorCode = 10054
	codeOtherStream jetstream.ErrorCode = 10060
)

// refusal is a row that cannot be published, and why.
type refusal struct {
	row    queries.SealedRow
	reason string
}

// sent is a row that was sent, with its acknowledgement to come; or one that nobody will ever take, with the reason.
type sent struct {
	acknowledgement jetstream.PubAckFuture
	reason          string
}

// send publishes rows without waiting, up to the first that cannot be sent at the moment: what follows it would come before it.
func (r *Relay) send(rows []queries.SealedRow) ([]sent, error) {
	all := make([]sent, 0, len(rows))
	for _, row := range rows {
		if reason := r.unpublishable(row); reason != "" {
			all = append(all, sent{reason: reason})
			continue
		}
		acknowledgement, err := r.bus.JetStream.PublishMsgAsync(message(row), jetstream.WithRetryAttempts(0))
		if err != nil {
			return all, err
		}
		all = append(all, sent{acknowledgement: acknowledgement})
	}
	return all, nil
}

// confirm awaits the acknowledgements of rows that were sent. It answers how many of them, from the first on and without a gap, are
// acknowledged or refused for good, with those refused; and why it is not all of them.
func (r *Relay) confirm(ctx context.Context, rows []queries.SealedRow, all []sent) (passed int, refused []refusal, err error) {
	for i, one := range all {
		reason := one.reason
		if reason == "" {
			if ackErr := await(ctx, one.acknowledgement); ackErr != nil {
				if reason = definite(ackErr); reason == "" {
					return i, refused, r.heal(ctx, ackErr)
				}
			}
		}
		if reason != "" {
			refused = append(refused, refusal{rows[i], reason})
		}
	}
	return len(all), refused, nil
}

// message is a row as it is published. The library's own retry is off: a message sent again later would come behind its successors.
func message(row queries.SealedRow) *natsgo.Msg {
	return &natsgo.Msg{Subject: row.Subject, Data: row.Payload, Header: natsgo.Header{
		jetstream.MsgIDHeader: {row.MsgID}, jetstream.ExpectedStreamHeader: {row.Stream},
	}}
}

func await(ctx context.Context, acknowledgement jetstream.PubAckFuture) error {
	select {
	case <-acknowledgement.Ok():
		return nil
	case err := <-acknowledgement.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unpublishable says why no server would ever take a row, or nothing.
func (r *Relay) unpublishable(row queries.SealedRow) string {
	prefix := strings.TrimSuffix(event.SubjectsOf(row.Stream), ">")
	switch most := r.bus.LargestMessage(); {
	case !slices.Contains(event.Streams(), row.Stream), !strings.HasPrefix(row.Subject, prefix), !publishable(strings.TrimPrefix(row.Subject, prefix)):
		return fmt.Sprintf("No stream takes the subject %q.", row.Subject)
	case most > 0 && int64(len(row.Payload))+headerRoom > most:
		return fmt.Sprintf("The event has %d bytes, and the server takes messages of %d bytes with their headers.", len(row.Payload), most)
	default:
		return ""
	}
}

// publishable says whether the rest of a subject is one that can be published to: words between dots, without wildcards.
func publishable(rest string) bool {
	for _, word := range strings.Split(rest, ".") {
		if word == "" || strings.ContainsAny(word, "*> \t\r\n\x00") {
			return false
		}
	}
	return true
}

// definite is the reason for which the server would refuse a message again, or nothing.
func definite(err error) string {
	var refused *jetstream.APIError
	switch {
	case errors.As(err, &refused) && (refused.ErrorCode == codeTooLarge || refused.ErrorCode == codeOtherStream):
		return "The stream refuses it: " + refused.Description + "."
	case errors.Is(err, natsgo.ErrMaxPayload):
		return "The event is larger than the server takes."
	default:
		return ""
	}
}

// heal makes a stream anew that somebody removed; whatever else is wrong heals by itself or waits for an operator.
func (r *Relay) heal(ctx context.Context, cause error) error {
	if !errors.Is(cause, jetstream.ErrNoStreamResponse) {
		return cause
	}
	_, err := r.bus.Declare(ctx)
	return errors.Join(cause, err)
}
