//go:build integration

package activities_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/activities"
	rules "github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/internal/email/sink"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// correspondence is a person with an address, an SMTP server, and the step that hands mail to it.
type correspondence struct {
	*world
	step  *activities.EmailMessages
	inbox *sink.Sink
	who   identity.Principal
}

func newCorrespondence(t *testing.T) *correspondence {
	t.Helper()
	c := &correspondence{world: newWorld(t, 0)}
	c.now = time.Now().UTC().Truncate(time.Millisecond)
	inbox, err := sink.Start(sink.Config{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inbox.Close() })
	sender, err := email.NewSender(email.Config{URL: "smtp://" + inbox.Address(), From: "no-reply@gpuaas.example"})
	if err != nil {
		t.Fatal(err)
	}
	c.inbox = inbox
	c.step = &activities.EmailMessages{Pool: c.App, Sender: sender, Policy: policy.New(c.App), Now: func() time.Time { return c.now }, Log: slog.New(slog.DiscardHandler)}
	c.who = c.tenant("ada", 0)
	c.exec(`UPDATE users SET email = 'ada@example.com', email_verified = true`)
	return c
}

// due writes a mail that waits to be attempted.
func (c *correspondence) due(kind event.Type, payload map[string]any) id.Mail {
	c.t.Helper()
	payload["tenant_id"] = c.who.TenantID
	raw, err := json.Marshal(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	var message string
	c.scan(&message, `SELECT gen_random_uuid()::text`)
	c.must(queries.InsertEmailMessage(c.t.Context(), c.App, queries.EmailMessage{
		TenantID: c.who.TenantID, EventID: message, Kind: rules.Kind(kind), UserID: c.who.UserID, Payload: raw, State: rules.Pending,
	}))
	c.scan(&message, `SELECT id FROM email_messages WHERE event_id = $1`, message)
	return id.Mail(message)
}

func (c *correspondence) lowBalance() id.Mail {
	return c.due(event.BillingLowBalanceWarning, map[string]any{"currency": "usd", "available_micros": 1_000_000, "message": "It is low."})
}

func (c *correspondence) scan(into *string, sql string, arguments ...any) {
	c.t.Helper()
	if err := c.Owner.QueryRow(c.t.Context(), sql, arguments...).Scan(into); err != nil {
		c.t.Fatal(err)
	}
}

func (c *correspondence) attempt(message id.Mail, number int) workflows.EmailStanding {
	c.t.Helper()
	standing, err := c.step.Attempt(c.t.Context(), workflows.EmailAttempt{MessageID: message, Number: number})
	if err != nil {
		c.t.Fatal(err)
	}
	return standing
}

func TestAnAttemptAtAMailIsWrittenDownOnce(t *testing.T) {
	c := newCorrespondence(t)
	message := c.lowBalance()
	c.inbox.Answers(sink.Answer{Code: 451, Text: "later"})
	first := c.attempt(message, 1)
	if first.State != rules.Pending || first.Code != 451 || first.RetryAfterMs < 30_000 || first.RetryAfterMs > 36_000 {
		t.Errorf("the first attempt comes to %+v", first)
	}
	if again := c.attempt(message, 1); again.State != rules.Pending || again.RetryAfterMs != first.RetryAfterMs || len(c.inbox.Messages()) != 0 {
		t.Errorf("its repeat comes to %+v, and %d mails", again, len(c.inbox.Messages()))
	}
	for range 3 {
		if sent := c.attempt(message, 2); sent.State != rules.Sent || len(c.inbox.Messages()) != 1 {
			t.Errorf("the second attempt comes to %+v, and %d mails", sent, len(c.inbox.Messages()))
		}
	}
	if late := c.attempt(message, 3); late.State != rules.Sent || len(c.inbox.Messages()) != 1 {
		t.Errorf("what was sent is attempted: %+v", late)
	}
	if gone := c.attempt(newID[id.Mail](), 1); gone.State != "" {
		t.Errorf("what is not there stands as %+v", gone)
	}
}

func TestAMailIsGivenUpWhenItsTimeIsOver(t *testing.T) {
	c := newCorrespondence(t)
	message := c.lowBalance()
	if err := c.inbox.Close(); err != nil {
		t.Fatal(err)
	}
	number := 1
	for ; number < 1000; number++ {
		standing := c.attempt(message, number)
		if standing.State != rules.Pending {
			if standing.State != rules.GivenUp {
				t.Errorf("it ended as %+v", standing)
			}
			break
		}
		c.now = c.now.Add(time.Duration(standing.RetryAfterMs) * time.Millisecond)
	}
	if passed := time.Since(c.now); -passed < 22*time.Hour || -passed > 24*time.Hour {
		t.Errorf("%d attempts took %v", number, -passed)
	}
	var detail string
	if c.scan(&detail, `SELECT detail FROM email_messages WHERE id = $1`, string(message)); detail == "" {
		t.Error("nothing says why")
	}
	late := c.lowBalance()
	c.now = c.now.Add(48 * time.Hour)
	if standing := c.attempt(late, 1); standing.State != rules.GivenUp {
		t.Errorf("what is too late stands as %+v", standing)
	}
}

// Whatever changed since a mail was recorded counts: the address as well as the right to know.
func TestAMailFollowsWhoeverItIsTo(t *testing.T) {
	for name, test := range map[string]struct {
		change string
		to     string
	}{
		"another address":     {`UPDATE users SET email = 'ada@other.example'`, "ada@other.example"},
		"no address":          {`UPDATE users SET email = '', email_verified = false`, ""},
		"no verified address": {`UPDATE users SET email_verified = false`, ""},
		"suspended":           {`UPDATE users SET status = 'suspended'`, ""},
		"not wanted any more": {`INSERT INTO email_preferences (user_id, category, enabled) SELECT id, 'balance', false FROM users`, ""},
		"another role":        {`UPDATE tenant_members SET role = 'viewer'`, ""},
		"left the organisation": {`WITH changed AS (UPDATE tenants SET kind = 'organisation', org_id = 'acme'), own AS (UPDATE tenant_members SET source = 'organisation')
			UPDATE users SET org_id = 'elsewhere'`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCorrespondence(t)
			message := c.lowBalance()
			if strings.Contains(test.change, "tenant_members SET role") {
				c.exec(`ALTER TABLE tenant_members DISABLE TRIGGER tenant_members_last_owner`)
			}
			c.exec(test.change)
			standing := c.attempt(message, 1)
			if test.to == "" && (standing.State != rules.Suppressed || len(c.inbox.Messages()) != 0) {
				t.Errorf("it stands as %+v, and %d mails arrived", standing, len(c.inbox.Messages()))
			}
			if got := c.inbox.Messages(); test.to != "" && (len(got) != 1 || got[0].To[0] != test.to) {
				t.Errorf("it went to %+v", got)
			}
		})
	}
}

// An allocation's trouble is told to whose it is; where that is a service account, to those who answer for the tenant.
func TestAnAllocationsTroubleGoesToWhoseItIs(t *testing.T) {
	c := newCorrespondence(t)
	robot := newID[id.User]()
	c.exec(`INSERT INTO users (id, tenant_id, issuer, subject, username, kind) VALUES ($1, $2, 'gpuaas', $1, 'robot', 'service')`, string(robot), c.who.TenantID)
	other := c.tenant("ben", 0)
	c.exec(`INSERT INTO tenant_members (tenant_id, user_id, role, source) VALUES ($1, $2, 'member', 'invitation')`, string(c.who.TenantID), string(other.UserID))
	for name, test := range map[string]struct{ owner, told id.User }{
		"a member": {other.UserID, other.UserID}, "the owner": {c.who.UserID, c.who.UserID}, "a service account": {robot, c.who.UserID},
		"somebody of another tenant": {c.tenant("eve", 0).UserID, c.who.UserID},
	} {
		got, err := email.Recipients(t.Context(), c.App, event.ProvisioningFailed, c.who.TenantID, test.owner)
		if err != nil || len(got) != 1 || got[0].ID != test.told {
			t.Errorf("about what is %s's is told %+v (%v)", name, got, err)
		}
	}
}

func TestARelayWithoutAServerAttemptsNothing(t *testing.T) {
	c := newCorrespondence(t)
	message := c.lowBalance()
	c.step.Sender = nil
	if standing, err := c.step.Attempt(t.Context(), workflows.EmailAttempt{MessageID: message, Number: 1}); err == nil {
		t.Errorf("it stands as %+v", standing)
	}
}
