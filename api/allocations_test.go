//go:build integration

package api_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
)

func create(name string) string { return fmt.Sprintf(`{"sku":"h100-8x","name":%q}`, name) }

func TestAnAllocationThroughTheAPI(t *testing.T) {
	w := newWorld(t, 1)
	alice, bob, root := w.token("alice"), w.token("bob"), w.token("root", "admin")

	made := w.ask("POST", "/api/v1/allocations", alice, "k1", create("train"))
	if made.status != 201 || made.text("state") != "requested" || made.header.Get("Location") == "" {
		t.Fatalf("create answered %d %s", made.status, made.body)
	}
	path := made.header.Get("Location")

	again := w.ask("POST", "/api/v1/allocations", alice, "k1", ` { "name": "train", "sku": "h100-8x" } `)
	if again.status != 201 || string(again.body) != string(made.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the replay is %d %s (%v), not %s", again.status, again.body, again.header, made.body)
	}
	w.want(w.ask("POST", "/api/v1/allocations", alice, "k1", create("other")), 409, "idempotency_conflict")

	soldOut := w.ask("POST", "/api/v1/allocations", bob, "k1", create("train"))
	w.want(soldOut, 409, "sku_unavailable")
	refusedAgain := w.ask("POST", "/api/v1/allocations", bob, "k1", create("train"))
	w.want(refusedAgain, 409, "sku_unavailable")
	if refusedAgain.header.Get("Idempotency-Replayed") != "true" || refusedAgain.text("message") != soldOut.text("message") {
		t.Errorf("the refusal does not replay: %v %s", refusedAgain.header, refusedAgain.body)
	}

	waited := w.ask("GET", path+"/wait?state=active&timeout_seconds=60", alice, "", "")
	if reached, _ := waited.fields()["reached"].(bool); !reached {
		t.Fatalf("it did not become active: %s", waited.body)
	}
	for _, suffix := range []string{"", "/timeline", "/explain", "/wait"} {
		w.want(w.ask("GET", path+suffix, bob, "", ""), 404, "allocation_not_found")
		if seen := w.ask("GET", path+suffix, root, "", ""); seen.status != 200 {
			t.Errorf("an admin sees %d %s at %q", seen.status, seen.body, suffix)
		}
	}
	w.want(w.ask("POST", path+"/release", bob, "", ""), 404, "allocation_not_found")
	if explained := w.ask("GET", path+"/explain", alice, "", ""); explained.text("source") != "workflow" || explained.text("doing") == "" {
		t.Errorf("explain answers %s", explained.body)
	}
	// Somebody of the same tenant sees it and may not release it.
	w.sameTenant("dave", "alice")
	w.want(w.ask("POST", path+"/release", w.token("dave"), "", ""), 403, "ownership_required")

	released := w.ask("POST", path+"/release", alice, "r1", "")
	if released.status != 202 {
		t.Fatalf("release answers %d %s", released.status, released.body)
	}
	if repeated := w.ask("POST", path+"/release", alice, "r1", ""); repeated.status != 202 || repeated.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeated release answers %d %v", repeated.status, repeated.header)
	}
	if ended := w.ask("GET", path+"/wait?state=released&timeout_seconds=60", alice, "", ""); !strings.Contains(string(ended.body), `"reached":true`) {
		t.Fatalf("it was not released: %s", ended.body)
	}
	w.want(w.ask("POST", path+"/release", alice, "r2", ""), 409, "allocation_not_active")
	w.want(w.ask("POST", "/api/v1/admin/allocations/"+made.text("id")+"/force-release", root, "", `{"reason":"x"}`), 409, "allocation_not_active")

	if timeline := w.ask("GET", path+"/timeline", alice, "", ""); strings.Count(string(timeline.body), `"to_state"`) != 5 {
		t.Errorf("the timeline is %s", timeline.body)
	}
	if explained := w.ask("GET", path+"/explain", alice, "", ""); explained.text("source") != "database" || explained.text("state") != "released" {
		t.Errorf("explain answers %s", explained.body)
	}
}

// sameTenant makes a user in the tenant of another.
func (w *world) sameTenant(newcomer, member string) {
	w.t.Helper()
	w.ask("GET", "/api/v1/me", w.token(newcomer), "", "")
	w.exec(`INSERT INTO tenant_members (tenant_id, user_id, role, source)
		SELECT host.tenant_id, guest.id, 'member', 'operator' FROM users AS host, users AS guest WHERE host.username = $1 AND guest.username = $2`, member, newcomer)
}

func TestBadInputIsRefusedAndWritesNothing(t *testing.T) {
	w := newWorld(t, 1)
	alice, root := w.token("alice"), w.token("root", "admin")
	w.ask("GET", "/api/v1/me", alice, "", "")
	w.ask("GET", "/api/v1/me", root, "", "")
	absent := string(randomID[id.Allocation]())
	nowhere := string(randomID[id.Node]())
	account := w.ask("GET", "/api/v1/admin/accounts?username=alice", root, "", "")
	items, _ := account.fields()["items"].([]any)
	first, _ := items[0].(map[string]any)
	adjust := "/api/v1/admin/accounts/" + first["id"].(string) + "/adjustments"
	before := w.rows()
	for name, test := range map[string]struct {
		method, path, token, body string
		status                    int
		code                      string
	}{
		"unknown field":           {"POST", "/api/v1/allocations", alice, `{"sku":"h100-8x","root":true}`, 422, "validation_error"},
		"wrong type":              {"POST", "/api/v1/allocations", alice, `{"sku":7}`, 422, "validation_error"},
		"no SKU":                  {"POST", "/api/v1/allocations", alice, `{}`, 422, "validation_error"},
		"an array":                {"POST", "/api/v1/allocations", alice, `[]`, 422, "validation_error"},
		"half a body":             {"POST", "/api/v1/allocations", alice, `{"sku":`, 400, "invalid_request"},
		"no body":                 {"POST", "/api/v1/allocations", alice, "", 400, "invalid_request"},
		"a huge body":             {"POST", "/api/v1/allocations", alice, `{"sku":"` + strings.Repeat("x", 300<<10) + `"}`, 413, "request_too_large"},
		"a name too long":         {"POST", "/api/v1/allocations", alice, create(strings.Repeat("n", 64)), 422, "validation_error"},
		"a name with a new line":  {"POST", "/api/v1/allocations", alice, `{"sku":"h100-8x","name":"a\nb"}`, 422, "validation_error"},
		"no SSH key":              {"POST", "/api/v1/allocations", alice, `{"sku":"h100-8x","ssh_keys":["rubbish"]}`, 422, "validation_error"},
		"another tenant's":        {"POST", "/api/v1/allocations", alice, `{"sku":"h100-8x","project_id":"` + string(randomID[id.Project]()) + `"}`, 404, "project_not_found"},
		"an unknown query":        {"GET", "/api/v1/allocations?colour=red", alice, "", 422, "validation_error"},
		"limit zero":              {"GET", "/api/v1/allocations?limit=0", alice, "", 422, "validation_error"},
		"limit negative":          {"GET", "/api/v1/allocations?limit=-1", alice, "", 422, "validation_error"},
		"limit too large":         {"GET", "/api/v1/allocations?limit=201", alice, "", 422, "validation_error"},
		"a forged cursor":         {"GET", "/api/v1/allocations?cursor=xyz", alice, "", 422, "validation_error"},
		"an unknown state":        {"GET", "/api/v1/allocations?state=sleeping", alice, "", 422, "validation_error"},
		"an absent allocation":    {"GET", "/api/v1/allocations/" + absent, alice, "", 404, "allocation_not_found"},
		"no allocation id":        {"GET", "/api/v1/allocations/1;DROP", alice, "", 422, "validation_error"},
		"release of an absent":    {"POST", "/api/v1/allocations/" + absent + "/release", alice, "", 404, "allocation_not_found"},
		"no admin":                {"GET", "/api/v1/admin/nodes", alice, "", 403, "admin_required"},
		"no admin sets policy":    {"PUT", "/api/v1/admin/policies/billing.window_seconds", alice, `{"value":2,"reason":"x"}`, 403, "admin_required"},
		"an absent node":          {"POST", "/api/v1/admin/nodes/" + nowhere + "/cordon", root, `{"reason":"x"}`, 404, "node_not_found"},
		"no reason":               {"POST", "/api/v1/admin/nodes/" + nowhere + "/cordon", root, `{}`, 422, "validation_error"},
		"an unknown policy":       {"PUT", "/api/v1/admin/policies/no.such", root, `{"value":2,"reason":"x"}`, 404, "policy_not_found"},
		"policy zero":             {"PUT", "/api/v1/admin/policies/billing.window_seconds", root, `{"value":0,"reason":"x"}`, 422, "policy_value_invalid"},
		"policy of another type":  {"PUT", "/api/v1/admin/policies/billing.window_seconds", root, `{"value":"2","reason":"x"}`, 422, "policy_value_invalid"},
		"re-image without MAAS":   {"PUT", "/api/v1/admin/policies/allocation.isolation_model", root, `{"value":"full-reimage","reason":"x"}`, 409, "policy_combination_refused"},
		"an adjustment of zero":   {"POST", adjust, root, `{"amount_minor":0,"currency":"usd","reason":"x"}`, 422, "amount_out_of_range"},
		"in another currency":     {"POST", adjust, root, `{"amount_minor":1,"currency":"eur","reason":"x"}`, 422, "currency_mismatch"},
		"beyond what is exact":    {"POST", adjust, root, `{"amount_minor":9007199254740993,"currency":"usd","reason":"x"}`, 422, "validation_error"},
		"a price of nothing":      {"POST", "/api/v1/admin/skus/no-such/prices", root, `{"currency":"usd","rate_micros_per_hour":1}`, 404, "sku_not_found"},
		"a negative price":        {"POST", "/api/v1/admin/skus/h100-8x/prices", root, `{"currency":"usd","rate_micros_per_hour":-1}`, 422, "validation_error"},
		"a price in the past":     {"POST", "/api/v1/admin/skus/h100-8x/prices", root, `{"currency":"usd","rate_micros_per_hour":1,"valid_from":"2020-01-01T00:00:00Z"}`, 422, "validation_error"},
		"a SKU of no GPUs":        {"PUT", "/api/v1/admin/skus/new", root, `{"name":"n","gpu_model":"g","gpu_count":0,"gpu_memory_bytes":1,"cpu_model":"","cpu_count":1,"memory_bytes":1,"disk_bytes":1,"os_image":"","cuda_version":"","location":"l"}`, 422, "validation_error"},
		"a node of no SKU":        {"POST", "/api/v1/admin/nodes/enrol-tokens", root, `{"sku":"no-such","hostname":"n1"}`, 404, "sku_not_found"},
		"a node that exists":      {"POST", "/api/v1/admin/nodes/enrol-tokens", root, `{"sku":"h100-8x","hostname":"node-000"}`, 409, "node_already_exists"},
		"a host name with a path": {"POST", "/api/v1/admin/nodes/enrol-tokens", root, `{"sku":"h100-8x","hostname":"../x"}`, 422, "validation_error"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			key := ""
			if test.method == "POST" && (strings.HasSuffix(test.path, "/allocations") || strings.HasSuffix(test.path, "/adjustments")) {
				key = "bad-" + strings.ReplaceAll(name, " ", "-")
			}
			w.want(w.ask(test.method, test.path, test.token, key, test.body), test.status, test.code)
			if after := w.rows(); !maps.Equal(before, after) {
				t.Errorf("rows were %v and are %v", before, after)
			}
		})
	}
	w.t = t
	w.want(w.ask("POST", "/api/v1/allocations", alice, "", create("x")), 400, "idempotency_key_required")
	w.want(w.ask("POST", "/api/v1/allocations", alice, "a b", create("x")), 400, "idempotency_key_invalid")

	// A refusal of admission writes its idempotency record and nothing else.
	w.want(w.ask("POST", "/api/v1/allocations", alice, "u1", `{"sku":"no-such"}`), 404, "sku_not_found")
	poor := w.ask("POST", "/api/v1/allocations", alice, "u2", `{"sku":"a100-8x"}`)
	w.want(poor, 402, "insufficient_balance")
	if details, _ := poor.fields()["details"].(map[string]any); details["shortfall_micros"] == nil || details["currency"] != "usd" {
		t.Errorf("the details are %v", details)
	}
	after := w.rows()
	if after["idempotency_records"] != before["idempotency_records"]+2 {
		t.Errorf("%d idempotency records were written, not 2", after["idempotency_records"]-before["idempotency_records"])
	}
	after["idempotency_records"] = before["idempotency_records"]
	if !maps.Equal(before, after) {
		t.Errorf("rows were %v and are %v", before, after)
	}
}
