//go:build integration

package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/nats/natstest"
	"github.com/gpuaas/gpuaas/internal/outbox"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

var quiet = slog.New(slog.DiscardHandler)

// scene is a database whose outbox is sealed, and a NATS to publish to.
type scene struct {
	*testing.T
	*storetest.Database
	server *natstest.Server
	bus    *nats.Client
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, Database: storetest.New(t), server: natstest.Start(t)}
	s.bus = s.server.Open()
	s.run(activities.NewSealer(s.App, quiet).Run)
	return s
}

// run runs something until the test, or the function it answers, ends it.
func (s *scene) run(do func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := do(ctx); err != nil && ctx.Err() == nil {
			s.Errorf("it ended by itself: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	s.Cleanup(stop)
	return stop
}

func (s *scene) relay(name string) (*outbox.Relay, func()) {
	config := outbox.DefaultConfig()
	config.Lease = time.Second
	relay := outbox.New(s.App, s.bus, config, name, quiet)
	return relay, s.run(relay.Run)
}

func (s *scene) until(what string, condition func() bool) {
	s.Helper()
	deadline := time.After(45 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			s.Fatalf("it does not happen that %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *scene) write(aggregate string, number int) {
	s.Helper()
	err := store.InTx(s.Context(), s.App, func(ctx context.Context, tx pgx.Tx) error {
		return queries.InsertOutbox(ctx, tx, queries.Event{
			Type: event.BillingUsageRecorded, Fact: fmt.Sprintf("%s/%d", aggregate, number), AggregateID: aggregate, OccurredAt: time.Now(), CorrelationID: "test",
			Payload: map[string]any{"tenant_id": "tenant_a", "account_id": aggregate, "currency": "usd", "amount_micros": number, "entry_ids": []int{number}},
		})
	})
	if err != nil {
		s.Error(err)
	}
}

// raw writes a row as no code of ours does.
func (s *scene) raw(stream, subject, messageID string, payload any) {
	s.Helper()
	s.Unpromised = true
	body, err := json.Marshal(payload)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.App.Exec(s.Context(), `INSERT INTO outbox (stream, subject, msg_id, aggregate_id, payload) VALUES ($1, $2, $3, 'raw', $4)`, stream, subject, messageID, body); err != nil {
		s.Fatal(err)
	}
}

// messages are the bodies that a stream holds, in its order.
func (s *scene) messages(stream string) [][]byte {
	s.Helper()
	standing, err := s.bus.JetStream.Stream(s.Context(), stream)
	if err != nil {
		s.Fatal(err)
	}
	info, err := standing.Info(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	var bodies [][]byte
	for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq && sequence > 0; sequence++ {
		message, err := standing.GetMsg(s.Context(), sequence)
		if err != nil {
			s.Fatal(err)
		}
		bodies = append(bodies, message.Data)
	}
	return bodies
}

func (s *scene) held(stream string) uint64 {
	standing, err := s.bus.JetStream.Stream(s.Context(), stream)
	if err != nil {
		return 0
	}
	return standing.CachedInfo().State.Msgs
}

// judge holds the stream against what was written: each event once, and each aggregate's in its order.
func (s *scene) judge(aggregates, each int) {
	s.Helper()
	next := map[string]int{}
	ids := map[string]bool{}
	for _, body := range s.messages("BILLING") {
		var envelope event.Envelope
		var payload struct {
			AccountID    string `json:"account_id"`
			AmountMicros int    `json:"amount_micros"`
		}
		if err := errors.Join(json.Unmarshal(body, &envelope), json.Unmarshal(envelope.Payload, &payload)); err != nil {
			s.Fatal(err)
		}
		if ids[envelope.EventID] {
			s.Errorf("%s stands twice in the stream", envelope.EventID)
		}
		ids[envelope.EventID] = true
		if payload.AmountMicros != next[payload.AccountID] {
			s.Errorf("%s: event %d came where %d was due", payload.AccountID, payload.AmountMicros, next[payload.AccountID])
		}
		next[payload.AccountID] = payload.AmountMicros + 1
	}
	if len(ids) != aggregates*each {
		s.Errorf("%d events were published of %d", len(ids), aggregates*each)
	}
}

func (s *scene) writeMany(aggregates, each int) {
	var writers sync.WaitGroup
	for aggregate := range aggregates {
		writers.Go(func() {
			for number := range each {
				s.write(fmt.Sprintf("account-%d", aggregate), number)
			}
		})
	}
	writers.Wait()
}

func TestEveryEventIsPublishedOnceAndInItsOrder(t *testing.T) {
	s := newScene(t)
	relay, _ := s.relay("one")
	const aggregates, each = 8, 100
	s.writeMany(aggregates, each)
	s.until("everything is published", func() bool { return relay.Published() == aggregates*each })
	s.judge(aggregates, each)
	s.until("nothing waits", func() bool { return relay.Lag() == 0 })
}

func TestNothingIsLostWhileNATSIsAway(t *testing.T) {
	s := newScene(t)
	relay, _ := s.relay("one")
	const aggregates, each = 4, 100
	written := make(chan struct{})
	go func() { defer close(written); s.writeMany(aggregates, each) }()
	s.until("some are published", func() bool { return relay.Published() > 20 })
	s.server.Kill()
	<-written
	s.until("the relay knows that events wait", func() bool { return relay.Lag() > 50*time.Millisecond })
	s.server.Again()
	s.until("everything is published", func() bool { return relay.Published() == aggregates*each })
	s.judge(aggregates, each)
}

// The leader is stopped without a word again and again, as by kill -9: whoever comes next goes on where the cursor lies.
func TestTwoRelaysTakeTurnsAndLoseNothing(t *testing.T) {
	s := newScene(t)
	const aggregates, each = 4, 150
	written := make(chan struct{})
	go func() { defer close(written); s.writeMany(aggregates, each) }()
	one, stopOne := s.relay("one")
	two, _ := s.relay("two")
	s.until("one of them leads", func() bool { return one.Leads() || two.Leads() })
	// A third party deposes whoever leads: its cursor move must be refused, and one of the two leads again.
	for range 3 {
		at, err := queries.OutboxRelay(t.Context(), s.App)
		if err != nil {
			t.Fatal(err)
		}
		if err := queries.RewindOutbox(t.Context(), s.App, at.CursorID/2); err != nil {
			t.Fatal(err)
		}
		s.until("another epoch has begun", func() bool {
			now, err := queries.OutboxRelay(t.Context(), s.App)
			return err == nil && now.Epoch > at.Epoch+1 && now.CursorID > at.CursorID/2
		})
	}
	<-written
	stopOne()
	s.until("everything is published", func() bool {
		at, err := queries.OutboxRelay(t.Context(), s.App)
		pending, pendingErr := queries.OutboxPending(t.Context(), s.App, at.CursorID, 1)
		return errors.Join(err, pendingErr) == nil && pending.Events == 0
	})
	s.judge(aggregates, each)
	s.until("the other one leads", two.Leads)
}

func TestADeposedLeaderMovesNothing(t *testing.T) {
	s := newScene(t)
	s.write("account-1", 0)
	s.until("the event is sealed", func() bool {
		sealed, err := queries.NewestSeal(t.Context(), s.App, queries.SealedOutbox)
		return err == nil && sealed > 0
	})
	first, leads, err := queries.LeadOutbox(t.Context(), s.App, "first", time.Minute)
	if err != nil || !leads {
		t.Fatal(leads, err)
	}
	if _, leads, err := queries.LeadOutbox(t.Context(), s.App, "second", time.Minute); err != nil || leads {
		t.Errorf("two lead at once (%v)", err)
	}
	if err := queries.ResignOutbox(t.Context(), s.App, first.Epoch); err != nil {
		t.Fatal(err)
	}
	second, leads, err := queries.LeadOutbox(t.Context(), s.App, "second", time.Minute)
	if err != nil || !leads || second.Epoch <= first.Epoch {
		t.Fatal(second, leads, err)
	}
	rows, err := queries.ReadOutbox(t.Context(), s.App, 0, 10)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	if moved, err := queries.MoveOutboxCursor(t.Context(), s.App, first.Epoch, 0, rows[0].ID, time.Minute); err != nil || moved {
		t.Errorf("a deposed leader moved the cursor (%v)", err)
	}
	if kept, err := queries.KeepOutboxLead(t.Context(), s.App, first.Epoch, time.Minute); err != nil || kept {
		t.Errorf("a deposed leader kept the lead (%v)", err)
	}
	if moved, err := queries.MoveOutboxCursor(t.Context(), s.App, second.Epoch, 0, rows[0].ID, time.Minute); err != nil || !moved {
		t.Errorf("the leader could not move the cursor (%v)", err)
	}
}

func TestTheDatabaseRefusesWhatTheCursorMustNeverDo(t *testing.T) {
	s := newScene(t)
	for name, change := range map[string]string{
		"outbox_relay_sealed": `UPDATE outbox_relay SET cursor_id = 1000000`,
		"outbox_relay_epoch":  `UPDATE outbox_relay SET epoch = -1 + epoch`,
		"refuse_change":       `DELETE FROM outbox_relay`,
		"outbox_retention":    `SELECT outbox_drop_partitions('1 hour')`,
	} {
		if _, err := s.Owner.Exec(t.Context(), change); err == nil {
			t.Errorf("%s: %s is done", name, change)
		}
	}
}

func TestARowThatNobodyTakesBecomesALetterAndBlocksNothing(t *testing.T) {
	s := newScene(t)
	s.write("account-1", 0)
	s.raw("BILLING", "elsewhere.thing", "4b7f0d0a-0000-8000-8000-000000000001", map[string]any{"poison": 1})
	s.raw("BILLING", "billing.usage_recorded", "4b7f0d0a-0000-8000-8000-000000000002", map[string]any{"poison": strings.Repeat("x", 2<<20)})
	s.raw("BILLING", "billing.*", "4b7f0d0a-0000-8000-8000-000000000003", map[string]any{"poison": 3})
	s.write("account-1", 1)
	relay, _ := s.relay("one")
	s.until("the letters are published", func() bool { return s.held(event.DeadLetters) == 3 })
	s.judge(1, 2)
	var letters []event.Letter
	for _, body := range s.messages(event.DeadLetters) {
		var letter event.Letter
		if err := json.Unmarshal(body, &letter); err != nil {
			t.Fatal(err)
		}
		letters = append(letters, letter)
	}
	for i, want := range []struct {
		reason  string
		carries bool
	}{{"No stream takes the subject", true}, {"2097", false}, {"No stream takes the subject", true}} {
		letter := letters[i]
		if !strings.Contains(letter.Reason, want.reason) || letter.Consumer != outbox.Name || letter.OutboxID == 0 || (letter.Event != nil) != want.carries {
			t.Errorf("letter %d is %+v", i, letter)
		}
	}
	if relay.Lag() != 0 {
		s.until("nothing waits", func() bool { return relay.Lag() == 0 })
	}
}

func TestAStreamThatSomebodyRemovedIsMadeAnew(t *testing.T) {
	s := newScene(t)
	relay, _ := s.relay("one")
	s.write("account-1", 0)
	s.until("it is published", func() bool { return relay.Published() == 1 })
	if err := s.bus.JetStream.DeleteStream(t.Context(), "BILLING"); err != nil {
		t.Fatal(err)
	}
	s.write("account-2", 0)
	s.until("the second is published", func() bool { return relay.Published() == 2 })
	s.judge(1, 1)
	// What the stream had lost comes back when an operator puts the cursor back.
	if err := queries.RewindOutbox(t.Context(), s.App, 0); err != nil {
		t.Fatal(err)
	}
	s.until("both are there again", func() bool { return s.held("BILLING") == 2 })
}

func TestOldDaysGoOnceTheyArePublished(t *testing.T) {
	s := newScene(t)
	days := func() (names []string) {
		rows, err := s.Owner.Query(t.Context(), `SELECT relname FROM pg_class WHERE relname ~ '^outbox_20200' AND relkind = 'r' ORDER BY 1`)
		if err == nil {
			names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	s.Unpromised = true
	if _, err := s.Owner.Exec(t.Context(), `SELECT outbox_make_partitions('2020-01-01', '2020-01-02');
		INSERT INTO outbox (stream, subject, msg_id, aggregate_id, payload, created_at) VALUES ('BILLING', 'billing.usage_recorded', 'a', 'a', '{}', '2020-01-01T12:00Z');
		INSERT INTO outbox (stream, subject, msg_id, aggregate_id, payload, created_at) VALUES ('BILLING', 'billing.usage_recorded', 'b', 'b', '{}', '2020-01-02T12:00Z')`); err != nil {
		t.Fatal(err)
	}
	drop := func() int {
		dropped, err := queries.DropOutboxPartitions(t.Context(), s.App, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return dropped
	}
	if dropped := drop(); dropped != 0 || len(days()) != 2 {
		t.Fatalf("%d unpublished days are gone, %v remain", dropped, days())
	}
	s.until("both are sealed", func() bool {
		rows, err := queries.ReadOutbox(t.Context(), s.App, 0, 10)
		return err == nil && len(rows) == 2
	})
	term, _, err := queries.LeadOutbox(t.Context(), s.App, "one", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := queries.ReadOutbox(t.Context(), s.App, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := queries.MoveOutboxCursor(t.Context(), s.App, term.Epoch, 0, rows[0].ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	if dropped := drop(); dropped != 1 || len(days()) != 1 || days()[0] != "outbox_20200102" {
		t.Errorf("behind the cursor %d days are gone, %v remain", dropped, days())
	}
}

// The cursor is the only thing that a commit need not wait for: what is thrown back is published again, and streams take it once.
func TestMovingTheCursorWaitsForNoDiskAndNothingElseDoesSo(t *testing.T) {
	s := newScene(t)
	connection, err := s.App.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Release()
	waits := func(db queries.DB) string {
		t.Helper()
		rows, err := db.Query(t.Context(), "SELECT current_setting('synchronous_commit')")
		if err != nil {
			t.Fatal(err)
		}
		setting, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return setting
	}
	term, leads, err := queries.LeadOutbox(t.Context(), connection, "leader", time.Minute)
	if err != nil || !leads {
		t.Fatalf("it leads: %t, %v", leads, err)
	}
	before := waits(connection)
	err = pgx.BeginFunc(t.Context(), connection, func(tx pgx.Tx) error {
		moved, err := queries.MoveOutboxCursor(t.Context(), tx, term.Epoch, term.CursorID, term.CursorID, time.Minute)
		if !moved || waits(tx) != "off" {
			t.Errorf("it moves: %t, and the commit waits: %s", moved, waits(tx))
		}
		return err
	})
	if err != nil || before != "on" || waits(connection) != before {
		t.Errorf("a commit waits: %s before and %s after, %v", before, waits(connection), err)
	}
	for _, elsewhere := range []struct{ epoch, from int64 }{{term.Epoch + 1, term.CursorID}, {term.Epoch, term.CursorID + 1}} {
		if moved, err := queries.MoveOutboxCursor(t.Context(), connection, elsewhere.epoch, elsewhere.from, elsewhere.from, time.Minute); moved || err != nil {
			t.Errorf("epoch %d moves it from %d: %t, %v", elsewhere.epoch, elsewhere.from, moved, err)
		}
	}
}
