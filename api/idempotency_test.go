//go:build integration

package api_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
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
