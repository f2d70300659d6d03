package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// Drift is one thing that stands otherwise than it is declared.
type Drift struct {
	// Object is "stream BILLING" or "consumer notifications of BILLING".
	Object, Property, Declared, Standing string
}

func (d Drift) String() string {
	return fmt.Sprintf("the %s of the %s is %s, and declared as %s", d.Property, d.Object, d.Standing, d.Declared)
}

// Declare makes the streams and consumers that are missing and adds subjects that are. Whatever else stands otherwise than it is
// declared is answered and logged and left alone, because a change of it may lose events: an operator makes it with NATS's own tools.
// Several programs may do so at once.
func (c *Client) Declare(ctx context.Context) ([]Drift, error) {
	var drifts []Drift
	for _, declared := range c.config.Streams.streams() {
		found, err := c.declareStream(ctx, declared)
		if err != nil {
			return nil, fmt.Errorf("the stream %s: %w", declared.Name, err)
		}
		drifts = append(drifts, found...)
	}
	for _, declared := range durables() {
		found, err := c.declareDurable(ctx, declared)
		if err != nil {
			return nil, fmt.Errorf("the consumer %s of %s: %w", declared.config.Durable, declared.stream, err)
		}
		drifts = append(drifts, found...)
	}
	for _, drift := range drifts {
		c.log.WarnContext(ctx, "NATS stands otherwise than declared, and is left so", "object", drift.Object, "property", drift.Property,
			"declared", drift.Declared, "standing", drift.Standing)
	}
	return drifts, nil
}

// AwaitDeclared declares as soon as NATS is there; it answers an error only when ctx ends.
func (c *Client) AwaitDeclared(ctx context.Context) ([]Drift, error) {
	said := false
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		drifts, err := c.Declare(ctx)
		if err == nil || ctx.Err() != nil {
			return drifts, errors.Join(err, ctx.Err())
		}
		if !said {
			c.log.WarnContext(ctx, "the streams cannot be declared yet", "error", err.Error())
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (c *Client) declareStream(ctx context.Context, declared jetstream.StreamConfig) ([]Drift, error) {
	stream, err := c.JetStream.Stream(ctx, declared.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = c.JetStream.CreateStream(ctx, declared)
		if err == nil {
			c.log.InfoContext(ctx, "the stream is made", "stream", declared.Name)
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil, err
		}
		stream, err = c.JetStream.Stream(ctx, declared.Name) // somebody else was faster
	}
	if err != nil {
		return nil, err
	}
	standing := stream.CachedInfo().Config
	if missing := absent(declared.Subjects, standing.Subjects); len(missing) > 0 {
		standing.Subjects = append(standing.Subjects, missing...)
		if _, err := c.JetStream.UpdateStream(ctx, standing); err != nil {
			return nil, err
		}
		c.log.InfoContext(ctx, "the stream takes more subjects", "stream", declared.Name, "subjects", missing)
	}
	return streamDrifts(declared, standing), nil
}

func streamDrifts(declared, standing jetstream.StreamConfig) []Drift {
	compare := comparison{object: "stream " + declared.Name}
	compare.property("subjects", strings.Join(declared.Subjects, " "), strings.Join(standing.Subjects, " "))
	compare.property("storage", declared.Storage, standing.Storage)
	compare.property("replicas", declared.Replicas, standing.Replicas)
	compare.property("retention", declared.Retention, standing.Retention)
	compare.property("discard policy", declared.Discard, standing.Discard)
	compare.property("maximum age", declared.MaxAge, standing.MaxAge)
	compare.property("maximum bytes", declared.MaxBytes, standing.MaxBytes)
	compare.property("maximum messages", declared.MaxMsgs, standing.MaxMsgs)
	compare.property("maximum message size", declared.MaxMsgSize, standing.MaxMsgSize)
	compare.property("duplicate window", declared.Duplicates, standing.Duplicates)
	compare.property("refusal of publishers", declared.Sealed, standing.Sealed)
	return compare.drifts
}

func (c *Client) declareDurable(ctx context.Context, declared durable) ([]Drift, error) {
	consumer, err := c.JetStream.Consumer(ctx, declared.stream, declared.config.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = c.JetStream.CreateConsumer(ctx, declared.stream, declared.config)
		if err == nil {
			c.log.InfoContext(ctx, "the consumer is made", "stream", declared.stream, "consumer", declared.config.Durable)
		}
		if !errors.Is(err, jetstream.ErrConsumerExists) {
			return nil, err
		}
		consumer, err = c.JetStream.Consumer(ctx, declared.stream, declared.config.Durable)
	}
	if err != nil {
		return nil, err
	}
	standing := consumer.CachedInfo().Config
	filters := filtersOf(standing)
	if missing := absent(declared.config.FilterSubjects, filters); len(missing) > 0 && len(filters) > 0 {
		filters = append(filters, missing...)
		standing.FilterSubject, standing.FilterSubjects = "", filters
		if _, err := c.JetStream.UpdateConsumer(ctx, declared.stream, standing); err != nil {
			return nil, err
		}
		c.log.InfoContext(ctx, "the consumer takes more subjects", "stream", declared.stream, "consumer", declared.config.Durable, "subjects", missing)
	}
	compare := comparison{object: "consumer " + declared.config.Durable + " of " + declared.stream}
	slices.Sort(filters)
	compare.property("subjects", strings.Join(declared.config.FilterSubjects, " "), strings.Join(filters, " "))
	compare.property("acknowledgement policy", declared.config.AckPolicy, standing.AckPolicy)
	compare.property("deliver policy", declared.config.DeliverPolicy, standing.DeliverPolicy)
	compare.property("acknowledgement wait", declared.config.AckWait, standing.AckWait)
	compare.property("maximum deliveries", declared.config.MaxDeliver, standing.MaxDeliver)
	compare.property("maximum unacknowledged", declared.config.MaxAckPending, standing.MaxAckPending)
	return compare.drifts, nil
}

// filtersOf are a consumer's subjects; the server moves a single one into a field of its own.
func filtersOf(config jetstream.ConsumerConfig) []string {
	if config.FilterSubject != "" {
		return []string{config.FilterSubject}
	}
	return slices.Clone(config.FilterSubjects)
}

// absent are those of the declared that do not stand.
func absent(declared, standing []string) []string {
	var missing []string
	for _, one := range declared {
		if !slices.Contains(standing, one) {
			missing = append(missing, one)
		}
	}
	return missing
}

type comparison struct {
	object string
	drifts []Drift
}

func (c *comparison) property(name string, declared, standing any) {
	if wanted, is := fmt.Sprint(declared), fmt.Sprint(standing); wanted != is {
		c.drifts = append(c.drifts, Drift{Object: c.object, Property: name, Declared: wanted, Standing: is})
	}
}
