//go:build integration

package activities_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

func (w *world) closures() *activities.Closures {
	w.t.Helper()
	ledger := activities.NewLedger(w.App, policy.New(w.App), func() time.Time { return w.now }, slog.New(slog.DiscardHandler))
	w.t.Cleanup(ledger.Close)
	return &activities.Closures{Pool: w.App, Ledger: ledger, Now: func() time.Time { return w.now }}
}

func closing(tenant id.Tenant, request string) workflows.ClosureChange {
	return workflows.ClosureChange{
		TenantID: tenant, Actor: identity.Actor{ID: "user_owner", Role: identity.RoleUser}, Reason: "we move on", RequestID: request, CorrelationID: "c",
	}
}

func (w *world) balance(account id.Account) money.Micros {
	w.t.Helper()
	balance, err := queries.Balance(w.t.Context(), w.App, account)
	if err != nil {
		w.t.Fatal(err)
	}
	return balance
}

// Whatever remains, the refund takes the balance to exactly zero, the platform owes it to the micro, and a repeat changes nothing.
func TestAClosingTakesTheBalanceToExactlyZero(t *testing.T) {
	w := newWorld(t, 0)
	c, owed := w.closures(), money.Micros(0)
	source := rand.New(rand.NewPCG(22, 7))
	for i := range 60 {
		who, remains := w.tenant(fmt.Sprintf("p%d", i), 0), money.Micros(0)
		for range source.IntN(4) {
			part := money.Micros(1 + source.Int64N(1<<uint(1+source.IntN(45))))
			if remains > 0 && source.IntN(2) == 0 {
				part = -min(part, remains)
			}
			w.credit(who, part)
			remains += part
		}
		request := fmt.Sprintf("close-%d", i)
		closed, err := c.Close(t.Context(), closing(who.TenantID, request))
		if err != nil || !closed.Closed || closed.RefundMicros != remains || closed.EraseAt.Sub(w.now) != 30*24*time.Hour {
			t.Fatalf("closing with %d answers %+v, %v", remains, closed, err)
		}
		if again, err := c.Close(t.Context(), closing(who.TenantID, request)); err != nil || again != closed {
			t.Fatalf("a repeat answers %+v, %v", again, err)
		}
		owed += remains
		if left := w.balance(who.AccountID); left != 0 {
			t.Fatalf("%d remain of %d", left, remains)
		}
		want := min(remains, 1)
		if rows := w.count(`SELECT count(*) FROM ledger_entries AS entry JOIN refunds_due AS due ON due.entry_id = entry.id
			WHERE entry.kind = 'closing_refund' AND entry.debit_account_id = $1 AND due.tenant_id = $2 AND due.amount_micros = $3 AND entry.amount_micros = $3`,
			who.AccountID, who.TenantID, int64(remains)); rows != int(want) {
			t.Fatalf("%d entries refund %d", rows, remains)
		}
	}
	if due := w.balance("acct_platformrefundsdueusdaaaaa"); due != owed || owed == 0 {
		t.Fatalf("the platform owes %d, not %d", due, owed)
	}
}

func TestWhatKeepsATenantFromBeingClosed(t *testing.T) {
	w := newWorld(t, 1)
	c := w.closures()
	busy, poor, away := w.tenant("busy", 10*runwayOfOne), w.tenant("poor", -1), w.tenant("away", 5)
	_, terms := w.mustAdmit(busy, "k")
	w.exec(`UPDATE tenants SET status = 'suspended' WHERE id = $1`, away.TenantID)
	for name, refused := range map[string]struct {
		tenant id.Tenant
		code   fault.Code
	}{
		"something runs": {busy.TenantID, fault.TenantInUse}, "a debt": {poor.TenantID, fault.BalanceNegative},
		"a suspension": {away.TenantID, fault.TenantStateConflict}, "nobody": {newID[id.Tenant](), fault.TenantNotFound},
	} {
		if _, err := c.Close(t.Context(), closing(refused.tenant, name)); !errors.Is(err, refused.code) {
			t.Errorf("%s: %v, not %s", name, err, refused.code)
		}
	}
	if w.count(`SELECT count(*) FROM tenants WHERE status = 'closed'`)+w.count(`SELECT count(*) FROM refunds_due`) != 0 {
		t.Error("a refusal closed something")
	}
	w.mustStep(terms, 1, "requested", "failed", workflows.Transition{})
	if _, err := c.Close(t.Context(), closing(busy.TenantID, "now")); err != nil {
		t.Errorf("with nothing running: %v", err)
	}
	if reply := w.admit(request(busy, "late")); reply.Admitted || reply.Fault == nil || reply.Fault.Code != string(fault.TenantClosed) {
		t.Errorf("a closed tenant is admitted: %+v", reply)
	}
	adjusted, err := c.Ledger.Adjust(t.Context(), workflows.AdjustmentInput{AdjustmentID: newID[id.Adjustment](), AccountID: busy.AccountID, Currency: "usd",
		AmountMicros: 5, Reason: "late", Actor: identity.Platform(), CorrelationID: "c"})
	if err != nil || adjusted.Fault == nil || adjusted.Fault.Code != string(fault.TenantClosed) || w.balance(busy.AccountID) != 0 {
		t.Errorf("a closed tenant's balance is adjusted: %+v, %v", adjusted, err)
	}
}

// Of an admission and a closing at once exactly one wins, and never both.
func TestAClosingAndAnAdmissionTakeTurns(t *testing.T) {
	const rounds = 30
	w := newWorld(t, rounds, store.MaxConnections(8))
	c, admitted := w.closures(), 0
	for i := range rounds {
		who := w.tenant(fmt.Sprintf("racer%d", i), 10*runwayOfOne)
		var reply workflows.AdmitReply
		var refused error
		var group errgroup.Group
		group.Go(func() (err error) {
			reply, err = w.tools.Admit(t.Context(), request(who, "k"))
			return err
		})
		group.Go(func() error {
			_, refused = c.Close(t.Context(), closing(who.TenantID, fmt.Sprintf("race-%d", i)))
			return nil
		})
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if reply.Admitted {
			admitted++
		}
		if reply.Admitted != errors.Is(refused, fault.TenantInUse) || !reply.Admitted && refused != nil {
			t.Fatalf("admitted %v, and the closing answers %v", reply.Admitted, refused)
		}
	}
	t.Logf("%d admissions came first, %d closings", admitted, rounds-admitted)
}

func TestOnlyWhatIsDueIsErasedAndItStaysErased(t *testing.T) {
	w := newWorld(t, 0)
	c, who := w.closures(), w.tenant("ada", 7)
	closed, err := c.Close(t.Context(), closing(who.TenantID, "1"))
	if err != nil {
		t.Fatal(err)
	}
	if still, err := c.Erase(t.Context(), workflows.EraseTenantIn{TenantID: who.TenantID}); err != nil || still.EraseAt != closed.EraseAt {
		t.Fatalf("before its notice has passed: %+v, %v", still, err)
	}
	if open, err := c.Reopen(t.Context(), closing(who.TenantID, "2")); err != nil || open.Closed {
		t.Fatalf("opened again: %+v, %v", open, err)
	}
	w.now = w.now.Add(40 * 24 * time.Hour)
	if open, err := c.Erase(t.Context(), workflows.EraseTenantIn{TenantID: who.TenantID}); err != nil || open.Closed || w.count(`SELECT count(*) FROM users WHERE username = 'ada'`) != 1 {
		t.Fatalf("an open tenant is erased: %+v, %v", open, err)
	}
	if _, err := c.Close(t.Context(), closing(who.TenantID, "3")); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(40 * 24 * time.Hour)
	for range 2 {
		if done, err := c.Erase(t.Context(), workflows.EraseTenantIn{TenantID: who.TenantID}); err != nil || done.Closed {
			t.Fatalf("erased: %+v, %v", done, err)
		}
	}
	if _, err := c.Reopen(t.Context(), closing(who.TenantID, "4")); !errors.Is(err, fault.TenantStateConflict) {
		t.Errorf("an erased tenant is opened again: %v", err)
	}
	if rows := w.count(`SELECT count(*) FROM audit_logs WHERE action = 'tenant.erase'`); rows != 1 {
		t.Errorf("%d rows tell of one erasure", rows)
	}
}

// After an erasure no text, json, array or bytea anywhere in the database holds what named the person.
func TestNothingNamesWhoWasErased(t *testing.T) {
	w := newWorld(t, 1)
	c, marks := w.closures(), []string{"marker-subject", "marker-mail", "marker-key", "marker-token", "marker-robot", "marker-name", "marker-label", "marker-project", "marker-org", "marker-hook", "marker-address"}
	var who identity.Principal
	err := store.InTx(t.Context(), w.App, func(ctx context.Context, tx pgx.Tx) error {
		made, err := queries.EnsureIdentity(ctx, tx, queries.SignIn{
			Issuer: "https://issuer.test", Subject: "marker-subject", Username: "marker-subject", OrgID: "marker-org", Currency: "usd",
			Email: "marker-address@example.com", EmailVerified: true,
			TenantID: newID[id.Tenant](), UserID: newID[id.User](), ProjectID: newID[id.Project](), AccountID: newID[id.Account](),
		})
		who = identity.Principal{UserID: made.User.ID, TenantID: made.User.TenantID, ProjectID: made.Tenants[0].ProjectID, AccountID: made.Tenants[0].AccountID}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.credit(who, 10*runwayOfOne)
	in := request(who, "k")
	in.Name, in.Labels, in.SSHKeys = "marker-name", map[string]string{"team": "marker-label"}, []string{"ssh-ed25519 marker-key"}
	reply := w.admit(in)
	if !reply.Admitted {
		t.Fatalf("refused: %+v", reply.Fault)
	}
	w.mustStep(*reply.Terms, 1, "requested", "failed", workflows.Transition{})
	robot := newID[id.User]()
	w.exec(`UPDATE projects SET name = 'marker-project' WHERE tenant_id = $1`, who.TenantID)
	w.exec(`INSERT INTO tenant_invitations (id, tenant_id, role, email, note, token_hash, invited_by, expires_at)
		VALUES ($1, $2, 'member', 'marker-mail', 'marker-mail', sha256('x'), $3, now())`, newID[id.Invitation](), who.TenantID, who.UserID)
	w.exec(`INSERT INTO ssh_keys (id, tenant_id, project_id, user_id, name, public_key, fingerprint)
		VALUES ($1, $2, $3, $4, 'marker-key', 'ssh-ed25519 marker-key', 'SHA256:' || repeat('a', 43))`, newID[id.SSHKey](), who.TenantID, who.ProjectID, who.UserID)
	w.exec(`INSERT INTO users (id, tenant_id, issuer, subject, username, kind) VALUES ($1, $2, 'gpuaas', $1, 'marker-robot', 'service')`, robot, who.TenantID)
	w.exec(`INSERT INTO service_accounts (user_id, tenant_id, name, created_by) VALUES ($1, $2, 'marker-robot', $3)`, robot, who.TenantID, who.UserID)
	w.exec(`INSERT INTO credentials (id, kind, user_id, sha256, name, created_by, expires_at)
		VALUES ($1, 'personal', $2, sha256('y'), 'marker-token', $2, now() + interval '1 day')`, newID[id.Credential](), who.UserID)
	w.exec(`INSERT INTO idempotency_records (tenant_id, principal_id, operation, key, request_hash, status, answer, expires_at)
		VALUES ($1, $2, 'x', 'k', sha256('z'), 200, convert_to('{"username":"marker-subject"}', 'UTF8'), now() + interval '1 day')`, who.TenantID, who.UserID)
	hook, delivery := newID[id.Webhook](), newID[id.Delivery]()
	w.exec(`INSERT INTO webhook_endpoints (id, tenant_id, url, secret, secret_sha256, created_by) VALUES ($1, $2, 'https://marker-hook/', 'x', sha256('x'), $3)`,
		hook, who.TenantID, who.UserID)
	w.exec(`INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, event_id, event_type, body, state) VALUES ($1, $2, $3, gen_random_uuid(), 'x', 'marker-hook', 'pending')`,
		delivery, who.TenantID, hook)
	w.exec(`INSERT INTO webhook_attempts (delivery_id, tenant_id, round, number, outcome, latency_ms, response, started_at) VALUES ($1, $2, 1, 1, 'rejected', 1, 'marker-hook', now())`,
		delivery, who.TenantID)
	w.exec(`INSERT INTO email_messages (id, tenant_id, event_id, kind, user_id, payload, state) VALUES ($1, $2, gen_random_uuid(), 'x', $3, '"marker-address"', 'pending')`,
		newID[id.Mail](), who.TenantID, who.UserID)
	w.exec(`INSERT INTO email_preferences (user_id, category, enabled) VALUES ($1, 'balance', false)`, who.UserID)
	for _, mark := range marks {
		if len(w.holding(mark)) == 0 {
			t.Fatalf("the scene does not hold %s", mark)
		}
	}
	if _, err := c.Close(t.Context(), closing(who.TenantID, "1")); err != nil {
		t.Fatal(err)
	}
	if w.count(`SELECT count(*) FROM credentials WHERE revoked_at IS NULL`)+w.count(`SELECT count(*) FROM service_accounts WHERE disabled_at IS NULL`)+
		w.count(`SELECT count(*) FROM tenant_invitations WHERE revoked_at IS NULL`) != 0 {
		t.Error("something can still act for a closed tenant")
	}
	w.now = w.now.Add(40 * 24 * time.Hour)
	if _, err := c.Erase(t.Context(), workflows.EraseTenantIn{TenantID: who.TenantID}); err != nil {
		t.Fatal(err)
	}
	for _, mark := range marks {
		if places := w.holding(mark); len(places) > 0 {
			t.Errorf("%s is still in %s", mark, strings.Join(places, ", "))
		}
	}
	if w.count(`SELECT count(*) FROM users WHERE id = $1 AND status = 'erased'`, who.UserID) != 1 || w.count(`SELECT count(*) FROM audit_logs WHERE tenant_id = $1`, who.TenantID) == 0 {
		t.Error("the id and what happened must stay")
	}
	if again := w.tenant("marker-subject", 0); again.UserID == who.UserID {
		t.Error("a new sign-in is the erased person")
	}
}

// holding lists the tables in whose rows, written out, a text stands.
func (w *world) holding(mark string) (places []string) {
	w.t.Helper()
	rows, err := w.Owner.Query(w.t.Context(), `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		w.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 20 {
		w.t.Fatalf("%d tables: %v", len(tables), err)
	}
	for _, table := range tables {
		if w.count(`SELECT count(*) FROM `+pgx.Identifier{table}.Sanitize()+` AS line
			WHERE to_jsonb(line)::text LIKE '%' || $1 || '%' OR to_jsonb(line)::text LIKE '%' || encode(convert_to($1, 'UTF8'), 'hex') || '%'`, mark) > 0 {
			places = append(places, table)
		}
	}
	return places
}

// An export has a section for every table that names the tenant, and every section can be read.
func TestAnExportHasEveryTableOfATenant(t *testing.T) {
	w := newWorld(t, 1)
	who := w.tenant("ada", 10*runwayOfOne)
	w.mustAdmit(who, "k")
	sections := map[string]int{}
	for _, section := range queries.TenantSections() {
		all, after := 0, ""
		for {
			rows, err := queries.ExportRows(t.Context(), w.App, section, who.TenantID, "", after, 1)
			if err != nil {
				t.Fatalf("%s: %v", section.Name, err)
			}
			if len(rows) == 0 {
				break
			}
			all, after = all+1, rows[0].Key
		}
		sections[section.Name] = all
	}
	for _, section := range queries.UserSections() {
		if _, err := queries.ExportRows(t.Context(), w.App, section, "", who.UserID, "", 10); err != nil {
			t.Errorf("%s: %v", section.Name, err)
		}
	}
	// How a table is called in an export, or why it is not in it.
	named := map[string]string{"tenants": "tenant", "tenant_members": "members", "tenant_invitations": "invitations", "tenant_policy_values": "policies",
		"sku_prices": "prices", "audit_logs": "audit", "credentials": "tokens", "ledger_settlements": "allocations", "ledger_checkpoints": "ledger_entries",
		"idempotency_records": "", "allocation_arrows": "",
		// What a person has read, and what they are written to about, is theirs, and in their own export.
		"notification_reads": "", "email_preferences": "",
		// A keyed hash of a person, from which nothing can be read; the credit itself is an entry of the ledger.
		"opening_credits": "",
		// What the platform found amiss in its own books, by ids; what it corrected of it are entries of the ledger.
		"reconciliation_findings": "", "reconciliation_corrections": "",
		// What the payment provider calls the tenant, and what became of its messages: kept from everybody, the first one until the erasure.
		"stripe_customers": "", "stripe_event_outcomes": ""}
	rows, err := w.Owner.Query(t.Context(), `SELECT DISTINCT c.table_name FROM information_schema.columns AS c JOIN pg_tables AS t ON t.tablename = c.table_name
		WHERE t.schemaname = 'public' AND c.column_name IN ('tenant_id', 'allocation_id', 'account_id', 'user_id', 'debit_account_id')
		AND c.table_name NOT IN ('node_leases', 'platform_admins')`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 12 {
		t.Fatalf("%d tables: %v", len(tables), err)
	}
	for _, table := range tables {
		name, known := named[table]
		if !known {
			name = table
		}
		if _, exported := sections[name]; !exported && name != "" {
			t.Errorf("no section of the export holds %s", table)
		}
	}
	for section, least := range map[string]int{"tenant": 1, "users": 1, "members": 1, "projects": 1, "accounts": 1, "allocations": 1, "allocation_transitions": 1, "ledger_entries": 1, "audit": 1} {
		if got := sections[section]; got < least {
			t.Errorf("%d rows of %s", got, section)
		}
	}
}
