//go:build integration

package api_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
)

// A request that takes away its own object, or its caller's right to it, is answered the same when it comes again.
func TestARepeatIsAnsweredThoughTheFirstTookAwayItsRight(t *testing.T) {
	w := newWorld(t, 0)
	for _, person := range []string{"alice", "mia", "adam", "dana", "eve"} {
		w.ask("GET", "/api/v1/me", w.token(person), "", "")
	}
	w.join("mia", "alice", "member")
	w.join("adam", "alice", "admin")
	tenant := w.tenantOf("alice")
	members := "/api/v1/tenants/" + tenant + "/members/"
	for _, person := range []string{"mia", "adam"} {
		w.eventually(person+" belongs", 200, func() reply { return w.ask("GET", "/api/v1/tenants/"+tenant, w.token(person), "", "") })
	}
	root := w.token("root", "admin")
	w.ask("GET", "/api/v1/me", root, "", "")
	if made := w.ask("POST", "/api/v1/admin/platform-admins", root, "", fmt.Sprintf(`{"user_id":%q,"reason":"help"}`, w.userID("dana"))); made.status != 201 {
		t.Fatalf("appointing answers %d %s", made.status, made.body)
	}
	w.eventually("dana operates", 200, func() reply { return w.ask("GET", "/api/v1/admin/users", w.token("dana"), "", "") })
	key := w.ask("POST", "/api/v1/ssh-keys", w.token("alice"), "", `{"name":"laptop","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"}`)
	if key.status != 201 {
		t.Fatalf("a key answers %d %s", key.status, key.body)
	}
	for _, test := range []struct {
		name, person, method, path, body, other string
		status                                  int
		// otherwise is what the same request answers with another key.
		otherwise int
	}{
		{"a key that is gone", "alice", "DELETE", "/api/v1/ssh-keys/" + key.text("id"), "", "", 200, 404},
		{"leaving a tenant", "mia", "DELETE", members + w.userID("mia"), "", "", 204, 404},
		{"making oneself less", "adam", "PATCH", members + w.userID("adam"), `{"role":"viewer"}`, `{"role":"member"}`, 200, 403},
		{"dismissing oneself", "dana", "POST", "/api/v1/admin/platform-admins/" + w.userID("dana") + "/dismiss", `{"reason":"enough"}`, `{"reason":"more"}`, 204, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			first := w.ask(test.method, test.path, w.token(test.person), "same", test.body)
			if first.status != test.status {
				t.Fatalf("the first answers %d %s", first.status, first.body)
			}
			w.eventually("the right is gone", test.otherwise, func() reply { return w.ask(test.method, test.path, w.token(test.person), "another", test.body) })
			w.unchanged(func() {
				again := w.ask(test.method, test.path, w.token(test.person), "same", test.body)
				if again.status != first.status || string(again.body) != string(first.body) || again.header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("the second answers %d %s %v, the first %d %s", again.status, again.body, again.header, first.status, first.body)
				}
				if test.other != "" {
					if other := w.ask(test.method, test.path, w.token(test.person), "same", test.other); other.status != test.otherwise {
						t.Errorf("another request with the same key answers %d %s", other.status, other.body)
					}
				}
				if stranger := w.ask(test.method, test.path, w.token("eve"), "same", test.body); stranger.status < 400 {
					t.Errorf("somebody else gets the answer: %d %s", stranger.status, stranger.body)
				}
			})
		})
	}
	w.t = t
	// Who may do nothing hears nothing, not even what they were told.
	w.exec(`UPDATE users SET status = 'suspended' WHERE username = 'mia'`)
	w.eventually("mia is suspended", 403, func() reply { return w.ask("GET", "/api/v1/me", w.token("mia"), "", "") })
	w.want(w.ask("DELETE", members+w.userID("mia"), w.token("mia"), "same", ""), 403, "user_suspended")
}

// Whoever deleted themselves is not made anew by the repeat of that very request; by anything else they do, they are somebody new, whom the
// repeat leaves alone.
func TestDeletingOneselfTwiceMakesNobody(t *testing.T) {
	w := newWorld(t, 0)
	ada := w.token("ada")
	w.ask("GET", "/api/v1/me", ada, "", "")
	if closed := w.ask("POST", "/api/v1/tenants/"+w.tenantOf("ada")+"/close", ada, "c", `{"reason":"bye"}`); closed.status != 200 {
		t.Fatalf("closing answers %d %s", closed.status, closed.body)
	}
	if gone := w.ask("DELETE", "/api/v1/me", ada, "leave", ""); gone.status != 204 || gone.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("deleting answers %d %s", gone.status, gone.body)
	}
	repeat := func() {
		t.Helper()
		w.unchanged(func() {
			if again := w.ask("DELETE", "/api/v1/me", ada, "leave", ""); again.status != 204 || again.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("the repeat answers %d %s %v", again.status, again.body, again.header)
			}
		})
	}
	repeat()
	if people := w.field(`SELECT count(*) || '' FROM users WHERE username = 'ada'`); people != "0" {
		t.Errorf("%s people were made by a repeat", people)
	}
	w.ask("GET", "/api/v1/me", ada, "", "")
	repeat()
	w.want(w.ask("DELETE", "/api/v1/me", ada, "again", ""), 409, "last_owner")
	w.want(w.ask("DELETE", "/api/v1/me", w.token("ben"), "leave", ""), 409, "last_owner")
	w.exec(`UPDATE departures SET expires_at = now() - interval '1 second'`)
	w.want(w.ask("DELETE", "/api/v1/me", ada, "leave", ""), 409, "last_owner")
}

// The query is part of a request: another tenant's card is another card.
func TestAKeyIsForOneQuery(t *testing.T) {
	w := newWorld(t, 0)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", w.token("ben"), "", "")
	w.join("alice", "ben", "owner")
	own, other := w.tenantOf("alice"), w.tenantOf("ben")
	w.eventually("alice belongs", 200, func() reply { return w.ask("GET", "/api/v1/tenants/"+other, alice, "", "") })
	for _, tenant := range []string{own, other} {
		w.exec(`INSERT INTO cards (id, tenant_id, account_id, user_id, state, payment_method_id, brand, last4, correlation_id, saved_at)
			SELECT $1, tenant_id, id, $2, 'saved', 'pm_' || id, 'visa', '4242', 'c', now() FROM accounts WHERE tenant_id = $3`, string(randomID[id.Card]()), w.userID("alice"), tenant)
	}
	first := w.ask("DELETE", "/api/v1/billing/card?tenant_id="+own, alice, "k", "")
	if again := w.ask("DELETE", "/api/v1/billing/card?tenant_id="+own, alice, "k", ""); first.status != 204 || again.status != 204 || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a repeat answers %d %s, the first %d %s", again.status, again.body, first.status, first.body)
	}
	w.want(w.ask("DELETE", "/api/v1/billing/card?tenant_id="+other, alice, "k", ""), 409, "idempotency_conflict")
}

// A key whose answer is kept no longer is free, be its row purged by then or not.
func TestAKeyIsFreeOnceItHasExpired(t *testing.T) {
	w := newWorld(t, 0)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	make := func(name string) reply {
		return w.ask("POST", "/api/v1/projects", alice, "k", fmt.Sprintf(`{"name":%q}`, name))
	}
	first := make("red")
	if again := make("red"); first.status != 201 || string(again.body) != string(first.body) {
		t.Fatalf("a project answers %d %s, again %d %s", first.status, first.body, again.status, again.body)
	}
	w.want(make("blue"), 409, "idempotency_conflict")
	w.exec(`UPDATE idempotency_records SET expires_at = now() - interval '1 second'`)
	fresh := make("blue")
	if fresh.status != 201 || fresh.text("id") == first.text("id") || fresh.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("with an expired key it answers %d %s", fresh.status, fresh.body)
	}
	if again := make("blue"); string(again.body) != string(fresh.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("its repeat answers %d %s", again.status, again.body)
	}
	// One that is worked on is its own until its lock is over.
	w.exec(`UPDATE idempotency_records SET expires_at = now() - interval '1 second', status = NULL, answer = NULL, locked_until = now() + interval '1 minute'`)
	w.want(make("blue"), 409, "idempotency_in_flight")
}

// What a tenant's own people are refused stands in the tenant's own audit log; what strangers try does not.
func TestATenantSeesWhatItsPeopleWereRefused(t *testing.T) {
	w := newWorld(t, 0)
	w.ask("GET", "/api/v1/me", w.token("alice"), "", "")
	w.ask("GET", "/api/v1/me", w.token("eve"), "", "")
	w.join("vera", "alice", "viewer")
	path := "/api/v1/tenants/" + w.tenantOf("alice")
	w.eventually("vera belongs", 200, func() reply { return w.ask("GET", path, w.token("vera"), "", "") })
	w.want(w.ask("PATCH", path, w.token("vera"), "", `{"name":"mine"}`), 403, "insufficient_permissions")
	w.want(w.ask("PATCH", path, w.token("eve"), "", `{"name":"mine"}`), 404, "tenant_not_found")
	seen := w.ask("GET", path+"/audit?result=refused", w.token("alice"), "", "")
	if rows := items(seen); seen.status != 200 || len(rows) != 1 || rows[0]["actor_user_id"] != w.userID("vera") || rows[0]["action"] != "updateTenant" {
		t.Errorf("the tenant sees %d %s", seen.status, seen.body)
	}
}

// Whatever way an operator looks into a tenant, the tenant reads of it; what is the platform's own names no tenant.
func TestEveryLookIntoATenantIsToldToIt(t *testing.T) {
	w := newWorld(t, 0)
	alice, root := w.token("alice"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", root, "", "")
	tenant, project := w.tenantOf("alice"), w.field(`SELECT projects.id FROM projects JOIN users USING (tenant_id) WHERE username = 'alice'`)
	account := w.field(`SELECT accounts.id FROM accounts JOIN users USING (tenant_id) WHERE username = 'alice'`)
	looks := map[string]string{
		"/api/v1/admin/tenants/" + tenant:                                              "adminGetTenant",
		"/api/v1/admin/tenants/" + tenant + "/policies":                                "listTenantPolicies",
		"/api/v1/admin/tenants/" + tenant + "/policies/billing.window_seconds/history": "listTenantPolicyVersions",
		"/api/v1/admin/tenants/" + tenant + "/prices":                                  "listTenantPrices",
		"/api/v1/admin/users/" + w.userID("alice"):                                     "getUser",
		"/api/v1/admin/users?tenant_id=" + tenant:                                      "listUsers",
		"/api/v1/admin/accounts?tenant_id=" + tenant:                                   "listAccounts",
		"/api/v1/admin/accounts/" + account + "/balance":                               "getAccountBalance",
		"/api/v1/admin/audit?tenant_id=" + tenant:                                      "listAudit",
		"/api/v1/admin/allocations?tenant_id=" + tenant:                                "adminListAllocations",
		"/api/v1/admin/allocations?project_id=" + project:                              "adminListAllocations",
	}
	for path, operation := range looks {
		told := func() []map[string]any {
			t.Helper()
			seen := w.ask("GET", "/api/v1/tenants/"+tenant+"/audit?action=operator.view", alice, "", "")
			if seen.status != 200 {
				t.Fatalf("the audit log answers %d %s", seen.status, seen.body)
			}
			return items(seen)
		}
		before := len(told())
		if seen := w.ask("GET", path, root, "", ""); seen.status != 200 {
			t.Errorf("%s answers %d %s", path, seen.status, seen.body)
			continue
		}
		rows := told()
		if len(rows) != before+1 {
			t.Errorf("of %s %d rows tell", path, len(rows)-before)
			continue
		}
		if details, _ := rows[0]["details"].(map[string]any); rows[0]["actor_user_id"] != w.userID("root") || details["operation"] != operation {
			t.Errorf("of %s it says %v", path, rows[0])
		}
	}
	written := func() string { return w.field(`SELECT count(*) || '' FROM audit_logs WHERE action = 'operator.view'`) }
	before := written()
	for _, path := range []string{
		"/api/v1/admin/users", "/api/v1/admin/tenants", "/api/v1/admin/accounts", "/api/v1/admin/audit", "/api/v1/admin/allocations", "/api/v1/admin/payments",
		"/api/v1/admin/disputes", "/api/v1/admin/tenants/" + w.tenantOf("root"), "/api/v1/admin/users/" + w.userID("root"),
	} {
		if seen := w.ask("GET", path, root, "", ""); seen.status != 200 {
			t.Errorf("%s answers %d %s", path, seen.status, seen.body)
		}
	}
	if after := written(); after != before {
		t.Errorf("what names no tenant, or the operator's own, was written down: %s rows were there and %s are", before, after)
	}
}

// What answers with a secret keeps no answer and yet knows its request: the same key with another body is a conflict, also where a field is
// only left out, and also for the second of two at once.
func TestAKeyOfASecretIsForOneBody(t *testing.T) {
	w := newWorld(t, 0)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	account := w.ask("POST", "/api/v1/service-accounts", alice, "", `{"name":"ci","role":"member"}`).text("id")
	for _, test := range []struct{ path, body, other string }{
		{"/api/v1/tokens", `{"name":"t","scopes":["profile:read"],"expires_in_seconds":600}`, `{"name":"t","scopes":["profile:read"]}`},
		{"/api/v1/tokens", `{"name":"u","scopes":["profile:read"]}`, `{"name":"u","scopes":["profile:read"],"expires_in_seconds":600}`},
		{"/api/v1/service-accounts/" + account + "/secrets", `{"overlap_seconds":60}`, `{}`},
		{"/api/v1/invitations", `{"role":"viewer","note":"for Ben"}`, `{"role":"viewer"}`},
	} {
		key := test.path + test.body[:12]
		key = fmt.Sprintf("%x", key)
		first := w.ask("POST", test.path, alice, key, test.body)
		if again := w.ask("POST", test.path, alice, key, test.body); first.status != 201 || string(again.body) != string(first.body) || again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s answers %d %s, again %d %s", test.path, first.status, first.body, again.status, again.body)
		}
		w.want(w.ask("POST", test.path, alice, key, test.other), 409, "idempotency_conflict")
	}
	if held := w.field(`SELECT count(*) || '' FROM idempotency_records WHERE operation IN ('createToken', 'createServiceAccountSecret', 'createInvitation') AND answer IS NOT NULL`); held != "0" {
		t.Errorf("%s answers with a secret are kept", held)
	}

	replies := make([]reply, 8)
	var asked sync.WaitGroup
	for i := range replies {
		asked.Go(func() {
			replies[i] = w.ask("POST", "/api/v1/invitations", alice, "race", fmt.Sprintf(`{"role":"viewer","note":"for %d"}`, i))
		})
	}
	asked.Wait()
	made := 0
	for i, one := range replies {
		switch code := one.text("code"); {
		case one.status == 201:
			made++
		case code != "idempotency_conflict" && code != "idempotency_in_flight":
			t.Errorf("request %d of several at once answers %d %s", i, one.status, one.body)
		}
	}
	if made != 1 {
		t.Errorf("%d of several bodies under one key were answered with an invitation", made)
	}

	// An invitation is accepted by one request; another token under its key is another request.
	w.ask("GET", "/api/v1/me", w.token("ben"), "", "")
	tokens := []string{}
	for range 2 {
		tokens = append(tokens, w.ask("POST", "/api/v1/invitations", alice, "", `{"role":"viewer"}`).text("token"))
	}
	accept := func(token string) reply {
		return w.ask("POST", "/api/v1/invitations/accept", w.token("ben"), "in", fmt.Sprintf(`{"token":%q}`, token))
	}
	first := accept(tokens[0])
	if again := accept(tokens[0]); first.status != 200 || string(again.body) != string(first.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("accepting answers %d %s, again %d %s", first.status, first.body, again.status, again.body)
	}
	w.want(accept(tokens[1]), 409, "idempotency_conflict")
}
