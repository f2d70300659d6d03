// Package webhook is what a customer's webhook is: which events it may be told of, what is told of them, which addresses may be asked,
// when a delivery is tried again, and when an endpoint is given up. It imports the standard library and domain only.
package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/domain/event"
)

// TestEvent is the type of what is sent because somebody asked for a test. It is no event: nothing happened.
const TestEvent event.Type = "webhooks.test"

// State of a delivery.
type State string

// The states of a delivery. Only a pending one is attempted; every other can be asked for again.
const (
	Pending   State = "pending"
	Delivered State = "delivered"
	// Failed: the attempts are used up, or the endpoint was given up.
	Failed State = "failed"
	// Skipped: the endpoint was disabled when it was the delivery's turn.
	Skipped State = "skipped"
)

// Cause is why an endpoint is disabled.
type Cause string

// The causes. Only the platform's own are told of by an event.
const (
	Asked   Cause = "asked"
	Failing Cause = "failing"
	// Gone: the endpoint itself said so, by 410.
	Gone Cause = "gone"
)

// Outcome is what came of one attempt.
type Outcome string

// The outcomes. Only accepted, any 2xx, is a success.
const (
	Accepted       Outcome = "accepted"
	Rejected       Outcome = "rejected"
	Redirected     Outcome = "redirected"
	TimedOut       Outcome = "timed_out"
	Unresolved     Outcome = "unresolved"
	AddressRefused Outcome = "address_refused"
	SchemeRefused  Outcome = "scheme_refused"
	Unreachable    Outcome = "unreachable"
	TLSFailed      Outcome = "tls_failed"
)

// Outcomes lists what may come of an attempt.
func Outcomes() []Outcome {
	return []Outcome{Accepted, Rejected, Redirected, TimedOut, Unresolved, AddressRefused, SchemeRefused, Unreachable, TLSFailed}
}

// EventTypes are those that an endpoint can ask for, sorted: what a tenant's people are told of, and no other.
func EventTypes() []event.Type {
	var types []event.Type
	for _, kind := range event.All() {
		if kind.Audience().Tenant() {
			types = append(types, kind)
		}
	}
	slices.Sort(types)
	return types
}

// LongestURL is in bytes.
const LongestURL = 2000

// CheckURL says in a sentence what is wrong with an endpoint's address. Whether its host may be asked is decided where it is dialled.
func CheckURL(text string, allowHTTP bool) error {
	address, err := url.Parse(text)
	switch {
	case err != nil || address.Opaque != "" || address.Hostname() == "":
		return errors.New("it must look like https://host/path")
	case len(text) > LongestURL:
		return fmt.Errorf("it is longer than %d bytes", LongestURL)
	case address.Scheme == "http" && !allowHTTP:
		return errors.New("it must begin with https://")
	case address.Scheme != "https" && address.Scheme != "http":
		return errors.New("it must begin with https://")
	case address.User != nil:
		return errors.New("it must not hold a user name or a password: what is sent is signed")
	case address.Fragment != "":
		return errors.New("it must not hold a fragment")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("it must not hold spaces or control characters")
	}
	return nil
}

// told are the members of a payload that a webhook carries: ids of what it is about, which whoever may see it asks the API for. Ids of
// people are left out, as is everything else that stands in a payload.
var told = []string{
	"tenant_id", "project_id", "account_id", "allocation_id", "payment_id", "refund_id", "dispute_id", "adjustment_id", "webhook_id",
}

// thin is the body of a webhook (Standard Webhooks, with the event's id beside).
type thin struct {
	Type      event.Type        `json:"type"`
	ID        string            `json:"id"`
	Timestamp string            `json:"timestamp"`
	Data      map[string]string `json:"data"`
}

// Body is what an endpoint is told of an event: the same bytes for every attempt.
func Body(e event.Envelope) ([]byte, error) {
	var payload map[string]any
	decoder := json.NewDecoder(bytes.NewReader(e.Payload))
	decoder.UseNumber()
	if err := decoder.Decode(&payload); err != nil {
		return nil, fmt.Errorf("the payload of %s: %w", e.EventID, err)
	}
	data := map[string]string{}
	for _, member := range told {
		if text, is := payload[member].(string); is && text != "" {
			data[member] = text
		}
	}
	return json.Marshal(thin{Type: e.EventType, ID: e.EventID, Timestamp: e.OccurredAt.UTC().Format("2006-01-02T15:04:05.000Z"), Data: data})
}

// Retry is how often, and for how long, a delivery is tried.
type Retry struct {
	// Attempts in one round, the first included.
	Attempts int64
	// Initial is the first pause; it doubles up to Maximum.
	Initial, Maximum time.Duration
	// Window bounds the time from the round's beginning to its last attempt.
	Window time.Duration
}

// Next is the pause after an attempt, counted from 1, of a round that has lasted elapsed; false when it was the last. A pause is spread by
// up to a fifth, so that deliveries which failed together are not tried together: spread, between 0 and 1, says by how much.
func (r Retry) Next(attempt int64, elapsed time.Duration, spread float64) (time.Duration, bool) {
	if attempt >= r.Attempts {
		return 0, false
	}
	pause := min(r.Initial, r.Maximum)
	for range attempt - 1 {
		if pause > r.Maximum/2 {
			pause = r.Maximum
			break
		}
		pause *= 2
	}
	pause += time.Duration(float64(pause) / 5 * spread)
	if pause > r.Window-elapsed {
		return 0, false
	}
	return pause, true
}

// Patience is how much failing an endpoint may do before it is disabled: both must be exceeded.
type Patience struct {
	// Failures is the number of attempts without a success between them.
	Failures int64
	// For is how long ago the first of them must be.
	For time.Duration
}

// Ended says whether an endpoint that failed that often, and has since, is given up.
func (p Patience) Ended(failures int64, since, now time.Time) bool {
	return failures >= p.Failures && now.Sub(since) >= p.For
}
