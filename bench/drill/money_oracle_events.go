package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

// busView is what NATS holds: every message of every stream, by its message id, and how every durable consumer stands.
type busView struct {
	messages  map[string]*busMessage
	consumers []consumerView
	// letters counts what lies in the stream of dead letters.
	letters int
}

// busMessage is an event as it lies in a stream.
type busMessage struct {
	stream, subject, eventID, eventType, account string
	// copies are the sequences under which it lies: more than one where it was published again after the time in which NATS knows repeats.
	copies []uint64
}

type consumerView struct {
	stream, name string
	filters      []string
	pending      uint64
	unacked      int
}

// letterStream is where the events end that could not be applied.
const letterStream = "DLQ"

// readBus reads every stream from its first message to its last, directly and not through the platform's consumers.
func readBus(ctx context.Context, bus jetstream.JetStream) (busView, error) {
	view := busView{messages: map[string]*busMessage{}}
	names := bus.StreamNames(ctx)
	for name := range names.Name() {
		if err := view.read(ctx, bus, name); err != nil {
			return view, err
		}
	}
	if err := names.Err(); err != nil {
		return view, err
	}
	return view, eachConsumer(ctx, bus, func(stream string, info *jetstream.ConsumerInfo) {
		filters := info.Config.FilterSubjects
		if info.Config.FilterSubject != "" {
			filters = append(filters, info.Config.FilterSubject)
		}
		view.consumers = append(view.consumers, consumerView{stream, info.Name, filters, info.NumPending, info.NumAckPending})
	})
}

func (b *busView) read(ctx context.Context, bus jetstream.JetStream, name string) error {
	stream, err := bus.Stream(ctx, name)
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	for sequence := max(info.State.FirstSeq, 1); sequence <= info.State.LastSeq; sequence++ {
		message, err := stream.GetMsg(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if name == letterStream {
			b.letters++
		}
		var envelope struct {
			EventID   string `json:"event_id"`
			EventType string `json:"event_type"`
			Payload   struct {
				AccountID string `json:"account_id"`
			} `json:"payload"`
		}
		if err := json.Unmarshal(message.Data, &envelope); err != nil {
			return err
		}
		key := name + " " + message.Header.Get(jetstream.MsgIDHeader)
		if b.messages[key] == nil {
			b.messages[key] = &busMessage{stream: name, subject: message.Subject, eventID: envelope.EventID, eventType: envelope.EventType, account: envelope.Payload.AccountID}
		}
		b.messages[key].copies = append(b.messages[key].copies, sequence)
	}
	return nil
}

// published looks for every row of the outbox in its stream.
func (o *moneyOracle) published(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, "SELECT stream, msg_id, subject FROM outbox ORDER BY id")
	if err != nil {
		return err
	}
	var stream, message, subject string
	_, err = pgx.ForEachRow(rows, []any{&stream, &message, &subject}, func() error {
		v.look()
		found := o.bus.messages[stream+" "+message]
		v.expect(found != nil && found.subject == subject, "%s was committed and is not in %s", subject, stream)
		return nil
	})
	return err
}

// takes says whether a consumer is given a message.
func (c consumerView) takes(m *busMessage) bool {
	return c.stream == m.stream && (len(c.filters) == 0 || slices.ContainsFunc(c.filters, func(filter string) bool { return matches(filter, m.subject) }))
}

// matches says whether a subject fits a filter of NATS: * stands for a word, > for the rest.
func matches(filter, subject string) bool {
	want, have := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, word := range want {
		if word == ">" {
			return len(have) > i
		}
		if i >= len(have) || word != "*" && word != have[i] {
			return false
		}
	}
	return len(want) == len(have)
}

// applied holds what the consumers were to take against the inbox, in which each leaves what it has applied, and against what people were told.
func (o *moneyOracle) applied(ctx context.Context, v *verdict) error {
	rows, err := o.db.Query(ctx, "SELECT consumer, event_id::text FROM inbox")
	if err != nil {
		return err
	}
	inbox := map[string]bool{}
	var consumer, event string
	if _, err := pgx.ForEachRow(rows, []any{&consumer, &event}, func() error { inbox[consumer+" "+event] = true; return nil }); err != nil {
		return err
	}
	for _, c := range o.bus.consumers {
		if c.stream == letterStream {
			continue
		}
		for _, m := range o.bus.messages {
			if c.takes(m) {
				v.look()
				v.expect(inbox[c.name+" "+m.eventID], "%s has not applied %s %s", c.name, m.eventType, m.eventID)
			}
		}
	}
	var twice int
	if err := o.db.QueryRow(ctx, "SELECT count(*) FROM (SELECT event_id FROM notifications GROUP BY event_id HAVING count(*) > 1) AS again").Scan(&twice); err != nil {
		return err
	}
	v.expect(twice == 0, "%d events were told of twice", twice)
	return nil
}

func (o *moneyOracle) notStuck(_ context.Context, v *verdict) error {
	for _, c := range o.bus.consumers {
		v.look()
		v.expect(c.pending == 0 && c.unacked == 0, "%s of %s has %d messages before it and %d in hand", c.name, c.stream, c.pending, c.unacked)
	}
	return nil
}

func (o *moneyOracle) noLetters(_ context.Context, v *verdict) error {
	for range o.bus.messages {
		v.look()
	}
	v.expect(o.bus.letters == 0, "%d events could not be applied", o.bus.letters)
	return nil
}
