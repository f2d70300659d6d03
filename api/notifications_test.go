//go:build integration

package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/domain/event"
)

// notification is one message of the socket, or one item of the list.
type notification struct {
	EventID   string         `json:"event_id"`
	EventType string         `json:"event_type"`
	TenantID  string         `json:"tenant_id"`
	ReadAt    string         `json:"read_at"`
	Event     event.Envelope `json:"event"`
}

// dial opens the socket as a browser does, with the token among the subprotocols.
func (w *world) dial(token, query string, header http.Header) (*websocket.Conn, *http.Response, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	options := &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{api.SocketProtocol}}
	if token != "" {
		options.Subprotocols = append(options.Subprotocols, "gpuaas.bearer."+token)
	}
	socket, response, err := websocket.Dial(ctx, strings.Replace(w.base, "http", "ws", 1)+api.SocketPath+query, options)
	if err == nil {
		w.t.Cleanup(func() { _ = socket.CloseNow() })
	}
	return socket, response, err
}

func (w *world) mustDial(token, query string) *websocket.Conn {
	w.t.Helper()
	socket, response, err := w.dial(token, query, nil)
	if err != nil {
		w.t.Fatalf("the socket does not open: %v (%v)", err, response)
	}
	if socket.Subprotocol() != api.SocketProtocol {
		w.t.Errorf("the subprotocol %q was selected", socket.Subprotocol())
	}
	return socket
}

func (w *world) hear(socket *websocket.Conn) notification {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, body, err := socket.Read(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	var message notification
	if err := json.Unmarshal(body, &message); err != nil {
		w.t.Fatal(err)
	}
	return message
}

// hearUntil hears messages up to the first of a type, and answers all of them.
func (w *world) hearUntil(socket *websocket.Conn, kind event.Type) []notification {
	w.t.Helper()
	for heard := []notification{}; ; {
		message := w.hear(socket)
		if heard = append(heard, message); message.EventType == string(kind) {
			return heard
		}
	}
}

func (w *world) listed(token, query string) []notification {
	w.t.Helper()
	answer := w.ask("GET", "/api/v1/notifications"+query, token, "", "")
	var page struct {
		Items []notification `json:"items"`
	}
	if err := json.Unmarshal(answer.body, &page); err != nil || answer.status != 200 {
		w.t.Fatalf("%d %s (%v)", answer.status, answer.body, err)
	}
	return page.Items
}

func only(all []notification, wanted func(notification) bool) (kept []notification) {
	for _, one := range all {
		if wanted(one) {
			kept = append(kept, one)
		}
	}
	return kept
}

func types(all []notification) (names []string) {
	for _, one := range all {
		names = append(names, one.EventType)
	}
	return names
}

func TestPeopleAreToldWhatConcernsThemOnceAndInOrder(t *testing.T) {
	w := newWorld(t, 2)
	w.needBus()
	olga, vera, eve := w.token("olga"), w.token("vera"), w.token("eve")
	for _, token := range []string{olga, vera, eve} {
		w.want(w.ask("GET", "/api/v1/me", token, "", ""), 200, "")
	}
	tenantID := w.field(`SELECT tenant_id FROM users WHERE username = 'olga'`)
	w.exec(`INSERT INTO tenant_members (tenant_id, user_id, role, source) SELECT $1, id, 'viewer', 'operator' FROM users WHERE username = 'vera'`, tenantID)

	hers, viewers, strangers := w.mustDial(olga, ""), w.mustDial(vera, ""), w.mustDial(eve, "")
	made := w.ask("POST", "/api/v1/allocations", olga, "told", `{"sku":"h100-8x"}`)
	if made.status != 201 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	heard := w.hearUntil(hers, event.ProvisioningActive)
	if got := types(heard); !slices.Contains(got, string(event.ProvisioningRequested)) {
		t.Errorf("the owner heard %v", got)
	}
	if got := types(w.hearUntil(viewers, event.ProvisioningActive)); slices.ContainsFunc(got, func(kind string) bool { return !strings.HasPrefix(kind, "provisioning.") }) {
		t.Errorf("a viewer heard %v", got)
	}

	// Whoever was away resumes behind the last event they heard, over the list and over the socket, with the same result.
	last := heard[len(heard)-1].EventID
	released := w.ask("POST", "/api/v1/allocations/"+made.text("id")+"/release", olga, "end", "")
	if released.status != 202 {
		t.Fatalf("%d %s", released.status, released.body)
	}
	live := w.hearUntil(hers, event.ProvisioningReleasingCompleted)
	resumed := w.hearUntil(w.mustDial(olga, "?after="+last), event.ProvisioningReleasingCompleted)
	missed := w.listed(olga, "?after="+last)
	if got := types(missed); !slices.Equal(types(live), got) || !slices.Equal(types(resumed), got) || len(got) < 2 {
		t.Errorf("live %v, resumed %v, listed %v", types(live), types(resumed), got)
	}
	newest := w.listed(olga, "?limit=1")
	if len(newest) != 1 || newest[0].EventID != missed[len(missed)-1].EventID || newest[0].Event.EventID != newest[0].EventID {
		t.Errorf("the newest is %+v", newest)
	}
	w.want(w.ask("GET", "/api/v1/notifications?after=0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10", olga, "", ""), 404, "notification_not_found")
	w.want(w.ask("GET", "/api/v1/notifications?after="+last, eve, "", ""), 404, "notification_not_found")
	if got := w.listed(eve, ""); slices.ContainsFunc(got, func(one notification) bool { return strings.HasPrefix(one.EventType, "provisioning.") }) {
		t.Errorf("a stranger is told %v", types(got))
	}

	// What is read is read for whoever read it.
	w.want(w.ask("POST", "/api/v1/notifications/read", olga, "read", `{"event_ids":["`+last+`"]}`), 204, "")
	w.want(w.ask("POST", "/api/v1/notifications/read", eve, "", `{"event_ids":["`+last+`"]}`), 204, "")
	if n := w.field(`SELECT count(*)::text FROM notification_reads`); n != "1" {
		t.Errorf("%s notifications are read", n)
	}
	unread := func(token string) bool {
		return slices.ContainsFunc(w.listed(token, "?unread=true"), func(one notification) bool { return one.EventID == last })
	}
	if unread(olga) || !unread(vera) {
		t.Error("what one person has read is read for another, or not for them")
	}

	// Nobody is told more once they may not: the suspended are cut off, with the code of the refusal.
	w.exec(`UPDATE users SET status = 'suspended', status_at = now() WHERE username = 'vera'`)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, _, err := viewers.Read(ctx)
		cancel()
		if err == nil {
			continue // sent before
		}
		if websocket.CloseStatus(err) != 4403 || !strings.Contains(err.Error(), "user_suspended") {
			t.Errorf("a suspended person's connection ends with %v", err)
		}
		break
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for {
		_, body, err := strangers.Read(ctx)
		if err != nil {
			break
		}
		if strings.Contains(string(body), made.text("id")) {
			t.Errorf("a stranger heard %s", body)
		}
	}
}

// What does not fit in the platform's books is told of to those who operate it, at once and when they ask, and to nobody of a tenant.
func TestOperatorsAreToldWhatDoesNotFit(t *testing.T) {
	c := newCompared(t, 2)
	c.needBus()
	c.exec(`UPDATE nodes SET enrolled_at = now() - interval '1 hour'`) // long enough to miss their workflows
	root, olga := c.root, c.token("olga")
	c.want(c.ask("GET", "/api/v1/me", olga, "", ""), 200, "")
	narrow := c.ask("POST", "/api/v1/tokens", root, "", `{"name":"narrow","scopes":["profile:read","billing:read","allocations:read"]}`)
	operators, others := c.mustDial(root, ""), c.mustDial(olga, "")
	begun := c.ask("POST", reconciliations+"runs", root, "run", `{"whole":true}`)
	if begun.status != 201 || narrow.status != 201 {
		t.Fatalf("%d %s, %d %s", begun.status, begun.body, narrow.status, narrow.body)
	}
	first := c.hearUntil(operators, event.BillingReconciliationFinding)
	second := c.hearUntil(operators, event.BillingReconciliationFinding)
	told := []notification{first[len(first)-1], second[len(second)-1]}
	var payload struct{ Kind, Message string }
	if err := json.Unmarshal(told[0].Event.Payload, &payload); err != nil || payload.Kind != "node_without_workflow" || payload.Message == "" || told[0].TenantID != "" {
		t.Errorf("an operator is told %+v (%v)", told[0], err)
	}
	if got := c.listed(root, "?after="+told[0].EventID); len(got) == 0 || got[0].EventID != told[1].EventID {
		t.Errorf("behind the first finding an operator is told %v", types(got))
	}
	c.want(c.ask("POST", "/api/v1/notifications/read", root, "read", `{"event_ids":["`+told[0].EventID+`"]}`), 204, "")
	c.want(c.ask("POST", "/api/v1/notifications/read", olga, "read", `{"event_ids":["`+told[1].EventID+`"]}`), 204, "")
	finding := func(one notification) bool { return one.EventType == string(event.BillingReconciliationFinding) }
	if unread := only(c.listed(root, "?unread=true"), finding); len(unread) != 1 || unread[0].EventID != told[1].EventID {
		t.Errorf("unread are %+v", unread)
	}
	if n := c.field(`SELECT count(*)::text FROM notification_reads`); n != "1" {
		t.Errorf("%s notifications are read", n)
	}

	// Neither somebody else nor an operator's token that is not for the platform.
	for who, token := range map[string]string{"a tenant's owner": olga, "a token without platform:read": narrow.text("token")} {
		if got := c.listed(token, ""); slices.ContainsFunc(got, finding) {
			t.Errorf("%s is told %v", who, types(got))
		}
		c.want(c.ask("GET", "/api/v1/notifications?after="+told[0].EventID, token, "", ""), 404, "notification_not_found")
	}
	credited := c.ask("POST", "/api/v1/admin/accounts/"+c.field(`SELECT a.id FROM accounts AS a JOIN users AS u USING (tenant_id) WHERE u.username = 'olga'`)+"/adjustments", root, "after",
		`{"amount_minor":7,"currency":"usd","reason":"behind the findings"}`)
	if credited.status != 201 {
		t.Fatalf("%d %s", credited.status, credited.body)
	}
	for heard := c.hear(others); !strings.Contains(string(heard.Event.Payload), `"amount_micros":70000,`); heard = c.hear(others) {
		if finding(heard) {
			t.Errorf("somebody of a tenant heard %+v", heard)
		}
	}
}

// hearing answers a log on which a message can be waited for.
func hearing(message string) (*slog.Logger, <-chan struct{}) {
	heard := make(chan struct{}, 1)
	//nolint:sloglint // it listens, and discards what it heard
	return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: func(_ []string, attribute slog.Attr) slog.Attr {
		if attribute.Key == slog.MessageKey && attribute.Value.String() == message {
			select {
			case heard <- struct{}{}:
			default:
			}
		}
		return attribute
	}})), heard
}

// Who does not read loses the connection and no event: everybody else hears all of them meanwhile, and behind the last one that arrived
// the rest is told, in order.
func TestASlowReaderLosesItsConnectionAndNoEvent(t *testing.T) {
	w := newWorld(t, 0)
	w.needBus()
	log, tooSlow := hearing(api.SlowReader)
	w.base = w.replica(log)
	olga := w.token("olga")
	w.want(w.ask("GET", "/api/v1/me", olga, "", ""), 200, "")
	tenantID := w.field(`SELECT tenant_id FROM users WHERE username = 'olga'`)
	slow, fast := w.mustDial(olga, ""), w.mustDial(olga, "")
	// More than any buffer between the two holds.
	const events = 1500
	w.exec(`INSERT INTO notifications (tenant_id, event_id, event_type, audience, event)
		SELECT $1, id, 'provisioning.active', 'members', jsonb_build_object('event_id', id, 'payload', jsonb_build_object('pad', repeat('x', 20000)))
		FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $2::integer)) AS made`, tenantID, events)
	ours := func(heard []string, socket *websocket.Conn) []string {
		socket.SetReadLimit(-1)
		for len(heard) < events {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, body, err := socket.Read(ctx)
			cancel()
			if err != nil {
				return heard
			}
			var message notification
			if err := json.Unmarshal(body, &message); err != nil {
				t.Fatal(err)
			}
			if message.EventType == string(event.ProvisioningActive) { // the opening credit is told of, too
				heard = append(heard, message.EventID)
			}
		}
		return heard
	}
	all := ours(nil, fast)
	if len(all) != events {
		t.Fatalf("somebody who reads heard %d of %d events beside somebody who does not", len(all), events)
	}
	select {
	case <-tooSlow:
	case <-time.After(time.Minute):
		t.Fatal("somebody who reads nothing keeps the connection")
	}
	heard := ours(nil, slow)
	if len(heard) == 0 || len(heard) == events {
		t.Fatalf("the slow one got %d of %d events before the connection ended", len(heard), events)
	}
	if heard = ours(heard, w.mustDial(olga, "?after="+heard[len(heard)-1])); !slices.Equal(heard, all) {
		t.Errorf("%d events were heard in two parts, not the same %d in their order", len(heard), len(all))
	}
}

func TestARefusedHandshakeIsAnsweredInTheEnvelope(t *testing.T) {
	w := newWorld(t, 0)
	olga := w.token("olga")
	w.want(w.ask("GET", "/api/v1/me", olga, "", ""), 200, "")
	for name, test := range map[string]struct {
		token, query string
		header       http.Header
		status       int
		code         string
	}{
		"no credential":        {"", "", nil, 401, "token_missing"},
		"a guessed token":      {"guess", "", nil, 401, "token_invalid"},
		"an expired token":     {w.tokenUntil("olga", "gpuaas-api", time.Now().Add(-time.Minute)), "", nil, 401, "token_expired"},
		"an unknown event":     {olga, "?after=0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10", nil, 404, "notification_not_found"},
		"no event":             {olga, "?after=yesterday", nil, 422, "validation_error"},
		"another site's page":  {"", "", http.Header{"Origin": {"https://evil.example"}, "Cookie": {"gpuaas_session=guess"}}, 403, "csrf_token_invalid"},
		"a token in the query": {"", "?token=" + olga, nil, 401, "token_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			socket, response, err := w.dial(test.token, test.query, test.header)
			if err == nil {
				_ = socket.CloseNow()
				t.Fatal("it opens")
			}
			var body struct {
				Code          string `json:"code"`
				CorrelationID string `json:"correlation_id"`
			}
			if response == nil || json.NewDecoder(response.Body).Decode(&body) != nil {
				t.Fatalf("it is answered %v (%v)", response, err)
			}
			if response.StatusCode != test.status || body.Code != test.code || body.CorrelationID == "" {
				t.Errorf("answered %d %+v", response.StatusCode, body)
			}
		})
	}
	plain, err := http.Get(w.base + api.SocketPath)
	if err != nil {
		t.Fatal(err)
	}
	_ = plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("a request that opens no socket is answered %d", plain.StatusCode)
	}
}
