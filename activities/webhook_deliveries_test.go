//go:build integration

package activities_test

import (
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/webhook"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// mailbox is a customer's endpoint beside the step that tells it.
type mailbox struct {
	*world
	step     *activities.WebhookDeliveries
	endpoint queries.WebhookEndpoint
	// status is how the endpoint answers, asked how often it was, meanwhile what happens while it is being asked.
	status, asked atomic.Int64
	meanwhile     func()
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	m := &mailbox{world: newWorld(t, 0)}
	m.now = time.Now().UTC().Truncate(time.Millisecond)
	m.status.Store(200)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m.asked.Add(1)
		if m.meanwhile != nil {
			m.meanwhile()
		}
		w.WriteHeader(int(m.status.Load()))
	}))
	t.Cleanup(server.Close)
	m.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('webhooks.allow_http', 1, 'true', 'platform'),
		('webhooks.delivery_attempts', 1, '3', 'platform'), ('webhooks.disable_after_failures', 1, '2', 'platform'), ('webhooks.disable_after_seconds', 1, '3600', 'platform')`)
	keys, err := webhook.ParseKeys("one:" + strings.Repeat("01", 32))
	if err != nil {
		t.Fatal(err)
	}
	guard := rules.Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	now := func() time.Time { return m.now }
	m.step = &activities.WebhookDeliveries{
		Pool: m.App, Keys: keys, Sender: webhook.NewSender(guard, nil, now), Policy: policy.New(m.App), Now: now, Log: slog.New(slog.DiscardHandler),
	}
	who := m.tenant("ada", 0)
	secret, endpoint := [32]byte{7}, newID[id.Webhook]()
	hash := sha256.Sum256(secret[:])
	m.endpoint = queries.WebhookEndpoint{
		ID: endpoint, TenantID: who.TenantID, URL: server.URL, EventTypes: []event.Type{}, Secret: keys.Seal(endpoint, secret), SecretSHA256: hash[:], CreatedBy: who.UserID,
	}
	m.must(queries.InsertWebhookEndpoint(t.Context(), m.App, m.endpoint))
	return m
}

// deliver writes a delivery that waits to be attempted.
func (m *mailbox) deliver(test bool) id.Delivery {
	m.t.Helper()
	eventID := m.text(`SELECT gen_random_uuid()::text`)
	delivery := queries.WebhookDelivery{
		ID: queries.DeliveryID(m.endpoint.ID, eventID), TenantID: m.endpoint.TenantID, EndpointID: m.endpoint.ID, EventID: eventID,
		EventType: event.ProvisioningActive, Body: `{}`, Test: test, State: rules.Pending,
	}
	m.must(queries.InsertWebhookDelivery(m.t.Context(), m.App, delivery))
	return delivery.ID
}

func (m *mailbox) text(sql string, arguments ...any) (text string) {
	m.t.Helper()
	if err := m.Owner.QueryRow(m.t.Context(), sql, arguments...).Scan(&text); err != nil {
		m.t.Fatal(err)
	}
	return text
}

func (m *mailbox) attempt(delivery id.Delivery, round, number int) workflows.DeliveryStanding {
	m.t.Helper()
	standing, err := m.step.Attempt(m.t.Context(), workflows.DeliveryAttempt{DeliveryID: delivery, Round: round, Number: number})
	if err != nil {
		m.t.Fatal(err)
	}
	return standing
}

func TestAnAttemptIsWrittenDownOnce(t *testing.T) {
	m := newMailbox(t)
	delivery := m.deliver(false)
	m.status.Store(500)
	first := m.attempt(delivery, 1, 1)
	if first.State != rules.Pending || first.Outcome != rules.Rejected || first.RetryAfterMs < 5000 || first.RetryAfterMs > 6000 {
		t.Errorf("the first attempt comes to %+v", first)
	}
	if again := m.attempt(delivery, 1, 1); again != first || m.asked.Load() != 1 {
		t.Errorf("its repeat comes to %+v after %d requests", again, m.asked.Load())
	}
	m.status.Store(204)
	if second := m.attempt(delivery, 1, 2); second.State != rules.Delivered || second.StatusCode != http.StatusNoContent {
		t.Errorf("the second comes to %+v", second)
	}
	if third := m.attempt(delivery, 1, 3); third.State != rules.Delivered || m.asked.Load() != 2 {
		t.Errorf("after the end an attempt comes to %+v, %d requests", third, m.asked.Load())
	}
	if failures := m.text(`SELECT failures || '/' || coalesce(failing_since::text, 'not') FROM webhook_endpoints`); failures != "0/not" {
		t.Errorf("after a success it has failed %s", failures)
	}
	// Another round begins its numbers anew, and the round before is nobody's any more.
	row, err := queries.GetWebhookDelivery(t.Context(), m.App, delivery)
	if err != nil {
		t.Fatal(err)
	}
	m.must(queries.RepeatWebhookDelivery(t.Context(), m.App, row))
	if late := m.attempt(delivery, 1, 4); late.State != "" {
		t.Errorf("an attempt of the round before comes to %+v", late)
	}
	if again := m.attempt(delivery, 2, 1); again.State != rules.Delivered || m.asked.Load() != 3 {
		t.Errorf("the next round comes to %+v", again)
	}
}

func TestADeliveryThatNobodyTakesHasFailed(t *testing.T) {
	m := newMailbox(t)
	delivery := m.deliver(false)
	m.status.Store(503)
	for number := 1; number <= 2; number++ {
		if standing := m.attempt(delivery, 1, number); standing.State != rules.Pending {
			t.Fatalf("attempt %d comes to %+v", number, standing)
		}
	}
	if last := m.attempt(delivery, 1, 3); last.State != rules.Failed {
		t.Errorf("the last comes to %+v", last)
	}
	// Often enough, and not for long enough: until an hour has passed, and then it is told once.
	if enabled := m.text(`SELECT (disabled_at IS NULL)::text FROM webhook_endpoints`); enabled != "true" {
		t.Fatal("it is disabled before its time")
	}
	m.now = m.now.Add(time.Hour)
	if next := m.attempt(m.deliver(false), 1, 1); next.State != rules.Failed {
		t.Errorf("an attempt at an endpoint that is given up comes to %+v", next)
	}
	asked := m.asked.Load()
	if skipped := m.attempt(m.deliver(false), 1, 1); skipped.State != rules.Skipped || m.asked.Load() != asked {
		t.Errorf("a disabled endpoint: %+v", skipped)
	}
	if told := m.text(`SELECT count(*)::text FROM outbox WHERE subject = 'webhooks.endpoint_disabled' AND payload -> 'payload' ->> 'because' = 'failing'`); told != "1" {
		t.Errorf("it is told %s times", told)
	}
	if audited := m.text(`SELECT count(*)::text FROM audit_logs WHERE action = 'webhook.give_up'`); audited != "1" {
		t.Errorf("%s audit rows tell of it", audited)
	}
	// A test goes there all the same, is not tried again, and enables nothing.
	m.status.Store(200)
	if tested := m.attempt(m.deliver(true), 1, 1); tested.State != rules.Delivered || m.text(`SELECT disabled_because FROM webhook_endpoints`) != "failing" {
		t.Errorf("a test comes to %+v", tested)
	}
	m.status.Store(500)
	before := m.text(`SELECT failures::text FROM webhook_endpoints`)
	if tested := m.attempt(m.deliver(true), 1, 1); tested.State != rules.Failed || m.text(`SELECT failures::text FROM webhook_endpoints`) != before {
		t.Errorf("a test that fails comes to %+v", tested)
	}
}

// What happens to an endpoint while it is being asked wins.
func TestWhatHappensWhileAnEndpointIsAsked(t *testing.T) {
	for name, change := range map[string]struct {
		sql   string
		state rules.State
	}{
		"it is deleted":              {`DELETE FROM webhook_endpoints`, ""},
		"it is disabled":             {`UPDATE webhook_endpoints SET disabled_at = now(), disabled_because = 'asked'`, rules.Failed},
		"somebody asks for it again": {`UPDATE webhook_deliveries SET round = 2`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMailbox(t)
			m.status.Store(500)
			m.meanwhile = func() {
				if _, err := m.Owner.Exec(t.Context(), change.sql); err != nil {
					t.Error(err)
				}
			}
			if standing := m.attempt(m.deliver(false), 1, 1); standing.State != change.state {
				t.Errorf("it comes to %+v", standing)
			}
		})
	}
}

func TestASecretThatDoesNotOpenSendsNothing(t *testing.T) {
	m := newMailbox(t)
	delivery := m.deliver(false)
	keys, err := webhook.ParseKeys("two:" + strings.Repeat("02", 32))
	if err != nil {
		t.Fatal(err)
	}
	right := m.step.Keys
	m.step.Keys = keys
	if standing, err := m.step.Attempt(t.Context(), workflows.DeliveryAttempt{DeliveryID: delivery, Round: 1, Number: 1}); err == nil || m.asked.Load() != 0 {
		t.Errorf("it comes to %+v after %d requests", standing, m.asked.Load())
	}
	m.step.Keys = right
	if standing := m.attempt(delivery, 1, 1); standing.State != rules.Delivered {
		t.Errorf("with the key again it comes to %+v", standing)
	}
}
