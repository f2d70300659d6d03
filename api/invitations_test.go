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

// What an admin of a project offered is worth no more than they are: whoever was removed, or made less, lets nobody in, and least of all
// themselves.
func TestWhatAnAdminOfAProjectOfferedEndsWithTheirRole(t *testing.T) {
	for name, end := range map[string]func(w *world, members string){
		"removed": func(w *world, members string) {
			if gone := w.ask("DELETE", members+w.userID("pia"), w.token("alice"), "", ""); gone.status != 204 {
				w.t.Fatalf("removing answers %d %s", gone.status, gone.body)
			}
		},
		"made less": func(w *world, members string) {
			if less := w.ask("PUT", members+w.userID("pia"), w.token("alice"), "", `{"role":"viewer"}`); less.status != 200 {
				w.t.Fatalf("a lesser role answers %d %s", less.status, less.body)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			for _, person := range []string{"alice", "pia", "eve"} {
				w.ask("GET", "/api/v1/me", w.token(person), "", "")
			}
			red := w.ask("POST", "/api/v1/projects", w.token("alice"), "", `{"name":"red"}`).text("id")
			w.exec(`INSERT INTO project_members (tenant_id, project_id, user_id, role) VALUES ($1, $2, $3, 'admin')`, w.tenantOf("alice"), red, w.userID("pia"))
			w.eventually("pia sees red", 200, func() reply { return w.ask("GET", "/api/v1/projects/"+red, w.token("pia"), "", "") })
			offer := fmt.Sprintf(`{"project_id":%q,"role":"admin"}`, red)
			own, others := w.ask("POST", "/api/v1/invitations", w.token("pia"), "", offer), w.ask("POST", "/api/v1/invitations", w.token("alice"), "", offer)
			if own.status != 201 || others.status != 201 {
				t.Fatalf("offering answers %d %s and %d %s", own.status, own.body, others.status, others.body)
			}
			end(w, "/api/v1/projects/"+red+"/members/")
			w.unchanged(func() {
				for _, person := range []string{"pia", "eve"} {
					w.want(w.ask("POST", "/api/v1/invitations/accept", w.token(person), "", fmt.Sprintf(`{"token":%q}`, own.text("token"))), 409, "invitation_invalid")
				}
			})
			if open := w.field(`SELECT count(*) || '' FROM tenant_invitations WHERE revoked_at IS NULL AND accepted_at IS NULL`); open != "1" {
				t.Errorf("%s invitations are open, not the owner's alone", open)
			}
			if let := w.ask("POST", "/api/v1/invitations/accept", w.token("eve"), "", fmt.Sprintf(`{"token":%q}`, others.text("token"))); let.status != 200 {
				t.Errorf("what the owner offered answers %d %s", let.status, let.body)
			}
		})
	}
}

// An invitation is looked at with its maker as they are when it is accepted: the issuer ends a membership without a word to the tenant.
func TestAnInvitationNeedsItsMakerToBeWhatTheyWere(t *testing.T) {
	w := newWorld(t, 0)
	ann, ben := w.tokenOf("ann", "acme"), w.tokenOf("ben", "acme")
	for _, token := range []string{ann, ben, w.token("eve")} {
		w.ask("GET", "/api/v1/me", token, "", "")
	}
	tenant := w.tenantOf("ann")
	if raised := w.ask("PATCH", "/api/v1/tenants/"+tenant+"/members/"+w.userID("ben"), ann, "", `{"role":"owner"}`); raised.status != 200 {
		t.Fatalf("a role answers %d %s", raised.status, raised.body)
	}
	offers := map[string]string{}
	for _, role := range []string{"member", "owner"} {
		var made reply
		w.eventually("ben offers "+role, 201, func() reply {
			made = w.ask("POST", "/api/v1/invitations", ben, "", fmt.Sprintf(`{"tenant_id":%q,"role":%q}`, tenant, role))
			return made
		})
		offers[role] = made.text("token")
	}
	accept := func(role string) reply {
		return w.ask("POST", "/api/v1/invitations/accept", w.token("eve"), "", fmt.Sprintf(`{"token":%q}`, offers[role]))
	}
	w.ask("GET", "/api/v1/me", w.token("ben"), "", "") // the issuer no longer counts ben among them
	w.want(accept("member"), 409, "invitation_invalid")
	w.ask("GET", "/api/v1/me", ben, "", "")
	w.exec(`UPDATE users SET status = 'suspended' WHERE username = 'ben'`)
	w.want(accept("member"), 409, "invitation_invalid")
	w.exec(`UPDATE users SET status = 'active' WHERE username = 'ben'`)
	w.exec(`UPDATE tenant_members SET role = 'admin' WHERE tenant_id = $1 AND user_id = $2`, tenant, w.userID("ben"))
	w.want(accept("owner"), 409, "invitation_invalid")
	if let := accept("member"); let.status != 200 {
		t.Errorf("what ben may offer again answers %d %s", let.status, let.body)
	}
}
