//go:build integration

package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
)

func TestAProjectIsMadeRenamedAndArchived(t *testing.T) {
	w := newWorld(t, 2)
	alice, eve := w.token("alice"), w.token("eve")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", eve, "", "")
	made := w.ask("POST", "/api/v1/projects", alice, "k1", `{"name":"training"}`)
	again := w.ask("POST", "/api/v1/projects", alice, "k1", `{"name":"training"}`)
	if made.status != 201 || string(made.body) != string(again.body) || made.text("tenant_id") != w.tenantOf("alice") {
		t.Fatalf("a project is made with %d %s, again %d %s", made.status, made.body, again.status, again.body)
	}
	path := "/api/v1/projects/" + made.text("id")
	standard := "/api/v1/projects/" + w.field(`SELECT id FROM projects WHERE is_default AND tenant_id = $1`, w.tenantOf("alice"))
	body := fmt.Sprintf(`{"sku":"h100-8x","project_id":%q}`, made.text("id"))
	started := w.ask("POST", "/api/v1/allocations", alice, "a1", body)
	if started.status != 201 {
		t.Fatalf("an allocation in the project answers %d %s", started.status, started.body)
	}
	w.unchanged(func() {
		w.want(w.ask("POST", "/api/v1/projects", alice, "", `{"name":"training"}`), 409, "project_already_exists")
		w.want(w.ask("POST", "/api/v1/projects", alice, "", `{"name":""}`), 422, "validation_error")
		w.want(w.ask("POST", "/api/v1/projects", eve, "", fmt.Sprintf(`{"name":"x","tenant_id":%q}`, w.tenantOf("alice"))), 404, "tenant_not_found")
		w.want(w.ask("PATCH", path, alice, "", `{"name":"default"}`), 409, "project_already_exists")
		w.want(w.ask("PATCH", path, eve, "", `{"name":"mine"}`), 404, "project_not_found")
		w.want(w.ask("GET", path, eve, "", ""), 404, "project_not_found")
		w.want(w.ask("DELETE", path, eve, "", ""), 404, "project_not_found")
		w.want(w.ask("DELETE", "/api/v1/projects/"+string(randomID[id.Project]()), alice, "", ""), 404, "project_not_found")
		w.want(w.ask("DELETE", path, alice, "", ""), 409, "project_in_use")
		w.want(w.ask("DELETE", standard, alice, "", ""), 409, "project_is_default")
	})
	if released := w.ask("POST", started.header.Get("Location")+"/release", alice, "", ""); released.status != 202 {
		t.Fatalf("release answers %d %s", released.status, released.body)
	}
	w.eventually("the project is free", 200, func() reply { return w.ask("DELETE", path, alice, "", "") })
	if twice := w.ask("DELETE", path, alice, "", ""); twice.status != 200 || twice.text("archived_at") == "" {
		t.Errorf("archiving twice answers %d %s", twice.status, twice.body)
	}
	w.want(w.ask("POST", "/api/v1/allocations", alice, "a2", body), 409, "project_archived")
	if listed := w.ask("GET", "/api/v1/projects", alice, "", ""); strings.Contains(string(listed.body), made.text("id")) {
		t.Errorf("the archived project is among %s", listed.body)
	}
	if listed := w.ask("GET", "/api/v1/projects?include_archived=true", alice, "", ""); !strings.Contains(string(listed.body), made.text("id")) {
		t.Errorf("the archived project is missing among %s", listed.body)
	}
	if reused := w.ask("POST", "/api/v1/projects", alice, "", `{"name":"training"}`); reused.status != 201 {
		t.Errorf("the name of an archived project answers %d %s", reused.status, reused.body)
	}
}

// An admission and an archiving at once: either the allocation runs and the project stays, or the other way round.
func TestAnAdmissionAndAnArchivingTakeTurns(t *testing.T) {
	w := newWorld(t, 4)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	for round := range 4 {
		made := w.ask("POST", "/api/v1/projects", alice, "", fmt.Sprintf(`{"name":"round %d"}`, round))
		var started, archived reply
		var racing sync.WaitGroup
		racing.Go(func() {
			started = w.ask("POST", "/api/v1/allocations", alice, fmt.Sprintf("r%d", round), fmt.Sprintf(`{"sku":"h100-8x","project_id":%q}`, made.text("id")))
		})
		racing.Go(func() { archived = w.ask("DELETE", "/api/v1/projects/"+made.text("id"), alice, "", "") })
		racing.Wait()
		if (started.status == 201) == (archived.status == 200) {
			t.Errorf("round %d: started %d %s, archived %d %s", round, started.status, started.body, archived.status, archived.body)
		}
	}
}

func TestAProjectsOwnMembersReachNothingBesideIt(t *testing.T) {
	w := newWorld(t, 0)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", w.token("pia"), "", "")
	w.join("vera", "alice", "viewer")
	red, blue := w.ask("POST", "/api/v1/projects", alice, "", `{"name":"red"}`), w.ask("POST", "/api/v1/projects", alice, "", `{"name":"blue"}`)
	inRed := "/api/v1/projects/" + red.text("id")
	of := func(name string) string { return inRed + "/members/" + w.userID(name) }
	w.unchanged(func() {
		w.want(w.ask("PUT", of("pia"), alice, "", `{"role":"member"}`), 404, "member_not_found")
		w.want(w.ask("PUT", of("vera"), alice, "", `{"role":"owner"}`), 422, "validation_error")
		w.want(w.ask("PUT", of("vera"), w.token("pia"), "", `{"role":"admin"}`), 404, "project_not_found")
		w.want(w.ask("PUT", of("vera"), w.token("vera"), "", `{"role":"admin"}`), 403, "insufficient_permissions")
		w.want(w.ask("DELETE", of("vera"), alice, "", ""), 404, "member_not_found")
	})
	if put := w.ask("PUT", of("vera"), alice, "", `{"role":"admin"}`); put.status != 200 || put.text("role") != "admin" {
		t.Fatalf("a role in the project answers %d %s", put.status, put.body)
	}
	w.eventually("vera renames red", 200, func() reply { return w.ask("PATCH", inRed, w.token("vera"), "", `{"name":"crimson"}`) })
	w.want(w.ask("PATCH", "/api/v1/projects/"+blue.text("id"), w.token("vera"), "", `{"name":"navy"}`), 403, "insufficient_permissions")

	w.exec(`INSERT INTO project_members (tenant_id, project_id, user_id, role) VALUES ($1, $2, $3, 'member')`, w.tenantOf("alice"), red.text("id"), w.userID("pia"))
	w.eventually("pia sees red", 200, func() reply { return w.ask("GET", inRed, w.token("pia"), "", "") })
	w.want(w.ask("GET", "/api/v1/projects/"+blue.text("id"), w.token("pia"), "", ""), 404, "project_not_found")
	if only := w.ask("GET", "/api/v1/projects?project_id="+red.text("id"), w.token("pia"), "", ""); only.status != 200 || strings.Contains(string(only.body), blue.text("id")) {
		t.Errorf("pia lists %d %s", only.status, only.body)
	}
	if listed := w.ask("GET", inRed+"/members", w.token("pia"), "", ""); listed.status != 200 || !strings.Contains(string(listed.body), w.userID("vera")) {
		t.Errorf("the members are %d %s", listed.status, listed.body)
	}
	if left := w.ask("DELETE", of("pia"), w.token("pia"), "", ""); left.status != 204 {
		t.Errorf("leaving answers %d %s", left.status, left.body)
	}
	w.eventually("pia has left", 404, func() reply { return w.ask("GET", inRed, w.token("pia"), "", "") })
}
