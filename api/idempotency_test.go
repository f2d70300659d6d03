//go:build integration

package api_test

import (
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestEveryMutationIsSafeToRepeat(t *testing.T) {
	w := newWorld(t, 2)
	root := w.token("root", "admin")
	w.ask("GET", "/api/v1/me", w.token("alice"), "", "")
	var account, nodeID string
	if err := w.Owner.QueryRow(t.Context(), `SELECT a.id, (SELECT min(id) FROM nodes) FROM accounts a JOIN users u ON u.tenant_id = a.tenant_id WHERE u.username = 'alice'`).Scan(&account, &nodeID); err != nil {
		t.Fatal(err)
	}
	const description = `{"name":"n","gpu_model":"g","gpu_count":1,"gpu_memory_bytes":1,"cpu_model":"","cpu_count":1,"memory_bytes":1,"disk_bytes":1,"os_image":"","cuda_version":"","location":"l"}`
	for _, test := range []struct {
		name, method, path, body, other string
		status                          int
	}{
		{"putSku", "PUT", "/api/v1/admin/skus/new", description, strings.Replace(description, `"n"`, `"m"`, 1), 200},
		{"addSkuPrice", "POST", "/api/v1/admin/skus/new/prices", `{"currency":"usd","rate_micros_per_hour":5}`, `{"currency":"usd","rate_micros_per_hour":6}`, 201},
		{"createAdjustment", "POST", "/api/v1/admin/accounts/" + account + "/adjustments", `{"amount_minor":100,"currency":"usd","reason":"goodwill"}`, `{"amount_minor":200,"currency":"usd","reason":"goodwill"}`, 201},
		{"a refused adjustment", "POST", "/api/v1/admin/accounts/" + account + "/adjustments", `{"amount_minor":-100000000,"currency":"usd","reason":"much"}`, `{"amount_minor":-200000000,"currency":"usd","reason":"much"}`, 402},
		{"setPolicy", "PUT", "/api/v1/admin/policies/billing.window_seconds", `{"value":2,"reason":"demo"}`, `{"value":3,"reason":"demo"}`, 200},
		{"createNodeEnrolToken", "POST", "/api/v1/admin/nodes/enrol-tokens", `{"sku":"h100-8x","hostname":"fresh-1"}`, `{"sku":"h100-8x","hostname":"fresh-2"}`, 201},
		{"cordonNode", "POST", "/api/v1/admin/nodes/" + nodeID + "/cordon", `{"reason":"fan"}`, `{"reason":"disk"}`, 200},
		{"uncordonNode", "POST", "/api/v1/admin/nodes/" + nodeID + "/uncordon", `{"reason":"fan"}`, `{"reason":"disk"}`, 200},
		{"quarantineNode", "POST", "/api/v1/admin/nodes/" + nodeID + "/quarantine", `{"reason":"smell"}`, `{"reason":"disk"}`, 200},
		{"a refused cordon", "POST", "/api/v1/admin/nodes/" + nodeID + "/cordon", `{"reason":"again"}`, `{"reason":"disk"}`, 409},
		{"unquarantineNode", "POST", "/api/v1/admin/nodes/" + nodeID + "/unquarantine", `{"reason":"aired"}`, `{"reason":"disk"}`, 200},
		{"drainNode", "POST", "/api/v1/admin/nodes/" + nodeID + "/drain", `{"reason":"move"}`, `{"reason":"disk"}`, 200},
		{"denyNode", "POST", "/api/v1/admin/nodes/" + nodeID + "/deny", `{"reason":"stolen"}`, `{"reason":"disk"}`, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			key := strings.ReplaceAll(test.name, " ", "-")
			first := w.ask(test.method, test.path, root, key, test.body)
			if first.status != test.status || first.header.Get("Idempotency-Replayed") != "" {
				t.Fatalf("the first answers %d %s", first.status, first.body)
			}
			before := w.rows()
			second := w.ask(test.method, test.path, root, key, test.body)
			if second.status != first.status || second.header.Get("Idempotency-Replayed") != "true" || second.text("message") != first.text("message") {
				t.Errorf("the second answers %d %s %v", second.status, second.body, second.header)
			}
			if first.status < 400 && string(second.body) != string(first.body) {
				t.Errorf("the second answers %s, the first %s", second.body, first.body)
			}
			w.want(w.ask(test.method, test.path, root, key, test.other), 409, "idempotency_conflict")
			// The request did its work and ended before its answer was kept.
			w.exec("UPDATE idempotency_records SET status = NULL, answer = NULL, locked_until = now() - interval '1 second' WHERE key = $1", key)
			third := w.ask(test.method, test.path, root, key, test.body)
			if third.status != first.status || third.text("message") != first.text("message") || (first.status < 400 && !maps.Equal(third.lasting(), first.lasting())) {
				t.Errorf("after a crash it answers %d %s, the first %s", third.status, third.body, first.body)
			}
			if after := w.rows(); !maps.Equal(before, after) {
				t.Errorf("rows were %v and are %v", before, after)
			}
		})
	}
	w.t = t
	var held int
	if err := w.Owner.QueryRow(t.Context(), `SELECT count(*) FROM idempotency_records WHERE encode(answer, 'escape') LIKE '%gpuaas_enrol_%'`).Scan(&held); err != nil || held != 0 {
		t.Errorf("%d records hold an enrolment token, %v", held, err)
	}
}

func TestAKeyInFlightAndOneThatCrashed(t *testing.T) {
	w := newWorld(t, 0)
	root := w.token("root", "admin")
	w.ask("GET", "/api/v1/me", root, "", "")
	const path, body = "/api/v1/admin/policies/billing.window_seconds", `{"value":2,"reason":"demo"}`
	if first := w.ask("PUT", path, root, "k", body); first.status != 200 {
		t.Fatalf("it answers %d %s", first.status, first.body)
	}
	w.exec("UPDATE idempotency_records SET status = NULL, answer = NULL, locked_until = now() + interval '1 minute' WHERE key = 'k'")
	w.want(w.ask("PUT", path, root, "k", body), 409, "idempotency_in_flight")
	w.want(w.ask("PUT", path, root, "k", `{"value":3,"reason":"demo"}`), 409, "idempotency_conflict")
	// Its holder crashed: once the lock has run out, a repeat does the work and its answer is kept.
	w.exec("UPDATE idempotency_records SET locked_until = now() - interval '1 second' WHERE key = 'k'")
	taken := w.ask("PUT", path, root, "k", body)
	if taken.status != 200 || taken.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("the take-over answers %d %s", taken.status, taken.body)
	}
	if again := w.ask("PUT", path, root, "k", body); string(again.body) != string(taken.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeat answers %s", again.body)
	}
}

// lasting is an answer without the clocks of two machines that its times are read from.
func (r reply) lasting() map[string]string {
	lasting := map[string]string{}
	for name, value := range r.fields() {
		if name != "created_at" && name != "changed_at" {
			lasting[name] = fmt.Sprint(value)
		}
	}
	return lasting
}

// A release whose answer was lost after its signal went out is answered by its repeat, whatever has become of the
// allocation, and stops the meter when it was first asked.
func TestAReleaseThatLostItsAnswer(t *testing.T) {
	w := newWorld(t, 3)
	alice := w.token("alice")
	w.ask("GET", "/api/v1/me", alice, "", "")
	for _, after := range []string{"at once", "when it is released"} {
		t.Run(after, func(t *testing.T) {
			w.t = t
			path := w.activeAllocation(alice)
			key, asked := "k"+path[len(path)-5:], time.Now()
			w.exec("REVOKE SELECT ON ledger_entries FROM gpuaas_app") // the answer tells the cost; the signal needs none of it
			if lost := w.ask("POST", path+"/release", alice, key, ""); lost.status != 500 {
				t.Fatalf("it answers %d %s", lost.status, lost.body)
			}
			w.exec("GRANT SELECT ON ledger_entries TO gpuaas_app")
			if after == "when it is released" {
				w.reach(path, alice, "released")
			}
			if repeated := w.ask("POST", path+"/release", alice, key, ""); repeated.status != 202 || !strings.HasSuffix(path, repeated.text("id")) {
				t.Errorf("the repeat answers %d %s", repeated.status, repeated.body)
			}
			w.reach(path, alice, "released")
			if replayed := w.ask("POST", path+"/release", alice, key, ""); replayed.status != 202 || replayed.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("the third answers %d %s %v", replayed.status, replayed.body, replayed.header)
			}
			w.want(w.ask("POST", path+"/release", alice, "another"+key, ""), 409, "allocation_not_active")
			end, err := time.Parse(time.RFC3339, w.ask("GET", path, alice, "", "").text("metered_to"))
			if err != nil || end.Sub(asked).Abs() > time.Second {
				t.Errorf("the meter stopped at %s, asked for at %s: %v", end, asked, err)
			}
		})
	}
}

// An order to force a release is written once, before it is given, and never given without being written.
func TestAForceReleaseIsWrittenOnce(t *testing.T) {
	w := newWorld(t, 3)
	alice, root := w.token("alice"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", alice, "", "")
	written := func(path string) (rows int) {
		if err := w.Owner.QueryRow(w.t.Context(), `SELECT count(*) FROM audit_logs WHERE action = 'allocation.force_release' AND target_id = $1`,
			path[len("/api/v1/allocations/"):]).Scan(&rows); err != nil {
			w.t.Fatal(err)
		}
		return rows
	}
	for _, test := range []struct {
		name, broken, mended string
		left                 string
		rows                 int
	}{
		{"its answer was lost", "REVOKE SELECT ON ledger_entries FROM gpuaas_app", "GRANT SELECT ON ledger_entries TO gpuaas_app", "released", 1},
		{"it could not be written", "REVOKE INSERT ON audit_logs FROM gpuaas_app", "GRANT INSERT ON audit_logs TO gpuaas_app", "active", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			path := w.activeAllocation(alice)
			order := strings.Replace(path, "/api/v1/", "/api/v1/admin/", 1) + "/force-release"
			key := "f" + path[len(path)-5:]
			w.exec(test.broken)
			if lost := w.ask("POST", order, root, key, `{"reason":"stuck"}`); lost.status != 500 {
				t.Fatalf("it answers %d %s", lost.status, lost.body)
			}
			if rows := written(path); rows != test.rows {
				t.Errorf("%d rows were written, not %d", rows, test.rows)
			}
			w.exec(test.mended)
			w.reach(path, alice, test.left)
			if repeated := w.ask("POST", order, root, key, `{"reason":"stuck"}`); repeated.status != 202 {
				t.Errorf("the repeat answers %d %s", repeated.status, repeated.body)
			}
			w.reach(path, alice, "released")
			if replayed := w.ask("POST", order, root, key, `{"reason":"stuck"}`); replayed.status != 202 || replayed.header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("the third answers %d %s", replayed.status, replayed.body)
			}
			if rows := written(path); rows != 1 {
				t.Errorf("the order was written %d times", rows)
			}
		})
	}
}

// activeAllocation makes an allocation and answers its path once it is active.
func (w *world) activeAllocation(token string) string {
	w.t.Helper()
	made := w.ask("POST", "/api/v1/allocations", token, rand.Text(), create("train"))
	if made.status != 201 {
		w.t.Fatalf("create answers %d %s", made.status, made.body)
	}
	path := "/api/v1/allocations/" + made.text("id")
	w.reach(path, token, "active")
	return path
}

func (w *world) reach(path, token, state string) {
	w.t.Helper()
	if got := w.ask("GET", path+"/wait?state="+state+"&timeout_seconds=60", token, "", ""); !strings.Contains(string(got.body), `"reached":true`) {
		w.t.Fatalf("it did not become %s: %s", state, got.body)
	}
}

func TestFirstSignInsAtOnceMakeOneUser(t *testing.T) {
	w := newWorld(t, 0)
	token := w.token("newcomer")
	var asked sync.WaitGroup
	bodies := make([]string, 16)
	for i := range bodies {
		asked.Go(func() { bodies[i] = string(w.ask("GET", "/api/v1/me", token, "", "").body) })
	}
	asked.Wait()
	for _, body := range bodies {
		if body != bodies[0] || !strings.Contains(body, `"username":"newcomer"`) {
			t.Errorf("me is %s and %s", bodies[0], body)
		}
	}
	rows := w.rows()
	if rows["users"] != 1 || rows["tenants"] != 1 || rows["ledger_entries"] != 1 {
		t.Errorf("there are %d users, %d tenants and %d opening credits", rows["users"], rows["tenants"], rows["ledger_entries"])
	}
	if balance := w.ask("GET", "/api/v1/billing/balance", token, "", ""); fmt.Sprint(balance.fields()["balance_minor"]) != "100000" {
		t.Errorf("the balance is %s", balance.body)
	}
}

func TestAKeyCreatesOneAllocationHoweverOftenItIsAsked(t *testing.T) {
	w := newWorld(t, 3)
	token := w.token("alice")
	w.ask("GET", "/api/v1/me", token, "", "")
	var asked sync.WaitGroup
	replies := make([]reply, 12)
	for i := range replies {
		asked.Go(func() { replies[i] = w.ask("POST", "/api/v1/allocations", token, "same", create("train")) })
	}
	asked.Wait()
	firsts := 0
	for _, one := range replies {
		if one.status != 201 || string(one.body) != string(replies[0].body) {
			t.Errorf("answered %d %s", one.status, one.body)
		}
		if one.header.Get("Idempotency-Replayed") == "" {
			firsts++
		}
	}
	if rows := w.rows(); rows["allocations"] != 1 || rows["node_leases"] != 1 || firsts != 1 {
		t.Errorf("%d allocations, %d leases, %d answers that are no replay", rows["allocations"], rows["node_leases"], firsts)
	}
}
