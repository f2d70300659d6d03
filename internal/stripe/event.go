package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// Tolerance is how old a signature may be: an older one is a replay.
const Tolerance = 300 * time.Second

// HeaderSignature carries a webhook's signature.
const HeaderSignature = "Stripe-Signature"

// Event is what a webhook tells: that something happened to an object. What became of the object is asked of Stripe, so neither the order
// of events nor the version of the API that they are written in matters.
type Event struct {
	ID         string
	Type       string
	APIVersion string
	Created    time.Time
	ObjectKind string
	ObjectID   string
	// PaymentIntentID is the payment that the object is about, where it names one.
	PaymentIntentID string
	Metadata        Metadata
	Body            []byte
}

// Listens says whether anything is to be done about events of a type.
func Listens(eventType string) bool {
	return slices.Contains(EventTypes(), eventType)
}

// EventTypes are the types of events that a webhook endpoint must be sent.
func EventTypes() []string {
	return []string{
		"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired",
		"payment_intent.succeeded", "payment_intent.payment_failed", "charge.refund.updated",
		"charge.dispute.created", "charge.dispute.updated", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.closed",
	}
}

// Verify holds the exact bytes of a webhook to their signature by any of the secrets, which are several while one is replaced, before
// anything of them is read. Faults: StripeSignatureInvalid, InvalidRequest where what is signed is no event.
func Verify(body []byte, signature string, secrets []string) (Event, error) {
	refused := errors.New("there is no secret")
	for _, secret := range secrets {
		if refused = webhook.ValidatePayloadWithTolerance(body, signature, secret, Tolerance); refused == nil {
			return read(body)
		}
	}
	return Event{}, fault.Wrap(refused, fault.StripeSignatureInvalid, "")
}

func read(body []byte) (Event, error) {
	var told struct {
		ID         string `json:"id"`
		Object     string `json:"object"`
		Type       string `json:"type"`
		APIVersion string `json:"api_version"`
		Created    int64  `json:"created"`
		Data       struct {
			Object json.RawMessage `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &told); err != nil || told.Object != "event" || told.ID == "" || told.Type == "" {
		return Event{}, fault.Wrap(fmt.Errorf("a signed body is no event: %w", err), fault.InvalidRequest, "The body is no event.")
	}
	err := storable(told.ID, told.Type, told.APIVersion)
	if err == nil && (told.Created < 0 || told.Created > lastSecond) {
		err = fmt.Errorf("the event %s happened at %d", told.ID, told.Created)
	}
	if err != nil {
		return Event{}, fault.Wrap(err, fault.InvalidRequest, "The event's id, type or time is none of Stripe's.")
	}
	event := Event{ID: told.ID, Type: told.Type, APIVersion: told.APIVersion, Created: time.Unix(told.Created, 0).UTC(), Body: body}
	var about struct {
		ID            string          `json:"id"`
		Object        string          `json:"object"`
		PaymentIntent json.RawMessage `json:"payment_intent"`
		Metadata      Metadata        `json:"metadata"`
	}
	if err := json.Unmarshal(told.Data.Object, &about); err != nil {
		return Event{}, fault.Wrap(fmt.Errorf("the object of event %s: %w", told.ID, err), fault.InvalidRequest, "The event names no object.")
	}
	if err := storable(about.ID, about.Object, named(about.PaymentIntent)); err != nil {
		return Event{}, fault.Wrap(fmt.Errorf("the object of event %s: %w", told.ID, err), fault.InvalidRequest, "The event names no object.")
	}
	event.ObjectID, event.ObjectKind, event.Metadata = about.ID, about.Object, about.Metadata
	event.PaymentIntentID = named(about.PaymentIntent)
	if about.Object == "payment_intent" {
		event.PaymentIntentID = about.ID
	}
	return event, nil
}

const (
	// mostName bounds an id or a type, in bytes: Stripe's are shorter than that.
	mostName = 255
	// lastSecond is the last one that is written with a year of four digits.
	lastSecond = 253402300799
)

// storable refuses names that no row of ours holds: too long ones, and those with what PostgreSQL's text does not take.
func storable(names ...string) error {
	for _, name := range names {
		if len(name) > mostName || strings.ContainsRune(name, 0) {
			return fmt.Errorf("the name %.40q is none of Stripe's", name)
		}
	}
	return nil
}

// named is the id in a field that holds an id, or the object itself.
func named(field json.RawMessage) string {
	var id string
	if json.Unmarshal(field, &id) == nil {
		return id
	}
	var expanded struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(field, &expanded) // neither one: none is named
	return expanded.ID
}

// Stored is the event as it is kept.
func (e Event) Stored(source string) queries.StripeEvent {
	return queries.StripeEvent{EventID: e.ID, Type: e.Type, APIVersion: e.APIVersion, ObjectID: e.ObjectID, Source: source, Body: e.Body, HappenedAt: e.Created}
}

// ReadEvent reads an event that was stored.
func ReadEvent(body []byte) (Event, error) { return read(body) }

// EventsSince lists the events of the types that are listened to, oldest first, from an instant on: those of which no webhook told are
// among them. Stripe keeps events for 30 days.
func (c *Client) EventsSince(ctx context.Context, since time.Time) ([]Event, error) {
	asked := &stripego.EventListParams{CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()}, Types: stripego.StringSlice(EventTypes())}
	asked.Context, asked.Limit = ctx, stripego.Int64(100)
	var events []Event
	pages := c.api.Events.List(asked)
	for pages.Next() {
		found := pages.Event()
		body, err := json.Marshal(map[string]any{
			"id": found.ID, "object": "event", "type": found.Type, "api_version": found.APIVersion, "created": found.Created,
			"data": map[string]any{"object": found.Data.Raw},
		})
		if err != nil {
			return nil, err
		}
		event, err := read(body)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	slices.Reverse(events) // Stripe lists the newest first
	return events, classify("list events", pages.Err())
}
