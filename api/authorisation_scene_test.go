//go:build integration

package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// scene is a tenant with a member of every role, a stranger, an operator, and objects to ask about. The tenant is olga's; the
// object of a request belongs to mia, who is the caller "user".
type scene struct {
	*world
	asked       int
	told        int // events that bear the correlation id of what was allowed
	tenant      string
	project     string
	account     string
	credentials map[string]string
	// names are the user names of callers who are people.
	names      map[string]string
	allocation string
	made       int
}

func newScene(t *testing.T) *scene {
	t.Helper()
	// No window ends while the rows are compared, and the books are compared by nobody but whoever asks for it.
	s := &scene{credentials: map[string]string{}, world: newWorldWhere(t, 400, map[string]string{
		"billing.opening_credit_minor": "100000", "billing.window_seconds": "3600", "webhooks.maximum_endpoints": "1000", "reconciliation.interval_seconds": "86400",
	})}
	s.pauseReconciliation()
	s.names = map[string]string{"owner": "olga", "user": "mia", "member": "max", "viewer": "vera", "billing": "bill",
		"admin": "adam", "other_tenant": "eve", "suspended": "sam", "platform_admin": "root"}
	for caller, name := range s.names {
		if caller == "platform_admin" {
			continue
		}
		s.credentials[caller] = s.token(name)
		s.ask("GET", "/api/v1/me", s.credentials[caller], "", "")
	}
	for name, role := range map[string]string{"mia": "member", "max": "member", "vera": "viewer", "bill": "billing", "adam": "admin", "sam": "admin"} {
		s.join(name, "olga", role)
	}
	s.exec(`UPDATE users SET status = 'suspended' WHERE username = 'sam'`)
	s.credentials["platform_admin"] = s.token("root", "admin")
	s.ask("GET", "/api/v1/me", s.credentials["platform_admin"], "", "")
	s.credentials["expired"] = s.tokenUntil("mia", "gpuaas-api", time.Now().Add(-time.Hour))
	s.credentials["wrong_audience"] = s.tokenUntil("mia", "somebody-else", time.Now().Add(time.Hour))
	s.tenant = s.field(`SELECT tenant_id FROM users WHERE username = 'olga'`)
	s.project = s.field(`SELECT id FROM projects WHERE tenant_id = $1 AND is_default`, s.tenant)
	s.account = s.field(`SELECT id FROM accounts WHERE tenant_id = $1`, s.tenant)
	s.allocation = s.launch()
	s.serve()
	return s
}

func (s *scene) credential(caller string) string { return s.credentials[caller] }

// launch makes an allocation of mia's in the tenant and waits until it is active.
func (s *scene) launch() string {
	s.t.Helper()
	s.made++
	made := s.ask("POST", "/api/v1/allocations", s.credentials["user"], fmt.Sprintf("scene-%d", s.made), `{"sku":"h100-8x","project_id":"`+s.project+`"}`)
	if made.status != 201 {
		s.t.Fatalf("the scene's allocation is answered %d %s", made.status, made.body)
	}
	waited := s.ask("GET", made.header.Get("Location")+"/wait?state=active&timeout_seconds=60", s.credentials["user"], "", "")
	if !strings.Contains(string(waited.body), `"reached":true`) {
		s.t.Fatalf("the scene's allocation does not become active: %s", waited.body)
	}
	return made.text("id")
}

// enlist makes a node that nobody uses.
func (s *scene) enlist() string {
	s.t.Helper()
	s.made++
	nodeID := randomID[id.Node]()
	if _, err := queries.InsertNode(s.t.Context(), s.App, nodeID, "a100-8x", fmt.Sprintf("spare-%03d", s.made)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := queries.TransitionNode(s.t.Context(), s.App, nodeID, 1, node.Online, node.Open, ""); err != nil {
		s.t.Fatal(err)
	}
	return string(nodeID)
}

// pauseReconciliation pauses the schedule that compares the books: its hour, or midnight, may come while the rows are compared.
func (s *scene) pauseReconciliation() {
	s.t.Helper()
	cluster, err := temporal.Dial(s.t.Context(), s.cluster, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cluster.Close()
	temporaltest.Eventually(s.t, time.Minute, func() error {
		return cluster.ScheduleClient().GetHandle(s.t.Context(), workflows.ReconciliationScheduleID).Pause(s.t.Context(), client.SchedulePauseOptions{Note: "the matrix compares rows"})
	})
}

func (s *scene) send(method, path, token, key string, about subject) reply {
	s.t.Helper()
	base := s.base
	if about.at != "" {
		base = about.at
	}
	request, err := http.NewRequestWithContext(context.Background(), method, base+path, bytes.NewReader([]byte(about.body)))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range about.header {
		request.Header.Set(name, value)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if method != http.MethodGet {
		request.Header.Set("X-Idempotency-Key", key)
	}
	switch {
	case about.form:
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case about.body != "":
		request.Header.Set("Content-Type", "application/json")
	}
	direct := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := direct.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, text}
}

// restless are tables that change by themselves: upkeep, and what the relays write of events that happened before. Of the outbox too: who
// follows a change, as Funds does, writes an event of it when no answer waits any more; a request's own events bear its correlation id and are
// looked for by it.
var restless = map[string]bool{
	"outbox": true,
	"seals":  true, "ledger_checkpoints": true, "ledger_blocks": true, "node_heartbeats": true, "schema_migrations": true,
	"outbox_relay": true, "inbox": true, "inbox_failures": true, "notifications": true,
}

// underWay counts what a success leaves to be done behind its answer.
var underWay = map[string]string{
	"allocations": `SELECT count(*)::text FROM allocations WHERE state IN ('requested', 'provisioning', 'releasing')`,
	// Whoever creates a user does not wait for the credit.
	"opening credits": `SELECT count(*)::text FROM opening_credits AS claimed JOIN accounts ON accounts.id = claimed.account_id JOIN tenants ON tenants.id = accounts.tenant_id
		WHERE tenants.status <> 'closed' AND NOT EXISTS (SELECT FROM ledger_entries WHERE kind = 'opening_credit' AND credit_account_id = claimed.account_id)`,
	"cards":              `SELECT count(*)::text FROM cards WHERE state = 'leaving'`,
	"reconciliations":    `SELECT count(*)::text FROM reconciliation_runs WHERE state = 'running'`,
	"refunds":            `SELECT count(*)::text FROM refunds WHERE state = 'pending'`,
	"webhooks":           `SELECT count(*)::text FROM webhook_deliveries WHERE state = 'pending'`,
	"events of Stripe's": `SELECT count(*)::text FROM stripe_events WHERE event_id NOT IN (SELECT event_id FROM stripe_event_outcomes)`,
}

// fingerprints is what stands in every table, refusals and views of the audit log aside, once nothing moves any more.
func (s *scene) fingerprints() map[string]string {
	s.t.Helper()
	var seen map[string]string
	temporaltest.Eventually(s.t, time.Minute, func() error {
		for what, count := range underWay {
			if moving := s.field(count); moving != "0" {
				return fmt.Errorf("%s %s are on their way", moving, what)
			}
		}
		before := seen
		if seen = s.tables(); !maps.Equal(before, seen) {
			return errors.New("the rows still change")
		}
		return nil
	})
	return seen
}

// tables is one reading of every table.
func (s *scene) tables() map[string]string {
	s.t.Helper()
	rows, err := s.Owner.Query(s.t.Context(), `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'outbox\_%'`)
	if err != nil {
		s.t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			s.t.Fatal(err)
		}
		if !restless[table] {
			tables = append(tables, table)
		}
	}
	parts := make([]string, len(tables))
	for i, table := range tables {
		source := table
		if table == "audit_logs" {
			source = "(SELECT * FROM audit_logs WHERE result = 'success' AND action <> 'operator.view')"
		}
		parts[i] = fmt.Sprintf(`SELECT '%s', coalesce(md5(string_agg(line, '|' ORDER BY line)), '') FROM (SELECT (to_jsonb(t) - 'last_used_at')::text AS line FROM %s AS t) AS lines`, table, source)
	}
	found := map[string]string{}
	prints, err := s.Owner.Query(s.t.Context(), strings.Join(parts, " UNION ALL "))
	if err != nil {
		s.t.Fatal(err)
	}
	for prints.Next() {
		var table, print string
		if err := prints.Scan(&table, &print); err != nil {
			s.t.Fatal(err)
		}
		found[table] = print
	}
	if prints.Err() != nil || len(found) < 15 {
		s.t.Fatalf("%d tables were looked at: %v", len(found), prints.Err())
	}
	return found
}
