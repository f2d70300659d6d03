//go:build integration

package api_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/internal/email/sink"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// written is a world whose relay hands mail to a server of the test's own, where trying again goes fast.
func written(t *testing.T, inbox *sink.Sink) *world {
	t.Helper()
	w := newWorldWhere(t, 0, map[string]string{
		"billing.opening_credit_minor": "0", "email.retry_initial_seconds": "1", "email.retry_maximum_seconds": "1",
	}, func(w *world) {
		w.smtp = email.Config{URL: "smtp://" + inbox.Address(), From: "GPUaaS <no-reply@gpuaas.example>"}
		w.addresses = map[string]address{}
	})
	w.needBus()
	return w
}

func newInbox(t *testing.T, at string) *sink.Sink {
	t.Helper()
	inbox, err := sink.Start(sink.Config{Address: at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inbox.Close() })
	return inbox
}

// joined signs people in with an address each and makes them members of the first one's tenant, in the roles that are named.
func (w *world) joined(owner string, roles map[string]string) (tenant string) {
	w.t.Helper()
	for name := range maps.Keys(roles) {
		w.addresses[name] = address{name + "@example.com", true}
	}
	w.addresses[owner] = address{owner + "@example.com", true}
	w.want(w.ask("GET", "/api/v1/me", w.token(owner), "", ""), 200, "")
	for name, role := range roles {
		w.want(w.ask("GET", "/api/v1/me", w.token(name), "", ""), 200, "")
		w.join(name, owner, role)
	}
	return w.tenantOf(owner)
}

// tell puts an event of a tenant into the outbox, as the platform does.
func (w *world) tell(kind event.Type, fact string, payload map[string]any) {
	w.t.Helper()
	err := store.InTx(w.t.Context(), w.App, func(ctx context.Context, tx pgx.Tx) error {
		return queries.InsertOutbox(ctx, tx, queries.Event{Type: kind, Fact: fact, AggregateID: fact, OccurredAt: time.Now(), CorrelationID: "test", Payload: payload})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) lowBalance(tenant, fact string) {
	w.tell(event.BillingLowBalanceWarning, fact, map[string]any{
		"tenant_id": tenant, "account_id": w.field(`SELECT id FROM accounts WHERE tenant_id = $1`, tenant), "currency": "usd", "crossing": 1, "at": time.Now().UTC(),
		"available_micros": 12345678, "threshold_micros": 20000000, "rate_micros_per_hour": 3600000, "late_ms": 0, "written_off_micros": 0,
		"message": "The balance is down to 12.34 usd.", "allocation_count": 0, "allocations": []any{},
	})
}

// mailed waits until no mail is pending and a number of them is recorded, and answers how they stand: "name state attempts".
func (w *world) mailed(most int) []string {
	w.t.Helper()
	const standing = `SELECT coalesce(string_agg(coalesce(users.username, 'invited') || ' ' || mail.state || ' ' || mail.attempts, E'\n' ORDER BY users.username), '')
		FROM email_messages AS mail LEFT JOIN users ON users.id = mail.user_id`
	temporaltest.Eventually(w.t, time.Minute, func() error {
		if got := w.field(`SELECT count(*) || ' ' || count(*) FILTER (WHERE state = 'pending') FROM email_messages`); got != fmt.Sprintf("%d 0", most) {
			return fmt.Errorf("of mails there are, and pending: %s\n%s", got, w.field(standing))
		}
		return nil
	})
	return strings.Split(w.field(standing), "\n")
}

func recipients(messages []sink.Message) (names []string) {
	for _, message := range messages {
		names = append(names, strings.Join(message.To, ","))
	}
	slices.Sort(names)
	return names
}

// Everybody who answers for the money has one mail of an event, and nobody else: not whoever has no address that the issuer vouches for, not who
// wants none, and not twice when the event comes twice.
func TestAnEventIsOneMailForEverybodyWhoIsEntitled(t *testing.T) {
	inbox := newInbox(t, "127.0.0.1:0")
	w := written(t, inbox)
	tenant := w.joined("olga", map[string]string{"adam": "admin", "bill": "billing", "max": "member", "vera": "viewer", "una": "billing", "otto": "admin"})
	w.addresses["una"] = address{"una@example.com", false}
	w.want(w.ask("GET", "/api/v1/me", w.token("una"), "", ""), 200, "")
	w.want(w.ask("PUT", preferencesPath, w.token("otto"), "", `{"email_off":["balance"]}`), 200, "")

	w.lowBalance(tenant, "first")
	if got := w.mailed(5); !slices.Equal(got, []string{"adam sent 1", "bill sent 1", "olga sent 1", "otto suppressed 0", "una suppressed 0"}) {
		t.Errorf("mails: %q", got)
	}
	messages := inbox.Messages()
	if got := recipients(messages); !slices.Equal(got, []string{"adam@example.com", "bill@example.com", "olga@example.com"}) {
		t.Fatalf("mails went to %q", got)
	}
	seen := map[string]bool{}
	for _, message := range messages {
		seen[message.MessageID] = true
		if !strings.Contains(message.Text, "12.34 usd") || !strings.Contains(message.HTML, "12.34 usd") || !strings.Contains(message.Text, "https://console.example") ||
			!strings.Contains(message.Subject, "balance is low") || !strings.HasSuffix(message.MessageID, "@gpuaas.example>") {
			t.Errorf("a mail reads %+v", message)
		}
	}
	if len(seen) != 3 {
		t.Errorf("three mails have %d names", len(seen))
	}
	if kept := w.field(`SELECT count(*)::text FROM email_messages WHERE payload IS NOT NULL OR to_jsonb(email_messages)::text LIKE '%@example.com%'`); kept != "0" {
		t.Errorf("%s ended mails keep what they were written from, or an address", kept)
	}

	// It comes again to a consumer that has forgotten it: nobody has a second mail.
	w.exec(`DELETE FROM inbox WHERE consumer = 'emails'`)
	again := w.field(`SELECT payload::text FROM outbox WHERE subject = 'billing.low_balance_warning'`)
	if _, err := w.bus.JetStream.Publish(t.Context(), string(event.BillingLowBalanceWarning), []byte(again)); err != nil {
		t.Fatal(err)
	}
	// What cannot be switched off reaches also whoever wants nothing of the balance.
	w.tell(event.BillingBalanceDepleted, "second", map[string]any{
		"tenant_id": tenant, "account_id": w.field(`SELECT id FROM accounts WHERE tenant_id = $1`, tenant), "currency": "usd", "crossing": 1, "at": time.Now().UTC(),
		"available_micros": 0, "threshold_micros": 0, "rate_micros_per_hour": 3600000, "late_ms": 0, "written_off_micros": 0,
		"message": "The balance was used up.", "allocation_count": 0, "allocations": []any{},
	})
	w.mailed(10)
	if got := recipients(inbox.Messages()[3:]); !slices.Equal(got, []string{"adam@example.com", "bill@example.com", "olga@example.com", "otto@example.com"}) {
		t.Errorf("mails went to %q", got)
	}
}

// A server that says "later" is asked again, one that says "never" is not; and what it said is kept without the address.
func TestAMailIsTriedAgainUntilItIsTakenOrRefused(t *testing.T) {
	inbox := newInbox(t, "127.0.0.1:0")
	w := written(t, inbox)
	tenant := w.joined("olga", nil)
	inbox.Answers(sink.Answer{Code: 451, Text: "greylisted"}, sink.Answer{Code: 452, Text: "full", At: "data"})
	w.lowBalance(tenant, "later")
	if got := w.mailed(1); !slices.Equal(got, []string{"olga sent 3"}) || len(inbox.Messages()) != 1 {
		t.Errorf("mails: %q, %d arrived", got, len(inbox.Messages()))
	}
	inbox.Answers(sink.Answer{Code: 550, Text: "<olga@example.com> is unknown here"})
	w.lowBalance(tenant, "never")
	if got := w.mailed(2); !slices.Equal(got, []string{"olga sent 3", "olga refused 1"}) && !slices.Equal(got, []string{"olga refused 1", "olga sent 3"}) {
		t.Errorf("mails: %q", got)
	}
	if detail := w.field(`SELECT detail FROM email_messages WHERE state = 'refused'`); !strings.Contains(detail, "unknown here") || strings.Contains(detail, "olga@") {
		t.Errorf("what it said is kept as %q", detail)
	}
	// The mail arrived and nobody was told so: it comes again under its name, by which a mailbox knows it.
	inbox.Answers(sink.Answer{Lose: true})
	w.lowBalance(tenant, "lost")
	w.mailed(3)
	messages := inbox.Messages()
	if len(messages) != 3 || messages[1].MessageID != messages[2].MessageID || messages[0].MessageID == messages[1].MessageID {
		t.Errorf("%d mails arrived", len(messages))
	}
}

func TestAMailWaitsForAServerThatIsAway(t *testing.T) {
	inbox := newInbox(t, "127.0.0.1:0")
	w := written(t, inbox)
	tenant := w.joined("olga", map[string]string{"adam": "admin"})
	if err := inbox.Close(); err != nil {
		t.Fatal(err)
	}
	w.lowBalance(tenant, "away")
	temporaltest.Eventually(t, time.Minute, func() error {
		if got := w.field(`SELECT count(*) FILTER (WHERE attempts > 1)::text FROM email_messages`); got != "2" {
			return fmt.Errorf("%s mails were attempted", got)
		}
		return nil
	})
	// Whoever leaves meanwhile has no mail of what is no longer theirs.
	w.want(w.ask("DELETE", "/api/v1/tenants/"+tenant+"/members/"+w.userID("adam"), w.token("olga"), "", ""), 204, "")
	back := newInbox(t, inbox.Address())
	for _, standing := range w.mailed(2) {
		if name, _, _ := strings.Cut(standing, " "); name == "adam" && !strings.Contains(standing, "suppressed") || name == "olga" && !strings.Contains(standing, "sent") {
			t.Errorf("mail: %s", standing)
		}
	}
	if got := recipients(back.Messages()); !slices.Equal(got, []string{"olga@example.com"}) {
		t.Errorf("mails went to %q", got)
	}
}

// Whom an invitation names has a mail without its token, signs in with that address, and accepts; nobody else can by its id.
func TestAnInvitationIsMailedAndAcceptedByItsAddress(t *testing.T) {
	inbox := newInbox(t, "127.0.0.1:0")
	w := written(t, inbox)
	tenant := w.joined("olga", nil)
	made := w.ask("POST", "/api/v1/invitations", w.token("olga"), "k", fmt.Sprintf(`{"tenant_id":%q,"role":"viewer","email":"Nina@Example.com","note":"<b>hello</b>"}`, tenant))
	w.want(made, 201, "")
	w.mailed(1)
	messages := inbox.Messages()
	if len(messages) != 1 || !slices.Equal(messages[0].To, []string{"Nina@Example.com"}) || strings.Contains(messages[0].Raw, "gpuaas_inv_") || strings.Contains(messages[0].HTML, "hello") {
		t.Fatalf("%d mails: %+v", len(messages), messages)
	}
	invitation, _ := made.fields()["invitation"].(map[string]any)
	path := fmt.Sprintf("/api/v1/me/invitations/%s/accept", invitation["id"])
	if !strings.Contains(messages[0].Text, fmt.Sprint(invitation["id"])) {
		t.Errorf("the mail does not name it: %s", messages[0].Text)
	}
	w.ask("POST", "/api/v1/invitations", w.token("olga"), "k", fmt.Sprintf(`{"tenant_id":%q,"role":"viewer","email":"Nina@Example.com","note":"<b>hello</b>"}`, tenant))

	w.addresses["nina"], w.addresses["eve"] = address{"nina@example.com", false}, address{"eve@example.com", true}
	nina, eve := w.token("nina"), w.token("eve")
	for _, token := range []string{nina, eve} {
		if listed := w.ask("GET", "/api/v1/me/invitations", token, "", ""); listed.status != 200 || len(items(listed)) != 0 {
			t.Errorf("somebody else is shown %s", listed.body)
		}
		w.want(w.ask("POST", path, token, "", ""), 404, "invitation_not_found")
	}
	w.want(w.ask("POST", "/api/v1/me/invitations/"+string(randomID[id.Invitation]())+"/accept", nina, "", ""), 404, "invitation_not_found")

	w.addresses["nina"] = address{"nina@example.com", true}
	nina = w.token("nina")
	listed := w.ask("GET", "/api/v1/me/invitations", nina, "", "")
	if got := items(listed); listed.status != 200 || len(got) != 1 || got[0]["inviter"] != "olga" || got[0]["role"] != "viewer" || got[0]["note"] != "<b>hello</b>" {
		t.Fatalf("she is shown %s", listed.body)
	}
	for range 2 { // accepting again changes nothing
		if accepted := w.ask("POST", path, nina, "", ""); accepted.status != 200 || accepted.text("status") != "accepted" {
			t.Errorf("accepting is answered %d %s", accepted.status, accepted.body)
		}
	}
	if role := w.roleIn(tenant, "nina"); role != "viewer" {
		t.Errorf("she is %q", role)
	}
	if listed := w.ask("GET", "/api/v1/me/invitations", nina, "", ""); len(items(listed)) != 0 {
		t.Errorf("what she accepted waits for her: %s", listed.body)
	}
	if count := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'invitation.accept' AND tenant_id = $1`, tenant); count != "1" {
		t.Errorf("%s audit rows tell of it", count)
	}
	if len(inbox.Messages()) != 1 {
		t.Errorf("%d mails were sent", len(inbox.Messages()))
	}
}
