//go:build integration

package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// userID is the id of somebody who has signed in.
func (w *world) userID(name string) string {
	w.t.Helper()
	return w.field(`SELECT id FROM users WHERE username = $1`, name)
}

// tenantOf is the tenant that somebody is at home in.
func (w *world) tenantOf(name string) string {
	w.t.Helper()
	return w.field(`SELECT tenant_id FROM users WHERE username = $1`, name)
}

// roleIn is somebody's role in a tenant, empty for none.
func (w *world) roleIn(tenant, name string) string {
	w.t.Helper()
	return w.field(`SELECT coalesce((SELECT role FROM tenant_members JOIN users ON users.id = user_id WHERE tenant_members.tenant_id = $1 AND username = $2), '')`, tenant, name)
}

// unchanged runs requests that must be refused and compares what they must not have added to.
func (w *world) unchanged(refused func()) {
	w.t.Helper()
	before := w.tenancy()
	refused()
	if after := w.tenancy(); fmt.Sprint(after) != fmt.Sprint(before) {
		w.t.Errorf("a refusal changed rows: %v became %v", before, after)
	}
}

// tenancy is the content of the tables of tenancy, as far as refusals could have changed it.
func (w *world) tenancy() map[string]string {
	w.t.Helper()
	contents := map[string]string{}
	for table, order := range map[string]string{"tenants": "id", "users": "id", "projects": "id", "tenant_members": "tenant_id, user_id",
		"project_members": "project_id, user_id", "platform_admins": "user_id", "tenant_invitations": "id"} {
		contents[table] = w.field(`SELECT coalesce(md5(string_agg(to_jsonb(t)::text, '|' ORDER BY ` + order + `)), '') FROM ` + table + ` AS t`)
	}
	contents["audit_logs"] = w.field(`SELECT count(*)::text FROM audit_logs WHERE result = 'success' AND action <> 'operator.view' AND actor_role <> 'system'`)
	return contents
}

// eventually asks until the caches of identities have heard of a change made beside the API.
func (w *world) eventually(what string, status int, ask func() reply) {
	w.t.Helper()
	temporaltest.Eventually(w.t, 5*time.Second, func() error {
		if got := ask(); got.status != status {
			return fmt.Errorf("%s: answered %d %s", what, got.status, got.body)
		}
		return nil
	})
}

func TestMembersComeGoAndChangeTheirRoles(t *testing.T) {
	w := newWorld(t, 0)
	alice, eve := w.token("alice"), w.token("eve")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", eve, "", "")
	for name, role := range map[string]string{"adam": "admin", "mia": "member", "vera": "viewer"} {
		w.join(name, "alice", role)
	}
	tenant := w.tenantOf("alice")
	members := "/api/v1/tenants/" + tenant + "/members"
	of := func(name string) string { return members + "/" + w.userID(name) }
	role := func(role string) string { return `{"role":"` + role + `"}` }
	w.eventually("adam sees the members", 200, func() reply { return w.ask("GET", members, w.token("adam"), "", "") })
	w.eventually("mia sees the members", 200, func() reply { return w.ask("GET", members, w.token("mia"), "", "") })
	w.eventually("vera sees the members", 200, func() reply { return w.ask("GET", members, w.token("vera"), "", "") })

	w.unchanged(func() {
		w.want(w.ask("PATCH", of("mia"), eve, "", role("viewer")), 404, "tenant_not_found")
		w.want(w.ask("DELETE", of("mia"), eve, "", ""), 404, "tenant_not_found")
		w.want(w.ask("GET", members, eve, "", ""), 404, "tenant_not_found")
		w.want(w.ask("PATCH", "/api/v1/tenants/"+tenant, eve, "", `{"name":"mine"}`), 404, "tenant_not_found")
		w.want(w.ask("PATCH", "/api/v1/tenants/"+tenant, w.token("mia"), "", `{"name":"mine"}`), 403, "insufficient_permissions")
		w.want(w.ask("PATCH", of("mia"), w.token("vera"), "", role("viewer")), 403, "insufficient_permissions")
		w.want(w.ask("DELETE", of("mia"), w.token("vera"), "", ""), 403, "insufficient_permissions")
		w.want(w.ask("PATCH", of("mia"), w.token("adam"), "", role("owner")), 403, "insufficient_permissions")
		w.want(w.ask("PATCH", of("alice"), w.token("adam"), "", role("admin")), 403, "insufficient_permissions")
		w.want(w.ask("DELETE", of("alice"), w.token("adam"), "", ""), 403, "insufficient_permissions")
		w.want(w.ask("PATCH", of("alice"), alice, "", role("admin")), 409, "last_owner")
		w.want(w.ask("DELETE", of("alice"), alice, "", ""), 409, "last_owner")
		w.want(w.ask("PATCH", of("mia"), alice, "", role("king")), 422, "validation_error")
		w.want(w.ask("PATCH", of("eve"), alice, "", role("viewer")), 404, "member_not_found")
		w.want(w.ask("DELETE", members+"/"+string(randomID[id.User]()), alice, "", ""), 404, "member_not_found")
		w.want(w.ask("PATCH", "/api/v1/tenants/"+tenant, alice, "", `{"name":"a\u0000b"}`), 422, "validation_error")
	})
	refusals := w.field(`SELECT count(*)::text FROM audit_logs WHERE result = 'refused' AND action = 'updateTenantMember' AND tenant_id = $1`, tenant)
	if refusals == "0" {
		t.Error("no refusal stands in the tenant's audit log")
	}

	changed := w.ask("PATCH", of("mia"), w.token("adam"), "k1", role("viewer"))
	again := w.ask("PATCH", of("mia"), w.token("adam"), "k1", role("viewer"))
	if changed.status != 200 || string(changed.body) != string(again.body) || again.header.Get("Idempotency-Replayed") != "true" || w.roleIn(tenant, "mia") != "viewer" {
		t.Errorf("a role is set with %d %s, then %d %s", changed.status, changed.body, again.status, again.body)
	}
	if n := w.field(`SELECT count(*)::text FROM audit_logs WHERE action = 'member.set_role' AND target_id = $1`, w.userID("mia")); n != "1" {
		t.Errorf("%s audit rows tell of the role", n)
	}
	if renamed := w.ask("PATCH", "/api/v1/tenants/"+tenant, w.token("adam"), "", `{"name":"Alice & Co"}`); renamed.status != 200 || renamed.text("name") != "Alice & Co" {
		t.Errorf("renaming answers %d %s", renamed.status, renamed.body)
	}
	if left := w.ask("DELETE", of("vera"), w.token("vera"), "", ""); left.status != 204 || w.roleIn(tenant, "vera") != "" {
		t.Errorf("leaving answers %d %s", left.status, left.body)
	}
	w.eventually("vera has left", 404, func() reply { return w.ask("GET", members, w.token("vera"), "", "") })
	if out := w.ask("DELETE", of("mia"), w.token("adam"), "k2", ""); out.status != 204 {
		t.Errorf("removing answers %d %s", out.status, out.body)
	}
	if repeat := w.ask("DELETE", of("mia"), w.token("adam"), "k2", ""); repeat.status != 204 {
		t.Errorf("removing again with its key answers %d %s", repeat.status, repeat.body)
	}

	// Two owners who unmake each other at once: one of them stays.
	if two := w.ask("PATCH", of("adam"), alice, "", role("owner")); two.status != 200 {
		t.Fatalf("a second owner is answered %d %s", two.status, two.body)
	}
	answers := make([]reply, 2)
	var racing sync.WaitGroup
	for i, ask := range []struct{ who, whom string }{{"alice", "adam"}, {"adam", "alice"}} {
		path := of(ask.whom)
		racing.Go(func() { answers[i] = w.ask("PATCH", path, w.token(ask.who), "", role("member")) })
	}
	racing.Wait()
	if owners := w.field(`SELECT count(*)::text FROM tenant_members WHERE tenant_id = $1 AND role = 'owner'`, tenant); owners != "1" {
		t.Errorf("%s owners are left; answered %s and %s", owners, answers[0].body, answers[1].body)
	}
}

func TestTheIssuerManagesWhomItCountsAmongAnOrganisation(t *testing.T) {
	w := newWorld(t, 0)
	ann, ben := w.tokenOf("ann", "acme"), w.tokenOf("ben", "acme")
	w.ask("GET", "/api/v1/me", ann, "", "")
	w.ask("GET", "/api/v1/me", ben, "", "")
	tenant := w.tenantOf("ann")
	bens := "/api/v1/tenants/" + tenant + "/members/" + w.userID("ben")
	w.unchanged(func() {
		w.want(w.ask("DELETE", bens, ann, "", ""), 409, "managed_by_issuer")
		w.want(w.ask("DELETE", bens, ben, "", ""), 409, "managed_by_issuer")
	})
	if raised := w.ask("PATCH", bens, ann, "", `{"role":"admin"}`); raised.status != 200 {
		t.Errorf("a role is refused with %d %s", raised.status, raised.body)
	}
	// Without the claim their row is nobody's any more, and can go.
	w.ask("GET", "/api/v1/me", w.token("ben"), "", "")
	if gone := w.ask("DELETE", bens, ann, "", ""); gone.status != 204 {
		t.Errorf("whom the issuer let go is removed with %d %s", gone.status, gone.body)
	}
}

func TestSomebodyListsTheirOwnTenants(t *testing.T) {
	w := newWorld(t, 0)
	w.ask("GET", "/api/v1/me", w.token("alice"), "", "")
	w.join("mia", "alice", "viewer")
	var listed reply
	w.eventually("mia lists her tenants", 200, func() reply {
		listed = w.ask("GET", "/api/v1/tenants", w.token("mia"), "", "")
		return listed
	})
	for _, tenant := range []string{w.tenantOf("mia"), w.tenantOf("alice")} {
		if !strings.Contains(string(listed.body), tenant) {
			t.Errorf("%s is missing in %s", tenant, listed.body)
		}
	}
	if other := w.ask("GET", "/api/v1/tenants", w.token("eve"), "", ""); strings.Contains(string(other.body), w.tenantOf("alice")) {
		t.Errorf("eve sees %s", other.body)
	}
	first := w.ask("GET", "/api/v1/tenants?limit=1", w.token("mia"), "", "")
	next := w.ask("GET", "/api/v1/tenants?limit=1&cursor="+first.text("next_cursor"), w.token("mia"), "", "")
	if first.text("next_cursor") == "" || next.status != 200 || next.text("next_cursor") != "" {
		t.Errorf("two pages are %s and %s", first.body, next.body)
	}
}
