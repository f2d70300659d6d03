//go:build integration

package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
)

func TestAnInvitationIsGoodOnceForWhoeverHoldsIt(t *testing.T) {
	w := newWorld(t, 0)
	alice, ben, eve := w.token("alice"), w.token("ben"), w.token("eve")
	for _, token := range []string{alice, ben, eve} {
		w.ask("GET", "/api/v1/me", token, "", "")
	}
	w.join("adam", "alice", "admin")
	w.join("vera", "alice", "viewer")
	tenant := w.tenantOf("alice")
	w.eventually("adam belongs", 200, func() reply { return w.ask("GET", "/api/v1/tenants/"+tenant, w.token("adam"), "", "") })
	w.eventually("vera belongs", 200, func() reply { return w.ask("GET", "/api/v1/tenants/"+tenant, w.token("vera"), "", "") })
	invite := func(token, key, role string) reply {
		return w.ask("POST", "/api/v1/invitations", token, key, fmt.Sprintf(`{"tenant_id":%q,"role":%q,"note":"for Ben"}`, tenant, role))
	}
	accept := func(token, invitation string) reply {
		return w.ask("POST", "/api/v1/invitations/accept", token, "", fmt.Sprintf(`{"token":%q}`, invitation))
	}
	w.unchanged(func() {
		w.want(invite(eve, "", "member"), 404, "tenant_not_found")
		w.want(invite(w.token("vera"), "", "viewer"), 403, "insufficient_permissions")
		w.want(invite(w.token("adam"), "", "owner"), 403, "insufficient_permissions")
		w.want(accept(ben, "gpuaas_inv_nobody-made-this"), 409, "invitation_invalid")
	})
	made := invite(alice, "k1", "member")
	if again := invite(alice, "k1", "member"); made.status != 201 || made.text("token") == "" || again.text("token") != made.text("token") || again.header.Get("Idempotency-Replayed") != "true" {
		t.Fatalf("an invitation is made with %d %s, again %d %s", made.status, made.body, again.status, again.body)
	}
	w.want(invite(alice, "k1", "admin"), 409, "idempotency_conflict")
	if stored := w.field(`SELECT (SELECT count(*) FROM tenant_invitations WHERE to_jsonb(tenant_invitations)::text LIKE '%' || $1 || '%')
		+ (SELECT count(*) FROM idempotency_records WHERE answer IS NOT NULL AND encode(answer, 'escape') LIKE '%' || $1 || '%')
		+ (SELECT count(*) FROM audit_logs WHERE details::text LIKE '%' || $1 || '%') || ''`, made.text("token")); stored != "0" {
		t.Errorf("%s rows hold the token", stored)
	}
	listed := w.ask("GET", "/api/v1/invitations?tenant_id="+tenant, alice, "", "")
	if listed.status != 200 || !strings.Contains(string(listed.body), `"open"`) || strings.Contains(string(listed.body), "gpuaas_inv_") {
		t.Errorf("the list is %d %s", listed.status, listed.body)
	}
	w.want(w.ask("GET", "/api/v1/invitations?tenant_id="+tenant, eve, "", ""), 404, "tenant_not_found")

	// Two who hold the token accept at once: one is in.
	answers := make([]reply, 2)
	var racing sync.WaitGroup
	for i, token := range []string{ben, eve} {
		racing.Go(func() { answers[i] = accept(token, made.text("token")) })
	}
	racing.Wait()
	winner, loser := 0, 1
	if answers[1].status == 200 {
		winner, loser = 1, 0
	}
	if answers[winner].status != 200 || answers[loser].text("code") != "invitation_invalid" {
		t.Fatalf("answered %d %s and %d %s", answers[0].status, answers[0].body, answers[1].status, answers[1].body)
	}
	name := []string{"ben", "eve"}[winner]
	if w.roleIn(tenant, name) != "member" {
		t.Errorf("%s is %q", name, w.roleIn(tenant, name))
	}
	w.unchanged(func() {
		if again := accept(w.token(name), made.text("token")); again.status != 200 || again.text("status") != "accepted" {
			t.Errorf("accepting again answers %d %s", again.status, again.body)
		}
		w.want(accept(alice, made.text("token")), 409, "invitation_invalid")
	})
	other := invite(alice, "", "viewer")
	w.want(accept(alice, other.text("token")), 409, "member_already_exists")
	invitation, _ := other.fields()["invitation"].(map[string]any)
	revoke := fmt.Sprintf("/api/v1/invitations/%s/revoke", invitation["id"])
	outsider := []string{"ben", "eve"}[loser]
	w.unchanged(func() {
		w.want(w.ask("POST", revoke, w.token(outsider), "", ""), 404, "invitation_not_found")
		w.want(w.ask("POST", revoke, w.token("vera"), "", ""), 403, "insufficient_permissions")
		w.want(w.ask("POST", "/api/v1/invitations/"+string(randomID[id.Invitation]())+"/revoke", alice, "", ""), 404, "invitation_not_found")
	})
	if revoked := w.ask("POST", revoke, w.token("adam"), "", ""); revoked.status != 200 || revoked.text("status") != "revoked" {
		t.Errorf("revoking answers %d %s", revoked.status, revoked.body)
	}
	w.want(accept(w.token(outsider), other.text("token")), 409, "invitation_invalid")

	// What an admin offered ends with their being one, and everything ends in time.
	adams := invite(w.token("adam"), "", "admin")
	w.ask("PATCH", "/api/v1/tenants/"+tenant+"/members/"+w.userID("adam"), alice, "", `{"role":"viewer"}`)
	w.want(accept(w.token(outsider), adams.text("token")), 409, "invitation_invalid")
	late := invite(alice, "", "viewer")
	w.exec(`UPDATE tenant_invitations SET expires_at = now() - interval '1 second' WHERE accepted_at IS NULL AND revoked_at IS NULL`)
	w.want(accept(w.token(outsider), late.text("token")), 409, "invitation_invalid")
}

func TestAnInvitationIntoOneProjectOpensNothingElse(t *testing.T) {
	w := newWorld(t, 0)
	alice, pia := w.token("alice"), w.token("pia")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", pia, "", "")
	red := w.ask("POST", "/api/v1/projects", alice, "", `{"name":"red"}`)
	body := func(role string) string { return fmt.Sprintf(`{"project_id":%q,"role":%q}`, red.text("id"), role) }
	w.unchanged(func() {
		w.want(w.ask("POST", "/api/v1/invitations", alice, "", body("owner")), 422, "validation_error")
		w.want(w.ask("POST", "/api/v1/invitations", pia, "", body("viewer")), 404, "project_not_found")
	})
	made := w.ask("POST", "/api/v1/invitations", alice, "", body("viewer"))
	accepted := w.ask("POST", "/api/v1/invitations/accept", pia, "", fmt.Sprintf(`{"token":%q}`, made.text("token")))
	if accepted.status != 200 || accepted.text("project_id") != red.text("id") {
		t.Fatalf("accepting answers %d %s", accepted.status, accepted.body)
	}
	w.eventually("pia sees the project", 200, func() reply { return w.ask("GET", "/api/v1/projects/"+red.text("id"), pia, "", "") })
	w.want(w.ask("GET", "/api/v1/tenants/"+w.tenantOf("alice"), pia, "", ""), 403, "insufficient_permissions")
	late := w.ask("POST", "/api/v1/invitations", alice, "", body("member"))
	if archived := w.ask("DELETE", "/api/v1/projects/"+red.text("id"), alice, "", ""); archived.status != 200 {
		t.Fatalf("archiving answers %d %s", archived.status, archived.body)
	}
	w.want(w.ask("POST", "/api/v1/invitations", alice, "", body("member")), 409, "project_archived")
	w.want(w.ask("POST", "/api/v1/invitations/accept", w.token("rob"), "", fmt.Sprintf(`{"token":%q}`, late.text("token"))), 409, "invitation_invalid")
}
