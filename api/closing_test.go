//go:build integration

package api_test

import (
	"encoding/json"
	"testing"
)

// A closed tenant can be read and exported, refuses every change by name, answers a repeat of its closing, and is opened again without its money.
func TestATenantIsClosedAndOpenedAgain(t *testing.T) {
	w := newWorld(t, 1)
	olga, root := w.token("olga"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", olga, "", "")
	w.ask("GET", "/api/v1/me", root, "", "")
	tenant := w.tenantOf("olga")
	path, reason := "/api/v1/tenants/"+tenant, `{"reason":"we move on"}`
	w.want(w.ask("POST", path+"/reopen", olga, "r0", reason), 409, "tenant_state_conflict")
	running := w.activeAllocation(olga)
	w.want(w.ask("POST", path+"/close", olga, "k0", reason), 409, "tenant_in_use")
	w.ask("POST", running+"/release", olga, "", "")
	w.reach(running, olga, "released")
	remains := w.ask("GET", "/api/v1/billing/balance", olga, "", "").fields()["balance_micros"]
	closed := w.ask("POST", path+"/close", olga, "k1", reason)
	if closed.status != 200 || closed.fields()["refund_micros"] != remains {
		t.Fatalf("closing with %v answers %d %s", remains, closed.status, closed.body)
	}
	if again := w.ask("POST", path+"/close", olga, "k1", reason); again.status != 200 || string(again.body) != string(closed.body) {
		t.Errorf("a repeat answers %d %s", again.status, again.body)
	}
	w.want(w.ask("POST", path+"/close", olga, "k2", reason), 409, "tenant_state_conflict")
	w.want(w.ask("PATCH", path, olga, "", `{"name":"other"}`), 403, "tenant_closed")
	w.want(w.ask("POST", "/api/v1/allocations", olga, "k3", create("late")), 403, "tenant_closed")
	if left := w.ask("GET", "/api/v1/billing/balance", olga, "", ""); left.fields()["balance_micros"] != 0.0 {
		t.Errorf("the balance is %s", left.body)
	}
	if due := w.ask("GET", "/api/v1/admin/refunds-due", root, "", ""); due.status != 200 || len(items(due)) != 1 || items(due)[0]["tenant_id"] != tenant {
		t.Errorf("refunds due: %d %s", due.status, due.body)
	}
	rows := w.exported(path+"/export", olga)
	if rows["ledger_entries"] == 0 || rows["allocations"] != 1 || rows["allocation_transitions"] == 0 || rows["refunds_due"] != 1 || rows["audit"] == 0 {
		t.Errorf("the export holds %v", rows)
	}
	if w.field(`SELECT (count(*) > 0)::text FROM audit_logs WHERE tenant_id = $1 AND action = 'tenant.export'`, tenant) != "true" {
		t.Error("nothing tells of the export")
	}
	if open := w.ask("POST", path+"/reopen", olga, "r1", reason); open.status != 200 || open.text("status") != "active" {
		t.Fatalf("opening it again answers %d %s", open.status, open.body)
	}
	if renamed := w.ask("PATCH", path, olga, "", `{"name":"other"}`); renamed.status != 200 {
		t.Errorf("an open tenant is renamed: %d %s", renamed.status, renamed.body)
	}
	if left := w.ask("GET", "/api/v1/billing/balance", olga, "", ""); left.fields()["balance_micros"] != 0.0 {
		t.Errorf("the money came back: %s", left.body)
	}
}

// exported counts an export's rows, ten a page.
func (w *world) exported(path, token string) map[string]int {
	w.t.Helper()
	rows, cursor := map[string]int{}, ""
	for {
		page := w.ask("GET", path+"?limit=10"+cursor, token, "", "")
		var body struct {
			Sections []struct {
				Name string           `json:"name"`
				Rows []map[string]any `json:"rows"`
			} `json:"sections"`
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(page.body, &body); err != nil || page.status != 200 {
			w.t.Fatalf("an export answers %d %s", page.status, page.body)
		}
		for _, section := range body.Sections {
			rows[section.Name] += len(section.Rows)
		}
		if body.NextCursor == "" {
			return rows
		}
		cursor = "&cursor=" + body.NextCursor
	}
}

func items(r reply) (found []map[string]any) {
	var page struct {
		Items []map[string]any `json:"items"`
	}
	_ = json.Unmarshal(r.body, &page)
	return page.Items
}

// The last owner of an open tenant stays; once it is closed they go, with the tenant, and their next sign-in is somebody new.
func TestAPersonDeletesThemselves(t *testing.T) {
	w := newWorld(t, 0)
	ada := w.token("ada")
	w.ask("GET", "/api/v1/me", ada, "", "")
	before, tenant := w.userID("ada"), w.tenantOf("ada")
	if balance := w.ask("GET", "/api/v1/billing/balance", ada, "", ""); balance.fields()["balance_micros"] == float64(0) {
		t.Errorf("a newcomer begins with %s", balance.body)
	}
	if rows := w.exported("/api/v1/me/export", ada); rows["user"] != 1 || rows["memberships"] != 1 {
		t.Errorf("the export holds %v", rows)
	}
	w.want(w.ask("DELETE", "/api/v1/me", ada, "d0", ""), 409, "last_owner")
	if closed := w.ask("POST", "/api/v1/tenants/"+tenant+"/close", ada, "c", `{"reason":"bye"}`); closed.status != 200 {
		t.Fatalf("closing answers %d %s", closed.status, closed.body)
	}
	if gone := w.ask("DELETE", "/api/v1/me", ada, "d1", ""); gone.status != 204 {
		t.Fatalf("deleting answers %d %s", gone.status, gone.body)
	}
	if w.field(`SELECT (SELECT status FROM users WHERE id = $1) || (SELECT name FROM tenants WHERE id = $2)`, before, tenant) != "erasederased" {
		t.Error("something of them is left")
	}
	me := w.ask("GET", "/api/v1/me", ada, "", "")
	if user, _ := me.fields()["user"].(map[string]any); me.status != 200 || user["id"] == before {
		t.Errorf("the next sign-in answers %d %s", me.status, me.body)
	}
	// Who had an opening credit gets no other one by leaving and coming back.
	if balance := w.ask("GET", "/api/v1/billing/balance", ada, "", ""); balance.fields()["balance_micros"] != float64(0) {
		t.Errorf("somebody who came back begins with %s", balance.body)
	}
}

// Whoever alone operates the platform stays, also where the issuer's role made them what they are.
func TestTheLastAdministratorDoesNotDeleteThemselves(t *testing.T) {
	w := newWorld(t, 0)
	root := w.token("root", "admin")
	w.ask("GET", "/api/v1/me", root, "", "")
	if closed := w.ask("POST", "/api/v1/tenants/"+w.tenantOf("root")+"/close", root, "c", `{"reason":"bye"}`); closed.status != 200 {
		t.Fatalf("closing answers %d %s", closed.status, closed.body)
	}
	w.unchanged(func() { w.want(w.ask("DELETE", "/api/v1/me", root, "d0", ""), 409, "last_platform_admin") })
	if source := w.field(`SELECT source FROM platform_admins`); source != "issuer" {
		t.Fatalf("the administrator is %s", source)
	}
	w.ask("GET", "/api/v1/me", w.token("rita", "admin"), "", "")
	if gone := w.ask("DELETE", "/api/v1/me", root, "d1", ""); gone.status != 204 {
		t.Fatalf("one of two answers %d %s", gone.status, gone.body)
	}
	if left := w.field(`SELECT string_agg(username, ' ') FROM platform_admins JOIN users ON users.id = user_id`); left != "rita" {
		t.Errorf("%q operate the platform", left)
	}
}
