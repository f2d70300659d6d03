//go:build integration

package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// join makes a person who has signed in a member of another's tenant.
func (w *world) join(newcomer, host, role string) {
	w.t.Helper()
	w.ask("GET", "/api/v1/me", w.token(newcomer), "", "")
	w.exec(`INSERT INTO tenant_members (tenant_id, user_id, role, source)
		SELECT host.tenant_id, guest.id, $3, 'operator' FROM users AS host, users AS guest WHERE host.username = $1 AND guest.username = $2
		ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role`, host, newcomer, role)
}

// field reads one text column of one row.
func (w *world) field(sql string, arguments ...any) string {
	w.t.Helper()
	var value string
	if err := w.Owner.QueryRow(w.t.Context(), sql, arguments...).Scan(&value); err != nil {
		w.t.Fatal(err)
	}
	return value
}

func TestAnOrganisationIsOneTenantOfManyUsers(t *testing.T) {
	w := newWorld(t, 1)
	first, second := w.tokenOf("ann", "acme"), w.tokenOf("ben", "acme")
	ann, ben := w.ask("GET", "/api/v1/me", first, "", ""), w.ask("GET", "/api/v1/me", second, "", "")
	tenant, _ := ann.fields()["tenant"].(map[string]any)
	other, _ := ben.fields()["tenant"].(map[string]any)
	if tenant["kind"] != "organisation" || tenant["id"] != other["id"] || tenant["name"] != "acme" {
		t.Fatalf("ann is in %v, ben in %v", tenant, other)
	}
	roles := map[string]string{"ann": "owner", "ben": "member"}
	for name, want := range roles {
		if got := w.field(`SELECT role FROM tenant_members JOIN users ON users.id = user_id WHERE username = $1`, name); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	made := w.ask("POST", "/api/v1/allocations", first, "k1", create("train"))
	if made.status != 201 {
		t.Fatalf("create answers %d %s", made.status, made.body)
	}
	path := made.header.Get("Location")
	if seen := w.ask("GET", path, second, "", ""); seen.status != 200 {
		t.Errorf("a colleague sees %d %s", seen.status, seen.body)
	}
	w.want(w.ask("POST", path+"/release", second, "", ""), 403, "ownership_required")

	// Whoever the issuer no longer counts among them is at home in a tenant of their own, and sees nothing of the organisation's.
	alone := w.token("ben")
	w.want(w.ask("GET", path, alone, "", ""), 404, "allocation_not_found")
	own, _ := w.ask("GET", "/api/v1/me", alone, "", "").fields()["tenant"].(map[string]any)
	if own["kind"] != "personal" || own["id"] == tenant["id"] {
		t.Errorf("without the claim ben is in %v", own)
	}
	if back := w.ask("GET", path, second, "", ""); back.status != 200 {
		t.Errorf("with the claim again ben sees %d %s", back.status, back.body)
	}
}

func TestRolesDecideWhatMembersMay(t *testing.T) {
	w := newWorld(t, 2)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	project := w.field(`SELECT projects.id FROM projects JOIN users USING (tenant_id) WHERE username = 'alice' AND is_default`)
	for name, role := range map[string]string{"vera": "viewer", "bill": "billing", "mia": "member", "adam": "admin"} {
		w.join(name, "alice", role)
	}
	body := `{"sku":"h100-8x","project_id":"` + project + `"}`
	w.want(w.ask("POST", "/api/v1/allocations", w.token("vera"), "k", body), 403, "insufficient_permissions")
	w.want(w.ask("POST", "/api/v1/allocations", w.token("bill"), "k", body), 403, "insufficient_permissions")
	w.want(w.ask("POST", "/api/v1/allocations", w.token("eve"), "k", body), 404, "project_not_found")
	mias := w.ask("POST", "/api/v1/allocations", w.token("mia"), "k", body)
	if mias.status != 201 {
		t.Fatalf("a member is answered %d %s", mias.status, mias.body)
	}
	if account := w.field(`SELECT users.username FROM allocations JOIN accounts ON accounts.id = account_id JOIN users ON users.tenant_id = accounts.tenant_id`); account != "alice" {
		t.Errorf("%s's account pays", account)
	}
	path := mias.header.Get("Location")
	w.want(w.ask("GET", "/api/v1/billing/balance?project_id="+project, w.token("vera"), "", ""), 403, "insufficient_permissions")
	if paid := w.ask("GET", "/api/v1/billing/balance?project_id="+project, w.token("bill"), "", ""); paid.status != 200 {
		t.Errorf("billing is answered %d %s", paid.status, paid.body)
	}
	w.want(w.ask("GET", "/api/v1/billing/balance?project_id="+project, w.token("eve"), "", ""), 404, "project_not_found")
	if listed := w.ask("GET", "/api/v1/allocations?project_id="+project, w.token("vera"), "", ""); !strings.Contains(string(listed.body), mias.text("id")) {
		t.Errorf("a viewer lists %s", listed.body)
	}
	if own := w.ask("GET", "/api/v1/allocations", w.token("vera"), "", ""); strings.Contains(string(own.body), mias.text("id")) {
		t.Errorf("the viewer's own tenant holds %s", own.body)
	}
	w.want(w.ask("POST", path+"/release", w.token("vera"), "", ""), 403, "insufficient_permissions")
	if released := w.ask("POST", path+"/release", w.token("adam"), "", ""); released.status != 202 {
		t.Errorf("an admin of the tenant is answered %d %s", released.status, released.body)
	}
}

func TestASuspensionAndALostRoleCountAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	alice := w.token("alice")
	made := w.ask("POST", "/api/v1/allocations", alice, "k1", create("train"))
	path := made.header.Get("Location")
	w.join("mia", "alice", "member")
	mia := w.token("mia")
	soon := func(what string, token, method, path string, status int, code string) {
		t.Helper()
		temporaltest.Eventually(t, 2*time.Second, func() error {
			if got := w.ask(method, path, token, "", ""); got.status != status || got.text("code") != code {
				return fmt.Errorf("%s: answered %d %s", what, got.status, got.body)
			}
			return nil
		})
	}
	soon("mia sees it", mia, "GET", path, 200, "")
	w.exec(`DELETE FROM tenant_members USING users WHERE users.id = user_id AND username = 'mia' AND tenant_members.tenant_id <> users.tenant_id`)
	soon("mia left", mia, "GET", path, 404, "allocation_not_found")

	w.exec(`UPDATE tenants SET status = 'suspended' WHERE id = (SELECT tenant_id FROM users WHERE username = 'alice')`)
	soon("reading goes on", alice, "GET", path, 200, "")
	temporaltest.Eventually(t, 2*time.Second, func() error {
		if got := w.ask("POST", "/api/v1/allocations", alice, "k2", create("more")); got.text("code") != "tenant_suspended" {
			return fmt.Errorf("create answers %d %s", got.status, got.body)
		}
		return nil
	})
	if released := w.ask("POST", path+"/release", alice, "r1", ""); released.status != 202 {
		t.Errorf("release in a suspended tenant answers %d %s", released.status, released.body)
	}
	w.exec(`UPDATE users SET status = 'suspended' WHERE username = 'alice'`)
	soon("alice is suspended", alice, "GET", path, 403, "user_suspended")
	w.exec(`UPDATE users SET status = 'active' WHERE username = 'alice'`)
	soon("alice is back", alice, "GET", path, 200, "")
}

func TestAnOperatorSeesIntoATenantAndTheTenantSeesThat(t *testing.T) {
	w := newWorld(t, 1)
	absent := string(randomID[id.Node]())
	alice, root := w.token("alice"), w.token("root", "admin")
	made := w.ask("POST", "/api/v1/allocations", alice, "k1", create("train"))
	path := made.header.Get("Location")
	if seen := w.ask("GET", path, root, "", ""); seen.status != 200 {
		t.Fatalf("an operator sees %d %s", seen.status, seen.body)
	}
	views := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'operator.view' AND target_id = $1
		AND tenant_id = (SELECT tenant_id FROM users WHERE username = 'alice') AND actor_user_id = (SELECT id FROM users WHERE username = 'root')`, made.text("id"))
	if views != "1" {
		t.Errorf("the tenant sees %s views", views)
	}
	w.want(w.ask("POST", path+"/release", root, "", ""), 404, "allocation_not_found")
	w.want(w.ask("PUT", "/api/v1/admin/policies/billing.window_seconds", alice, "", `{"value":2,"reason":"x"}`), 403, "admin_required")
	refused := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'setPolicy' AND result = 'refused' AND target_id = 'billing.window_seconds'`)
	if refused != "1" {
		t.Errorf("%s refusals of somebody who is no operator stand in the audit log", refused)
	}
	w.want(w.ask("POST", "/api/v1/admin/nodes/"+absent+"/cordon", root, "", `{"reason":"x"}`), 404, "node_not_found")
	if got := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'cordonNode' AND result = 'refused' AND target_type = 'node' AND target_id = $1`, absent); got != "1" {
		t.Errorf("%s refusals of an operator stand in the audit log", got)
	}
}

func TestSignUpByApprovalWaitsForAnOperator(t *testing.T) {
	w := newWorld(t, 0)
	w.ask("GET", "/api/v1/me", w.token("early"), "", "")
	w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('identity.sign_up', 1, '"approval"', 'platform')`)
	temporaltest.Eventually(t, 10*time.Second, func() error {
		if got := w.field(`SELECT count(*)::text FROM policy_values WHERE key = 'identity.sign_up'`); got != "1" {
			return fmt.Errorf("the policy is not there")
		}
		// Values are at most two seconds old: ask as somebody new each time, until one has to wait.
		late := w.token("late-" + string(randomID[id.Node]()))
		if got := w.ask("GET", "/api/v1/me", late, "", ""); got.text("code") != "approval_pending" {
			return fmt.Errorf("a newcomer is answered %d %s", got.status, got.body)
		}
		return nil
	})
	if got := w.ask("GET", "/api/v1/me", w.token("early"), "", ""); got.status != 200 {
		t.Errorf("somebody from before is answered %d %s", got.status, got.body)
	}
}
