//go:build integration

package api_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/gpuaas/gpuaas/domain/event"
)

func TestOperatorsReplayAndDiscardDeadLetters(t *testing.T) {
	w := newWorld(t, 0)
	w.needBus()
	root := w.token("root", "admin")
	w.want(w.ask("GET", "/api/v1/me", root, "", ""), 200, "")
	first, second := w.deadLetter(event.BillingBalanceAdjusted), w.deadLetter(event.BillingBalanceAdjusted)
	// One that holds no event, as of a message that is none.
	body, err := json.Marshal(event.Letter{Stream: "BILLING", Subject: "billing.balance_adjusted", Consumer: "notifications", Reason: "It is no event.", Attempts: 1, Body: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := w.bus.JetStream.Publish(t.Context(), "dlq.notifications.billing.balance_adjusted", body)
	if err != nil {
		t.Fatal(err)
	}
	address := func(number uint64) string { return fmt.Sprintf("/api/v1/admin/dead-letters/%d", number) }
	numbers := func(query string) (found []float64) {
		answer := w.ask("GET", "/api/v1/admin/dead-letters"+query, root, "", "")
		items, _ := answer.fields()["items"].([]any)
		for _, item := range items {
			found = append(found, item.(map[string]any)["id"].(float64))
		}
		return found
	}
	if got := numbers(""); len(got) != 3 || got[0] != float64(first) {
		t.Errorf("the letters are %v", got)
	}
	if got := numbers("?consumer=notifications"); len(got) != 1 || got[0] != float64(stored.Sequence) {
		t.Errorf("those of one consumer are %v", got)
	}
	page := w.ask("GET", "/api/v1/admin/dead-letters?limit=2", root, "", "")
	if rest := numbers("?limit=2&cursor=" + page.text("next_cursor")); len(rest) != 1 || rest[0] != float64(stored.Sequence) {
		t.Errorf("the second page holds %v", rest)
	}
	shown := w.ask("GET", address(first), root, "", "")
	if shown.text("reason") != "The test says so." || shown.fields()["replayable"] != true {
		t.Errorf("a letter is shown as %s", shown.body)
	}

	reason := `{"reason":"mended"}`
	w.want(w.ask("POST", address(first)+"/replay", root, "again", reason), 204, "")
	w.want(w.ask("POST", address(first)+"/replay", root, "again", reason), 204, "")
	w.want(w.ask("POST", address(first)+"/replay", root, "otherwise", reason), 404, "dead_letter_not_found")
	if n := w.field(`SELECT count(*)::text FROM outbox WHERE payload ->> 'event_id' = $1 AND stream = 'BILLING'`, shown.text("event_id")); n != "1" {
		t.Errorf("the replayed event stands %s times in the outbox", n)
	}
	w.want(w.ask("POST", address(stored.Sequence)+"/replay", root, "", reason), 409, "dead_letter_not_replayable")
	w.want(w.ask("POST", address(stored.Sequence)+"/discard", root, "", reason), 204, "")
	w.want(w.ask("POST", address(second)+"/discard", root, "", `{}`), 422, "validation_error")
	w.want(w.ask("POST", address(second)+"/discard", root, "", reason), 204, "")
	w.want(w.ask("GET", address(second), root, "", ""), 404, "dead_letter_not_found")
	for action, want := range map[string]string{"dead_letter.replay": "1", "dead_letter.discard": "2"} {
		if n := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = $1 AND result = 'success' AND details ->> 'reason' = 'mended'`, action); n != want {
			t.Errorf("%s stands %s times in the audit log", action, n)
		}
	}
	// Its payload names no tenant, so the consumer of notifications gives up on it too, once.
	w.eventually("the replayed event is a letter again", 200, func() reply {
		if got := numbers("?consumer=notifications"); len(got) != 1 {
			return reply{status: 404}
		}
		return reply{status: 200}
	})
}

func TestTheCursorIsPutBackByAnOperator(t *testing.T) {
	w := newWorld(t, 0)
	w.needBus()
	root := w.token("root", "admin")
	w.want(w.ask("GET", "/api/v1/me", root, "", ""), 200, "")
	w.published() // the opening credit
	before := w.ask("GET", "/api/v1/admin/outbox", root, "", "").fields()
	w.want(w.ask("POST", "/api/v1/admin/outbox/rewind", root, "", `{"since":"2099-01-01T00:00:00.000Z","reason":"r"}`), 409, "outbox_unchanged")
	rewound := w.ask("POST", "/api/v1/admin/outbox/rewind", root, "back", `{"since":"2020-01-01T00:00:00.000Z","reason":"a stream was lost"}`)
	if rewound.status != 200 || rewound.fields()["epoch"].(float64) <= before["epoch"].(float64) {
		t.Fatalf("before %v, after %d %s", before, rewound.status, rewound.body)
	}
	w.eventually("it leads and has caught up", 200, func() reply {
		now := w.ask("GET", "/api/v1/admin/outbox", root, "", "")
		if now.text("leader") == "" || now.fields()["cursor"].(float64) < before["cursor"].(float64) {
			return reply{status: 404}
		}
		return now
	})
	if n := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'outbox.rewind' AND details ->> 'to_id' = '0'`); n != "1" {
		t.Errorf("the rewind stands %s times in the audit log", n)
	}
}
