//go:build integration

package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/nats"
	"github.com/gpuaas/gpuaas/internal/nats/natstest"
	"github.com/gpuaas/gpuaas/internal/notify"
	"github.com/gpuaas/gpuaas/internal/outbox"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

var quiet = slog.New(slog.DiscardHandler)

const tenant id.Tenant = "tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa"

// scene is a database with a tenant, a NATS, a Redis, and the relay of the outbox.
type scene struct {
	*testing.T
	*storetest.Database
	server *natstest.Server
	bus    *nats.Client
	cache  *redis.Client
}

func newScene(t *testing.T, attempts int) *scene {
	t.Helper()
	s := &scene{T: t, Database: storetest.New(t), server: natstest.Start(t), cache: redistest.Open(t, redistest.Config(t))}
	s.Unpromised = true // what a payload holds beside its place is no matter here
	s.bus = s.server.Open()
	s.exec(`INSERT INTO tenants (id, kind, name) VALUES ($1, 'personal', 'one')`, string(tenant))
	s.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('events.delivery_attempts', 1, to_jsonb($1::int), 'platform')`, attempts)
	s.run(activities.NewSealer(s.App, quiet).Run)
	s.run(outbox.New(s.App, s.bus, outbox.DefaultConfig(), "one", quiet).Run)
	return s
}

func (s *scene) notifier() (stop func()) {
	return s.run(notify.NewConsumer(s.App, s.bus, s.cache, policy.New(s.App), quiet).Run)
}

func (s *scene) exec(sql string, arguments ...any) {
	s.Helper()
	if _, err := s.Owner.Exec(s.Context(), sql, arguments...); err != nil {
		s.Fatal(err)
	}
}

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

func (s *scene) until(what string, condition func() bool) {
	s.Helper()
	deadline := time.After(90 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			s.Fatalf("it does not happen that %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *scene) count(sql string) (n int) {
	s.Helper()
	if err := s.Owner.QueryRow(s.Context(), sql).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

// write writes an event of a tenant's money as its domain does.
func (s *scene) write(kind event.Type, of id.Tenant, number int) {
	s.Helper()
	err := store.InTx(s.Context(), s.App, func(ctx context.Context, tx pgx.Tx) error {
		return queries.InsertOutbox(ctx, tx, queries.Event{
			Type: kind, Fact: fmt.Sprintf("%s/%d", of, number), AggregateID: "adjustment", OccurredAt: time.Now(), CorrelationID: "test",
			Payload: map[string]any{"tenant_id": of, "account_id": "acct", "number": number},
		})
	})
	if err != nil {
		s.Error(err)
	}
}

// publish publishes a message past the outbox, as nobody of ours does.
func (s *scene) publish(subject string, body []byte) {
	s.Helper()
	if _, err := s.bus.AwaitDeclared(s.Context()); err != nil {
		s.Fatal(err)
	}
	if _, err := s.bus.JetStream.Publish(s.Context(), subject, body); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) letters() []nats.Letter {
	s.Helper()
	letters, err := s.bus.Letters(s.Context(), 1, nats.Notifications, 100)
	if err != nil {
		s.Fatal(err)
	}
	return letters
}

func envelope(eventID, version string, kind event.Type, payload any) []byte {
	inner, _ := json.Marshal(payload)
	body, _ := json.Marshal(event.Envelope{EventID: eventID, EventType: kind, OccurredAt: time.Now().UTC(), Version: version, CorrelationID: "test", Payload: inner})
	return body
}

// Events are delivered twice, NATS is killed, and the consumer ends again and again between a commit and its acknowledgement.
func TestEveryEventIsAppliedOnce(t *testing.T) {
	s := newScene(t, 10)
	const events = 300
	written := make(chan struct{})
	go func() {
		defer close(written)
		for number := range events {
			s.write(event.BillingBalanceAdjusted, tenant, number)
		}
	}()
	for round := range 4 {
		stop := s.notifier()
		least := (round + 1) * 20
		s.until("some are applied", func() bool { return s.count(`SELECT count(*) FROM notifications`) >= least })
		if round == 1 {
			s.server.Kill()
			s.server.Again()
		}
		stop()
		if round == 2 { // everything comes again, under other message ids
			s.exec(`INSERT INTO outbox (stream, subject, msg_id, aggregate_id, payload) SELECT stream, subject, gen_random_uuid()::text, aggregate_id, payload FROM outbox`)
		}
	}
	s.notifier()
	s.notifier()
	<-written
	s.until("everything is applied", func() bool { return s.count(`SELECT count(*) FROM notifications`) >= events })
	s.until("everything is acknowledged", func() bool {
		durable, err := s.bus.JetStream.Consumer(t.Context(), "BILLING", nats.Notifications)
		if err != nil {
			return false
		}
		info := durable.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0
	})
	if n := s.count(`SELECT count(DISTINCT event #>> '{payload,number}') FROM notifications`); n != events {
		t.Errorf("%d events of %d were applied", n, events)
	}
	if n := s.count(`SELECT count(*) FROM notifications`); n != events {
		t.Errorf("%d notifications stand for %d events", n, events)
	}
	if letters := s.letters(); len(letters) != 0 {
		t.Errorf("there are letters: %+v", letters)
	}
}

func TestPoisonBecomesALetterAndBlocksNothing(t *testing.T) {
	s := newScene(t, 3)
	const known = "4b7f0d0a-0000-8000-8000-00000000000"
	kind := event.BillingBalanceAdjusted
	s.write(kind, tenant, 0)
	s.publish(string(kind), []byte("\xff\xfe no JSON"))
	s.publish(string(kind), envelope("no-uuid", event.Version, kind, map[string]any{"tenant_id": tenant}))
	s.publish(string(kind), envelope(known+"1", "9.9", kind, map[string]any{"tenant_id": tenant}))
	s.publish(string(kind), envelope(known+"2", event.Version, event.ProvisioningActive, map[string]any{"tenant_id": tenant}))
	s.publish(string(kind), envelope(known+"3", event.Version, kind, map[string]any{}))
	// A tenant that does not exist yet may exist later: it is tried as often as policy says.
	s.publish(string(kind), envelope(known+"4", event.Version, kind, map[string]any{"tenant_id": "tenant_bbbbbbbbbbbbbbbbbbbbbbbbbq"}))
	s.write(kind, tenant, 1)
	s.notifier()
	s.until("all six are letters", func() bool { return len(s.letters()) == 6 })
	s.until("what came behind them is applied", func() bool { return s.count(`SELECT count(*) FROM notifications`) == 2 })
	for _, want := range []struct {
		eventID, reason string
		attempts        int
		holds           bool
	}{
		{"", "it is no event", 1, false}, {"", "is no UUID", 1, true}, {known + "1", "its version", 1, true}, {known + "2", "was published as", 1, true},
		{known + "3", "names no tenant", 1, true}, {known + "4", "notifications_tenant_id_fkey", 3, true},
	} {
		found := false
		for _, letter := range s.letters() {
			if strings.Contains(letter.Reason, want.reason) {
				found = letter.EventID == want.eventID && letter.Attempts == want.attempts && letter.Subject == string(kind) && (letter.Event != nil) == want.holds && letter.Sequence > 0
				if !found {
					t.Errorf("the letter is %+v, wanted %+v", letter, want)
				}
			}
		}
		if !found {
			t.Errorf("no letter says %q as it should", want.reason)
		}
	}
}

// JSON allows what PostgreSQL's jsonb refuses. Such an event cannot be told, and its letter carries it as bytes. A reason that is cut in
// the middle of a character is one, too.
func TestWhatJSONAllowsAndTheDatabaseRefusesBecomesALetter(t *testing.T) {
	s := newScene(t, 3)
	kind := event.BillingBalanceAdjusted
	events := map[string][]byte{}
	for number, odd := range []string{"\"\xc3\"", `"\ud800"`, `"\u0000"`, "1e999999"} {
		eventID := fmt.Sprintf("4b7f0d0a-0000-8000-8000-%012d", number)
		events[eventID] = []byte(fmt.Sprintf(`{"event_id":%q,"event_type":%q,"occurred_at":"2026-03-01T12:00:00Z","version":%q,"correlation_id":"test","payload":{"tenant_id":%q,"odd":%s}}`,
			eventID, kind, event.Version, tenant, odd))
	}
	for number, long := range []string{strings.Repeat("é", 700), "a" + strings.Repeat("é", 700)} { // of one of the two the reason is cut in the middle
		eventID := fmt.Sprintf("4b7f0d0a-0000-8000-8001-%012d", number)
		events[eventID] = envelope(eventID, event.Version, event.Type(long), map[string]any{"tenant_id": tenant})
	}
	for _, body := range events {
		s.publish(string(kind), body)
	}
	s.write(kind, tenant, 1)
	s.notifier()
	s.until("all are letters", func() bool { return len(s.letters()) >= len(events) })
	s.until("what came behind them is applied", func() bool { return s.count(`SELECT count(*) FROM notifications`) == 1 })
	for _, letter := range s.letters() {
		body := letter.Body
		if strings.Contains(letter.EventID, "-8001-") {
			body = letter.Event
		}
		var want, got any
		if letter.Attempts != 1 || letter.Subject != string(kind) {
			t.Errorf("the letter of %s says %s after %d attempts", letter.EventID, letter.Subject, letter.Attempts)
		}
		if !bytes.Equal(body, events[letter.EventID]) && (json.Unmarshal(body, &got) != nil || json.Unmarshal(events[letter.EventID], &want) != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("the letter of %s does not carry what was published: %.200s", letter.EventID, body)
		}
		delete(events, letter.EventID)
	}
	if len(events) > 0 {
		t.Errorf("no letter carries %d of the events", len(events))
	}
}

// What could not be applied can be once its cause is gone: the letter is replayed, as the API does, and applied once.
func TestALetterIsReplayedOnceItsCauseIsGone(t *testing.T) {
	s := newScene(t, 1)
	const later id.Tenant = "tenant_bbbbbbbbbbbbbbbbbbbbbbbbba"
	s.write(event.BillingBalanceAdjusted, later, 0)
	s.notifier()
	s.until("it is a letter", func() bool { return len(s.letters()) == 1 })
	s.exec(`INSERT INTO tenants (id, kind, name) VALUES ($1, 'personal', 'later')`, string(later))
	letter := s.letters()[0]
	for range 2 { // a repeat changes nothing
		if err := store.InTx(t.Context(), s.App, func(ctx context.Context, tx pgx.Tx) error {
			if err := queries.ForgiveFailures(ctx, tx, letter.Consumer, letter.EventID); err != nil {
				return err
			}
			return queries.InsertReplay(ctx, tx, letter.Letter, letter.Number)
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.bus.RemoveLetter(t.Context(), letter.Number); err != nil {
			t.Fatal(err)
		}
	}
	s.until("it is applied", func() bool { return s.count(`SELECT count(*) FROM notifications`) == 1 })
	if letters := s.letters(); len(letters) != 0 {
		t.Errorf("the letter remains: %+v", letters)
	}
}

func TestAMutedEventIsPublishedAndNobodyIsTold(t *testing.T) {
	s := newScene(t, 10)
	s.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('notification.balance_depleted_enabled', 1, 'false', 'platform')`)
	s.write(event.BillingBalanceDepleted, tenant, 0)
	s.write(event.BillingUsageRecorded, tenant, 1)
	s.write(event.BillingBalanceAdjusted, tenant, 2)
	s.notifier()
	s.until("the last is applied", func() bool {
		return s.count(`SELECT count(*) FROM notifications WHERE event_type = 'billing.balance_adjusted'`) == 1
	})
	if n := s.count(`SELECT count(*) FROM notifications`); n != 1 {
		t.Errorf("%d notifications were written, one of three events is told", n)
	}
	stream, err := s.bus.JetStream.Stream(t.Context(), "BILLING")
	if err != nil || stream.CachedInfo().State.Msgs != 3 {
		t.Errorf("the stream holds %d messages (%v)", stream.CachedInfo().State.Msgs, err)
	}
}
