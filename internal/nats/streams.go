package nats

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/event"
)

// StreamsConfig is how the streams are kept. It counts when a stream is made; a stream that stands otherwise is left as it is, and said.
type StreamsConfig struct {
	Replicas        int           `env:"NATS_STREAM_REPLICAS" envDefault:"1" usage:"servers that hold each stream: 3 in production, where one may be lost"`
	Storage         string        `env:"NATS_STREAM_STORAGE" envDefault:"file" usage:"file or memory"`
	MaxAge          time.Duration `env:"NATS_STREAM_MAX_AGE" envDefault:"168h" usage:"how long a published event stays for consumers that are behind"`
	MaxBytes        int64         `env:"NATS_STREAM_MAX_BYTES" envDefault:"-1" usage:"bytes of a stream, beyond which the oldest events go; -1 is no bound"`
	DuplicateWindow time.Duration `env:"NATS_DUPLICATE_WINDOW" envDefault:"2m" usage:"how long the same message id is taken only once; each id stays in the server's memory for so long, and consumers apply an event once however late it comes again"`
	LetterMaxAge    time.Duration `env:"NATS_DLQ_MAX_AGE" envDefault:"0" usage:"how long a dead letter stays; 0 is until somebody replays or discards it"`
}

// Check says in one sentence each what is wrong with it.
func (c StreamsConfig) Check() []string {
	var mistakes []string
	if c.Replicas < 1 || c.Replicas > 5 {
		mistakes = append(mistakes, "NATS_STREAM_REPLICAS must lie between 1 and 5.")
	}
	if c.Storage != "file" && c.Storage != "memory" {
		mistakes = append(mistakes, "NATS_STREAM_STORAGE must be file or memory.")
	}
	if c.MaxAge < time.Hour {
		mistakes = append(mistakes, "NATS_STREAM_MAX_AGE must be at least 1h.")
	}
	if c.DuplicateWindow < time.Minute || c.DuplicateWindow > c.MaxAge {
		mistakes = append(mistakes, "NATS_DUPLICATE_WINDOW must be at least 1m and at most NATS_STREAM_MAX_AGE.")
	}
	if c.LetterMaxAge != 0 && c.LetterMaxAge < time.Hour {
		mistakes = append(mistakes, "NATS_DLQ_MAX_AGE must be 0 or at least 1h.")
	}
	return mistakes
}

// DefaultStreams is what an empty environment gives, for whoever assembles a program in Go.
func DefaultStreams() StreamsConfig {
	return StreamsConfig{Replicas: 1, Storage: "file", MaxAge: 168 * time.Hour, MaxBytes: -1, DuplicateWindow: 2 * time.Minute}
}

// The durable consumers.
const (
	// Notifications tells people.
	Notifications = "notifications"
	// Webhooks tells the endpoints of customers.
	Webhooks = "webhooks"
	// Emails writes to people.
	Emails = "emails"
)

// streams are all there are.
func (c StreamsConfig) streams() []jetstream.StreamConfig {
	storage := jetstream.FileStorage
	if c.Storage == "memory" {
		storage = jetstream.MemoryStorage
	}
	var declared []jetstream.StreamConfig
	for _, name := range event.Streams() {
		config := jetstream.StreamConfig{
			Name: name, Subjects: []string{event.SubjectsOf(name)}, Storage: storage, Replicas: c.Replicas, Duplicates: c.DuplicateWindow,
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxAge: c.MaxAge, MaxBytes: c.MaxBytes, MaxMsgs: -1, MaxConsumers: -1, MaxMsgSize: -1,
			AllowDirect: true,
		}
		if name == event.DeadLetters {
			// A letter that nobody read is never pushed out by another: then the relay waits, and says so.
			config.MaxAge, config.MaxBytes = c.LetterMaxAge, -1
			config.Duplicates = c.DuplicateWindow
		}
		declared = append(declared, config)
	}
	return declared
}

// durable is a consumer that exists for ever on a stream.
type durable struct {
	stream string
	config jetstream.ConsumerConfig
}

// durables are all there are: one a stream for each thing that is done with events. Each gets only the subjects it does something with.
func durables() []durable {
	var declared []durable
	for _, stream := range event.Streams() {
		for _, reader := range []struct {
			name  string
			wants func(event.Type) bool
		}{{Notifications, toldPeople}, {Webhooks, toldTenants}, {Emails, written}} {
			subjects := subjectsOf(stream, reader.wants)
			if len(subjects) == 0 {
				continue
			}
			declared = append(declared, durable{stream, jetstream.ConsumerConfig{
				Durable: reader.name, FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
				AckWait: 30 * time.Second, MaxAckPending: 1024, MaxDeliver: -1, ReplayPolicy: jetstream.ReplayInstantPolicy,
			}})
		}
	}
	return declared
}

// subjectsOf are the subjects of a stream that somebody wants, sorted.
func subjectsOf(stream string, wants func(event.Type) bool) []string {
	var subjects []string
	for _, kind := range event.All() {
		if kind.Stream() == stream && wants(kind) {
			subjects = append(subjects, string(kind))
		}
	}
	slices.Sort(subjects)
	return subjects
}

// toldPeople says whether an event has a notification.
func toldPeople(kind event.Type) bool { return kind.Audience().People() }

// toldTenants says whether the endpoints of a tenant are told of it.
func toldTenants(kind event.Type) bool { return kind.Audience().Tenant() }

// written says whether mails are about it.
func written(kind event.Type) bool {
	_, addressees := email.Of(kind)
	return addressees != email.Nobody
}

// StreamsOf are the streams on which a durable consumer stands.
func StreamsOf(consumer string) []string {
	var names []string
	for _, declared := range durables() {
		if declared.config.Durable == consumer {
			names = append(names, declared.stream)
		}
	}
	return names
}

// Backlog is what a durable consumer has before it on one stream: events that it was not handed yet, and those that it was and has not
// acknowledged.
type Backlog struct {
	Consumer, Stream        string
	Pending, Unacknowledged int64
}

// Backlogs reads those of a durable consumer, on each of its streams. Unreachable servers are ErrAway; a consumer that is not declared yet is left out.
func (c *Client) Backlogs(ctx context.Context, consumer string) ([]Backlog, error) {
	var all []Backlog
	if !c.connection.IsConnected() {
		return nil, ErrAway
	}
	for _, stream := range StreamsOf(consumer) {
		durable, err := c.JetStream.Consumer(ctx, stream, consumer)
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return all, away(err)
		}
		info := durable.CachedInfo() // which was asked for just now
		all = append(all, Backlog{Consumer: consumer, Stream: stream, Pending: int64(info.NumPending), Unacknowledged: int64(info.NumAckPending)})
	}
	return all, nil
}
