//go:build integration

package api_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/gpuaas/gpuaas/domain/event"
)

// eventRequests ask about the publishing of events, with a dead letter of its own wherever it would be used up.
func (s *scene) eventRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	for _, operation := range []string{"getOutbox", "listDeadLetters", "listNotifications", "getNotificationPreferences"} {
		requests[operation] = always(subject{})
	}
	requests["readNotifications"] = always(subject{body: `{"event_ids":["0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10"]}`})
	requests["setNotificationPreferences"] = always(subject{body: `{"email_off":["receipts"]}`})
	requests["rewindOutbox"] = func(caller string) subject {
		if caller == "platform_admin" {
			s.published()
		}
		return subject{body: `{"since":"2020-01-01T00:00:00.000Z","reason":"matrix"}`}
	}
	for _, operation := range []string{"getDeadLetter", "replayDeadLetter", "discardDeadLetter"} {
		requests[operation] = func(caller string) subject {
			about := subject{path: map[string]string{"letter_id": "1"}, body: matrixReason}
			if caller == "platform_admin" {
				about.path["letter_id"] = strconv.FormatUint(s.deadLetter(event.BillingBalanceAdjusted), 10)
			}
			if operation == "getDeadLetter" {
				about.body = ""
			}
			return about
		}
	}
	return requests
}

// deadLetter puts a letter about an event of no consequence into its stream, as the relay does, and answers its number.
func (w *world) deadLetter(kind event.Type) uint64 {
	w.t.Helper()
	w.needBus()
	w.Unpromised = true // its payload is empty
	if _, err := w.bus.AwaitDeclared(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	eventID := fmt.Sprintf("%08x-0000-8000-8000-%012x", time.Now().UnixNano()&0xffffffff, time.Now().UnixNano()&0xffffffffffff)
	letter := event.Letter{EventID: eventID, Stream: kind.Stream(), Subject: string(kind), Consumer: "test", Reason: "The test says so.", Attempts: 3, FailedAt: time.Now().UTC()}
	letter.Carry([]byte(`{"event_id":"` + eventID + `","event_type":"` + string(kind) + `","occurred_at":"2026-01-05T09:30:00.000Z","version":"1.0","correlation_id":"c","payload":{}}`))
	body, err := json.Marshal(letter)
	if err != nil {
		w.t.Fatal(err)
	}
	acknowledged, err := w.bus.JetStream.Publish(w.t.Context(), event.LetterSubject(letter.Consumer, letter.Subject), body)
	if err != nil {
		w.t.Fatal(err)
	}
	return acknowledged.Sequence
}

// published waits until the relay has published something.
func (w *world) published() {
	w.t.Helper()
	w.needBus()
	deadline := time.After(time.Minute)
	for w.field(`SELECT (cursor_id > 0)::text FROM outbox_relay`) != "true" {
		select {
		case <-deadline:
			w.t.Fatal("the relay publishes nothing")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
