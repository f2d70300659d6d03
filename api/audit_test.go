//go:build integration

package api_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/api"
	proven "github.com/gpuaas/gpuaas/domain/evidence"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/evidence"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// audited makes a request and counts what its caller's audit rows tell of it; the transitions that an order leads to are the
// allocation's own.
func (w *world) audited(method, path, token, body string) (reply, int) {
	w.t.Helper()
	correlation := "audited-" + string(randomID[id.Node]())
	answer := w.send(w.base, method, path, body, map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "X-Correlation-Id": correlation, "X-Idempotency-Key": correlation,
	})
	var rows int
	if err := w.Owner.QueryRow(w.t.Context(), `SELECT count(*) FROM audit_logs WHERE correlation_id = $1 AND result = 'success' AND actor_role <> 'system'
		AND action NOT IN (SELECT 'allocation.' || to_state FROM allocation_arrows)`, correlation).Scan(&rows); err != nil {
		w.t.Fatal(err)
	}
	return answer, rows
}

// Every privileged mutation of the table writes exactly one row of its success, in the transaction of its change. A new one
// without a line here, or that writes none, fails.
func TestEveryPrivilegedMutationIsAuditedOnce(t *testing.T) {
	w := newWorld(t, 1)
	alice, root := w.token("alice"), w.token("root", "admin")
	made := w.ask("POST", "/api/v1/allocations", alice, "k1", create("train"))
	w.ask("GET", "/api/v1/me", root, "", "")
	clientID, _ := w.account(alice, "watched", "viewer")
	account := "/api/v1/service-accounts/" + clientID
	secretID := w.field(`SELECT id FROM credentials WHERE user_id = $1`, clientID)
	nodeID := randomID[id.Node]()
	if _, err := queries.InsertNode(t.Context(), w.App, nodeID, "a100-8x", "spare"); err != nil {
		t.Fatal(err)
	}
	if _, err := queries.TransitionNode(t.Context(), w.App, nodeID, 1, node.Online, node.Open, ""); err != nil {
		t.Fatal(err)
	}
	verb := func(word string) []string {
		return []string{"POST", "/api/v1/admin/nodes/" + string(nodeID) + "/" + word, root, `{"reason":"` + word + `"}`}
	}
	tenant := w.field(`SELECT tenant_id FROM users WHERE username = 'alice'`)
	ledger := w.field(`SELECT accounts.id FROM accounts JOIN users USING (tenant_id) WHERE username = 'alice'`)
	requests := map[string][]string{
		"createServiceAccount":       {"POST", "/api/v1/service-accounts", alice, `{"name":"fresh","role":"viewer"}`},
		"updateServiceAccount":       {"PATCH", account, alice, `{"disabled":true}`},
		"createServiceAccountSecret": {"POST", account + "/secrets", alice, `{}`},
		"revokeServiceAccountSecret": {"DELETE", account + "/secrets/" + secretID, alice, ""},
		"putSku": {"PUT", "/api/v1/admin/skus/b200-8x", root, `{"name":"b200","gpu_model":"B200","gpu_count":8,"gpu_memory_bytes":1,"cpu_model":"c","cpu_count":1,
			"memory_bytes":1,"disk_bytes":1,"os_image":"u","cuda_version":"12","location":"here"}`},
		"addSkuPrice":            {"POST", "/api/v1/admin/skus/a100-8x/prices", root, `{"currency":"usd","rate_micros_per_hour":1}`},
		"createAdjustment":       {"POST", "/api/v1/admin/accounts/" + ledger + "/adjustments", root, `{"amount_minor":100,"currency":"usd","reason":"goodwill"}`},
		"createNodeEnrolToken":   {"POST", "/api/v1/admin/nodes/enrol-tokens", root, `{"sku":"h100-8x","hostname":"new-node"}`},
		"cordonNode":             verb("cordon"),
		"uncordonNode":           verb("uncordon"),
		"quarantineNode":         verb("quarantine"),
		"unquarantineNode":       verb("unquarantine"),
		"drainNode":              verb("drain"),
		"denyNode":               verb("deny"),
		"setPolicy":              {"PUT", "/api/v1/admin/policies/billing.runway_seconds", root, `{"value":60,"reason":"shorter"}`},
		"setPolicies":            {"PUT", "/api/v1/admin/policies", root, `{"changes":[{"key":"billing.runway_seconds","value":90}],"reason":"longer"}`},
		"rollbackPolicy":         {"POST", "/api/v1/admin/policies/billing.runway_seconds/rollback", root, `{"version":1,"reason":"back"}`},
		"setTenantPolicies":      {"PUT", "/api/v1/admin/tenants/" + tenant + "/policies", root, `{"changes":[{"key":"allocation.max_concurrent_per_user","value":7}],"reason":"agreed"}`},
		"setTenantPrice":         {"POST", "/api/v1/admin/tenants/" + tenant + "/prices", root, `{"sku":"h100-8x","currency":"usd","rate_micros_per_hour":1234567,"reason":"agreed"}`},
		"forceReleaseAllocation": {"POST", strings.Replace(made.header.Get("Location"), "/v1/", "/v1/admin/", 1) + "/force-release", root, `{"reason":"repaired"}`},
	}
	matrix := readMatrix(t)
	if operations := api.PrivilegedMutations(); len(operations) < len(requests) {
		t.Fatalf("the table has only %v", operations)
	}
	for _, operation := range api.PrivilegedMutations() {
		request, known := requests[operation]
		if _, asked := matrix[operation]; !known && asked {
			continue // TestAuthorisationMatrix counts its rows
		}
		if !known {
			t.Errorf("%s is privileged and nothing here shows that it is audited", operation)
			continue
		}
		answer, rows := w.audited(request[0], request[1], request[2], request[3])
		if answer.status >= 300 || rows != 1 {
			t.Errorf("%s: answered %d %s, and %d rows tell of it", operation, answer.status, answer.body, rows)
		}
	}
}

func TestTheAuditLogIsSearchedByWhoMaySeeIt(t *testing.T) {
	w := newWorld(t, 1)
	alice, root := w.token("alice"), w.token("root", "admin")
	made := w.ask("POST", "/api/v1/allocations", alice, "k1", create("train"))
	w.ask("GET", made.header.Get("Location"), root, "", "")
	w.account(alice, "nightly", "member")
	tenant := w.field(`SELECT tenant_id FROM users WHERE username = 'alice'`)
	rootID := w.field(`SELECT id FROM users WHERE username = 'root'`)
	path := "/api/v1/tenants/" + tenant + "/audit"
	search := func(path, token string, pairs ...string) []map[string]any {
		t.Helper()
		query := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			query.Set(pairs[i], pairs[i+1])
		}
		answer := w.get(w.base, path+"?"+query.Encode(), token)
		var page struct {
			Items []map[string]any `json:"items"`
		}
		if answer.status != 200 || json.Unmarshal(answer.body, &page) != nil {
			t.Fatalf("%s %v: answered %d %s", path, pairs, answer.status, answer.body)
		}
		return page.Items
	}
	whole := search(path, alice)
	if len(whole) < 4 {
		t.Fatalf("only %v stands there", whole)
	}
	for i, row := range whole {
		if row["tenant_id"] != tenant || i > 0 && row["created_at"].(string) > whole[i-1]["created_at"].(string) {
			t.Errorf("row %d is %v", i, row)
		}
	}
	if views := search(path, alice, "action", "operator.view", "actor_user_id", rootID, "target_id", made.text("id")); len(views) != 1 {
		t.Errorf("the tenant sees %v of the operator", views)
	}
	for name, pairs := range map[string][]string{
		"by target": {"target_type", "service_account"}, "by action": {"action", "service_account.create"}, "by actor": {"actor_user_id", rootID},
		"by result": {"result", "success", "action", "service_account.mint_secret"},
		"by time":   {"since", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "action", "service_account.create"},
	} {
		if found := search(path, alice, pairs...); len(found) == 0 || len(found) == len(whole) {
			t.Errorf("%s: %d of %d rows", name, len(found), len(whole))
		}
	}
	for name, pairs := range map[string][]string{
		"refused": {"result", "refused"}, "before there was anything": {"until", "2026-01-01T00:00:00Z"}, "of nobody": {"actor_user_id", "user_nobody"},
	} {
		if found := search(path, alice, pairs...); len(found) != 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
	seen, cursor := map[string]bool{}, ""
	for {
		answer := w.get(w.base, path+"?limit=2"+cursor, alice)
		var page struct {
			Items      []map[string]any `json:"items"`
			NextCursor string           `json:"next_cursor"`
		}
		if answer.status != 200 || json.Unmarshal(answer.body, &page) != nil {
			t.Fatalf("a page is %d %s", answer.status, answer.body)
		}
		for _, row := range page.Items {
			seen[fmt.Sprint(row["id"])] = true
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if len(seen) < len(whole) {
		t.Errorf("page by page there are %d of %d rows", len(seen), len(whole))
	}
	w.want(w.get(w.base, path+"?cursor=nonsense", alice), 422, "validation_error")
	w.join("mia", "alice", "member")
	w.want(w.get(w.base, path, w.token("mia")), 403, "insufficient_permissions")
	w.want(w.get(w.base, path, w.token("eve")), 404, "tenant_not_found")
	w.want(w.get(w.base, "/api/v1/admin/audit", alice), 403, "admin_required")
	search(path, root)
	if watched := search(path, alice, "action", "operator.view", "target_type", "tenant"); len(watched) != 1 {
		t.Errorf("that an operator read the audit log, the tenant sees as %v", watched)
	}
	if all := search("/api/v1/admin/audit", root, "tenant_id", tenant, "action", "service_account.create"); len(all) != 1 {
		t.Errorf("an operator finds %v", all)
	}
	w.plansByIndex(`SELECT id FROM audit_logs WHERE tenant_id = 'x' ORDER BY created_at DESC, id DESC LIMIT 50`, "audit_logs_newest_of_tenant")
	w.plansByIndex(`SELECT id FROM audit_logs WHERE actor_user_id = 'x' ORDER BY created_at DESC, id DESC LIMIT 50`, "audit_logs_newest_of_actor")
}

// plansByIndex shows that a statement reads an index in its order, without sorting.
func (w *world) plansByIndex(statement, index string) {
	w.t.Helper()
	tx, err := w.Owner.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	var plan string
	if _, err := tx.Exec(w.t.Context(), `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off`); err != nil {
		w.t.Fatal(err)
	}
	if err := tx.QueryRow(w.t.Context(), `EXPLAIN (FORMAT JSON) `+statement).Scan(&plan); err != nil || !strings.Contains(plan, index) || strings.Contains(plan, "Sort") {
		w.t.Errorf("%s is planned as %s, %v", statement, plan, err)
	}
}

func TestAnAllocationIsProvenBySignedEvidence(t *testing.T) {
	w := newWorld(t, 1)
	alice, root := w.token("alice"), w.token("root", "admin")
	made := w.ask("POST", "/api/v1/allocations", alice, "k1", create("train"))
	path := made.header.Get("Location")
	nodeID := w.field(`SELECT node_id FROM allocations`)
	w.exec(`INSERT INTO node_certificates (node_id, serial, not_before, not_after) VALUES
		($1, '5f0d', now() - interval '1 hour', now() + interval '1 hour'), ($1, 'dead', now() - interval '2 days', now() - interval '1 day')`, nodeID)
	var keys struct {
		Items []struct {
			KeyID     string `json:"key_id"`
			PublicKey string `json:"public_key"`
			Current   bool   `json:"current"`
		} `json:"items"`
	}
	if published := w.send(w.base, "GET", "/api/v1/evidence/keys", "", nil); published.status != 200 || json.Unmarshal(published.body, &keys) != nil || len(keys.Items) != 1 || !keys.Items[0].Current {
		t.Fatalf("the keys are %d %s", published.status, published.body)
	}
	trusted, err := evidence.ParsePublicKeys([]byte(keys.Items[0].PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	prove := func(token string) proven.Bundle {
		t.Helper()
		answer := w.get(w.base, path+"/evidence", token)
		if answer.status != 200 {
			t.Fatalf("the evidence is %d %s", answer.status, answer.body)
		}
		bundle, keyID, err := evidence.Open(t.Context(), answer.body, trusted)
		if err != nil || keyID != keys.Items[0].KeyID {
			t.Fatalf("signed by %s: %v", keyID, err)
		}
		for _, finding := range proven.Examine(bundle) {
			if finding.Err != nil {
				t.Errorf("%s: %v", finding.Checked, finding.Err)
			}
		}
		return bundle
	}
	w.ask("GET", path+"/wait?state=active&timeout_seconds=30", alice, "", "")
	running := prove(alice)
	if running.Final || running.Allocation.State != "active" || running.Certificate != nil {
		t.Errorf("while it runs, the bundle says %+v", running.Allocation)
	}
	w.ask("POST", path+"/release", alice, "r1", "")
	temporaltest.Eventually(t, 30*time.Second, func() error {
		if got := w.ask("GET", path, alice, "", ""); got.text("state") != "released" {
			return fmt.Errorf("the allocation is %s", got.body)
		}
		return nil
	})
	released := prove(alice)
	switch {
	case !released.Final, released.Allocation.State != "released", released.Certificate == nil, !released.Certificate.Wiped:
		t.Errorf("once it is released, the bundle says %+v, %+v", released.Allocation, released.Certificate)
	case len(released.Ledger) == 0 || released.Totals.ChargeMicros <= 0:
		t.Errorf("it cost %+v", released.Totals)
	case len(released.NodeCertificates) != 1 || released.NodeCertificates[0].Serial != "5f0d":
		t.Errorf("the node held %+v", released.NodeCertificates)
	case len(released.Audit) < 3:
		t.Errorf("the audit log tells %+v", released.Audit)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := w.get(w.base, path+"/evidence", alice)
	if _, _, err := evidence.Open(t.Context(), answer.body, []ed25519.PublicKey{stranger.Public().(ed25519.PublicKey)}); err == nil {
		t.Error("a stranger's key fits")
	}
	w.join("mia", "alice", "member")
	w.want(w.get(w.base, path+"/evidence", w.token("mia")), 403, "insufficient_permissions")
	w.want(w.get(w.base, path+"/evidence", w.token("eve")), 404, "allocation_not_found")
	prove(root)
}

func TestSSHKeysAreKeptForAProject(t *testing.T) {
	w := newWorld(t, 1)
	alice := w.token("alice")
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"
	add := func(token, name, line string) reply {
		t.Helper()
		return w.ask("POST", "/api/v1/ssh-keys", token, "", `{"name":"`+name+`","public_key":"`+line+`"}`)
	}
	added := add(alice, "laptop", key+" alice@example.com")
	if added.status != 201 || added.text("public_key") != key || !strings.HasPrefix(added.text("fingerprint"), "SHA256:") {
		t.Fatalf("a key is answered %d %s", added.status, added.body)
	}
	again := add(alice, "same", key)
	w.want(again, 409, "ssh_key_already_exists")
	w.want(add(alice, "optional", `no-pty `+key), 422, "validation_error")
	w.want(add(alice, "none", "ssh-ed25519 nothing"), 422, "validation_error")
	w.want(add(w.token("bob"), "broken", "x\\ny"), 422, "validation_error")
	if theirs := add(w.token("bob"), "bobs", key); theirs.status != 201 {
		t.Errorf("another project's same key is %d %s", theirs.status, theirs.body)
	}
	if listed := w.ask("GET", "/api/v1/ssh-keys", alice, "", ""); strings.Count(string(listed.body), `"key_`) != 1 || strings.Contains(string(listed.body), "example.com") {
		t.Errorf("the list is %s", listed.body)
	}
	made := w.ask("POST", "/api/v1/allocations", alice, "k1", `{"sku":"h100-8x","ssh_key_ids":["`+added.text("id")+`"],"ssh_keys":["`+key+` again"]}`)
	if made.status != 201 {
		t.Fatalf("an allocation with a kept key is %d %s", made.status, made.body)
	}
	if got := w.field(`SELECT array_to_string(ssh_keys, '|') FROM allocations`); got != key {
		t.Errorf("the allocation has the keys %q", got)
	}
	w.want(w.ask("POST", "/api/v1/allocations", w.token("bob"), "k1", `{"sku":"h100-8x","ssh_key_ids":["`+added.text("id")+`"]}`), 404, "ssh_key_not_found")
	w.join("vera", "alice", "viewer")
	w.join("mia", "alice", "member")
	keyPath := "/api/v1/ssh-keys/" + added.text("id")
	w.want(w.ask("DELETE", keyPath, w.token("vera"), "", ""), 403, "insufficient_permissions")
	w.want(w.ask("DELETE", keyPath, w.token("mia"), "", ""), 403, "ownership_required")
	w.want(w.ask("DELETE", keyPath, w.token("bob"), "", ""), 404, "ssh_key_not_found")
	if gone := w.ask("DELETE", keyPath, alice, "", ""); gone.status != 200 {
		t.Errorf("forgetting is %d %s", gone.status, gone.body)
	}
	w.want(w.ask("DELETE", keyPath, alice, "", ""), 404, "ssh_key_not_found")
	if replayed := w.ask("POST", "/api/v1/allocations", alice, "k1", `{"sku":"h100-8x","ssh_key_ids":["`+added.text("id")+`"],"ssh_keys":["`+key+` again"]}`); replayed.status != 201 || replayed.text("id") != made.text("id") {
		t.Errorf("the repeat after the key is gone is %d %s", replayed.status, replayed.body)
	}
}
