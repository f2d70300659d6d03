//go:build integration

package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
)

const because = `{"reason":"asked by phone"}`

func TestOperatorsFindSuspendAndRestoreUsers(t *testing.T) {
	w := newWorld(t, 0)
	alice, root := w.token("alice"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", root, "", "")
	users := "/api/v1/admin/users"
	of := func(name string) string { return users + "/" + w.userID(name) }
	w.unchanged(func() {
		w.want(w.ask("POST", of("alice")+"/suspend", alice, "", because), 403, "admin_required")
		w.want(w.ask("POST", of("alice")+"/suspend", root, "", `{}`), 422, "validation_error")
		w.want(w.ask("POST", of("alice")+"/approve", root, "", because), 409, "user_state_conflict")
		w.want(w.ask("POST", of("alice")+"/restore", root, "", because), 409, "user_state_conflict")
		w.want(w.ask("POST", of("root")+"/suspend", root, "", because), 409, "last_platform_admin")
		w.want(w.ask("POST", users+"/"+string(randomID[id.User]())+"/suspend", root, "", because), 404, "user_not_found")
		w.want(w.ask("GET", users+"/"+string(randomID[id.User]()), root, "", ""), 404, "user_not_found")
	})
	suspended := w.ask("POST", of("alice")+"/suspend", root, "s1", because)
	again := w.ask("POST", of("alice")+"/suspend", root, "s1", because)
	if suspended.status != 200 || suspended.text("status") != "suspended" || string(again.body) != string(suspended.body) {
		t.Fatalf("suspending answers %d %s, again %s", suspended.status, suspended.body, again.body)
	}
	w.eventually("alice is refused", 403, func() reply { return w.ask("GET", "/api/v1/me", alice, "", "") })
	for _, filter := range []string{"?status=suspended", "?username=alice", "?tenant_id=" + w.tenantOf("alice")} {
		if found := w.ask("GET", users+filter, root, "", ""); !strings.Contains(string(found.body), w.userID("alice")) || strings.Contains(string(found.body), w.userID("root")) {
			t.Errorf("%s finds %d %s", filter, found.status, found.body)
		}
	}
	if back := w.ask("POST", of("alice")+"/restore", root, "", because); back.status != 200 {
		t.Errorf("restoring answers %d %s", back.status, back.body)
	}
	w.eventually("alice is back", 200, func() reply { return w.ask("GET", "/api/v1/me", alice, "", "") })
	told := w.field(`SELECT count(*)::text FROM audit_logs WHERE result = 'success' AND action IN ('user.suspend', 'user.restore') AND target_id = $1
		AND details ->> 'reason' = 'asked by phone' AND tenant_id = $2`, w.userID("alice"), w.tenantOf("alice"))
	if told != "2" {
		t.Errorf("%s rows tell of it", told)
	}
}

func TestWhoIsRegisteredIsFoundByTheirFirstSignIn(t *testing.T) {
	w := newWorld(t, 0)
	root := w.token("root", "admin")
	w.ask("GET", "/api/v1/me", w.token("eve"), "", "")
	register := func(key, subject, username string) reply {
		return w.ask("POST", "/api/v1/admin/users", root, key, fmt.Sprintf(`{"issuer":%q,"subject":%q,"username":%q,"reason":"new"}`, w.issuer, subject, username))
	}
	bySubject, byName := register("k1", "sue", "susan"), register("k2", "", "nora")
	if bySubject.status != 201 || byName.status != 201 || string(register("k2", "", "nora").body) != string(byName.body) {
		t.Fatalf("registering answers %d %s and %d %s", bySubject.status, bySubject.body, byName.status, byName.body)
	}
	w.unchanged(func() {
		w.want(register("", "sue", "another"), 409, "user_already_exists")
		w.want(register("", "", "nora"), 409, "user_already_exists")
		w.want(register("", "x", ""), 422, "validation_error")
		w.want(w.ask("POST", "/api/v1/admin/users", w.token("eve"), "", `{}`), 403, "admin_required")
	})
	for name, made := range map[string]reply{"sue": bySubject, "nora": byName} {
		me := w.ask("GET", "/api/v1/me", w.token(name), "", "")
		user, _ := me.fields()["user"].(map[string]any)
		if me.status != 200 || user["id"] != made.text("id") {
			t.Errorf("%s signs in as %s, registered as %s", name, me.body, made.body)
		}
	}
	if stranger := w.field(`SELECT count(*)::text FROM users WHERE awaited`); stranger != "0" {
		t.Errorf("%s users are still awaited", stranger)
	}
	// Two who come under one awaited name at once: one of them was meant.
	register("", "", "twin")
	var racing sync.WaitGroup
	for range 2 {
		racing.Go(func() { w.ask("GET", "/api/v1/me", w.token("twin"), "", "") })
	}
	racing.Wait()
	if twins := w.field(`SELECT count(*)::text FROM users WHERE username = 'twin'`); twins != "1" {
		t.Errorf("%s users are called twin", twins)
	}
}

// A name that the contract allows is one that the database takes, and what it does not take is refused before it is asked.
func TestLongNamesAndUnkeptTextAreNoTroubleOfOurs(t *testing.T) {
	w := newWorld(t, 0)
	root := w.token("root", "admin")
	long := strings.Repeat("a", 255)
	register := func(username, reason string) reply {
		return w.ask("POST", "/api/v1/admin/users", root, "", fmt.Sprintf(`{"issuer":%q,"username":%q,"reason":%s}`, w.issuer, username, reason))
	}
	if made := register(long, `"long"`); made.status != 201 || made.text("username") != long {
		t.Errorf("registering a name of 255 characters answers %d %s", made.status, made.body)
	}
	if first := w.ask("GET", "/api/v1/me", w.token(strings.Repeat("b", 255)), "", ""); first.status != 200 {
		t.Errorf("the first sign-in under a name of 255 characters answers %d %s", first.status, first.body)
	}
	w.unchanged(func() {
		w.want(register("ada", `"a\u0000b"`), 422, "validation_error")
		w.want(register("ada", `null`), 422, "validation_error")
		w.want(register("ada", "\"\xff\""), 422, "validation_error")
		w.want(w.ask("PUT", "/api/v1/admin/policies/allocation.max_labels", root, "", `{"value":31,"reason":"a\u0000b"}`), 422, "validation_error")
		w.want(w.ask("GET", "/api/v1/admin/users?username=a%00b", root, "", ""), 422, "validation_error")
	})
	// An id with bits left over at its end passes the contract's pattern and is nobody's.
	w.want(w.ask("GET", "/api/v1/service-accounts/user_mfrggzdfmztwq2lknnwg23tpob", root, "", ""), 404, "service_account_not_found")
	w.want(w.ask("DELETE", "/api/v1/ssh-keys/key_mfrggzdfmztwq2lknnwg23tpob", root, "", ""), 404, "ssh_key_not_found")
}

func TestOperatorsMakeAndSuspendTenants(t *testing.T) {
	w := newWorld(t, 0)
	alice, root := w.token("alice"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", alice, "", "")
	tenants := "/api/v1/admin/tenants"
	made := w.ask("POST", tenants, root, "k1", `{"org_id":"acme","name":"Acme","reason":"contract"}`)
	if again := w.ask("POST", tenants, root, "k1", `{"org_id":"acme","name":"Acme","reason":"contract"}`); made.status != 201 || string(again.body) != string(made.body) {
		t.Fatalf("a tenant is made with %d %s, again %s", made.status, made.body, again.body)
	}
	path := tenants + "/" + made.text("id")
	owner := fmt.Sprintf(`{"user_id":%q,"reason":"first"}`, w.userID("alice"))
	w.unchanged(func() {
		w.want(w.ask("POST", tenants, root, "", `{"org_id":"acme","name":"Other","reason":"x"}`), 409, "tenant_already_exists")
		w.want(w.ask("POST", tenants, alice, "", `{"org_id":"b","name":"B","reason":"x"}`), 403, "admin_required")
		w.want(w.ask("POST", path+"/restore", root, "", because), 409, "tenant_state_conflict")
		w.want(w.ask("POST", path+"/owners", root, "", fmt.Sprintf(`{"user_id":%q,"reason":"x"}`, randomID[id.User]())), 404, "user_not_found")
		w.want(w.ask("POST", tenants+"/"+string(randomID[id.Tenant]())+"/owners", root, "", owner), 404, "tenant_not_found")
		w.want(w.ask("GET", tenants+"/"+string(randomID[id.Tenant]()), root, "", ""), 404, "tenant_not_found")
	})
	if appointed := w.ask("POST", path+"/owners", root, "", owner); appointed.status != 200 || appointed.text("role") != "owner" {
		t.Errorf("an owner is answered %d %s", appointed.status, appointed.body)
	}
	w.eventually("alice sees it", 200, func() reply { return w.ask("GET", "/api/v1/tenants/"+made.text("id"), alice, "", "") })
	if ann := w.ask("GET", "/api/v1/me", w.tokenOf("ann", "acme"), "", ""); !strings.Contains(string(ann.body), made.text("id")) || w.roleIn(made.text("id"), "ann") != "member" {
		t.Errorf("ann signs in as %s, %s", ann.body, w.roleIn(made.text("id"), "ann"))
	}
	if suspended := w.ask("POST", path+"/suspend", root, "", because); suspended.status != 200 || suspended.text("status_reason") != "asked by phone" {
		t.Errorf("suspending answers %d %s", suspended.status, suspended.body)
	}
	project := `{"name":"x","tenant_id":"` + made.text("id") + `"}`
	w.eventually("nothing new begins", 403, func() reply { return w.ask("POST", "/api/v1/projects", alice, "", project) })
	w.want(w.ask("POST", path+"/suspend", root, "", because), 409, "tenant_state_conflict")
	if found := w.ask("GET", tenants+"?status=suspended&org_id=acme&name=Acme", root, "", ""); !strings.Contains(string(found.body), made.text("id")) {
		t.Errorf("the search finds %s", found.body)
	}
	if back := w.ask("POST", path+"/restore", root, "", because); back.status != 200 {
		t.Errorf("restoring answers %d %s", back.status, back.body)
	}
	w.eventually("work begins again", 201, func() reply { return w.ask("POST", "/api/v1/projects", alice, "", project) })
}

func TestThePlatformKeepsAnAdmin(t *testing.T) {
	w := newWorld(t, 0)
	root := w.token("root", "admin")
	w.ask("GET", "/api/v1/me", root, "", "")
	for _, name := range []string{"ada", "bob"} {
		w.ask("GET", "/api/v1/me", w.token(name), "", "")
	}
	admins := "/api/v1/admin/platform-admins"
	appoint := func(name string) reply {
		return w.ask("POST", admins, root, "", fmt.Sprintf(`{"user_id":%q,"reason":"joins"}`, w.userID(name)))
	}
	dismiss := func(token, name string) reply {
		return w.ask("POST", admins+"/"+w.userID(name)+"/dismiss", token, "", because)
	}
	w.unchanged(func() {
		w.want(dismiss(root, "ada"), 404, "user_not_found")
		w.want(dismiss(root, "root"), 409, "managed_by_issuer")
		w.want(dismiss(w.token("ada"), "root"), 403, "admin_required")
	})
	for _, name := range []string{"ada", "bob"} {
		if made := appoint(name); made.status != 201 || made.text("source") != "appointed" {
			t.Fatalf("appointing %s answers %d %s", name, made.status, made.body)
		}
	}
	w.eventually("ada operates", 200, func() reply { return w.ask("GET", admins, w.token("ada"), "", "") })
	w.eventually("bob operates", 200, func() reply { return w.ask("GET", admins, w.token("bob"), "", "") })
	// The issuer takes its role back: root signs in without it.
	w.ask("GET", "/api/v1/me", w.token("root"), "", "")
	answers := make([]reply, 2)
	var racing sync.WaitGroup
	racing.Go(func() { answers[0] = dismiss(w.token("ada"), "bob") })
	racing.Go(func() {
		answers[1] = w.ask("POST", "/api/v1/admin/users/"+w.userID("ada")+"/suspend", w.token("bob"), "", because)
	})
	racing.Wait()
	left := w.field(`SELECT count(*)::text FROM platform_admins JOIN users ON users.id = user_id WHERE status = 'active'`)
	if left != "1" {
		t.Errorf("%s active administrators are left; answered %d %s and %d %s", left, answers[0].status, answers[0].body, answers[1].status, answers[1].body)
	}
	if _, err := w.Owner.Exec(t.Context(), `DELETE FROM platform_admins`); err == nil {
		t.Error("the database lets the last administrator go")
	}
}
