//go:build integration

package api_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestWhatIsSetForATenantIsSeenThereAlone(t *testing.T) {
	w := newWorld(t, 1)
	ann, ben, root := w.token("ann"), w.token("ben"), w.token("root", "user", "admin")
	for _, token := range []string{ann, ben, root} {
		w.ask("GET", "/api/v1/me", token, "", "")
	}
	tenant := w.field("SELECT tenant_id FROM users WHERE username = 'ann'")
	path := "/api/v1/admin/tenants/" + tenant

	set := w.ask("POST", path+"/prices", root, "k1", `{"sku":"h100-8x","currency":"usd","rate_micros_per_hour":1234567,"reason":"agreed"}`)
	if set.status != 201 {
		t.Fatalf("a price answers %d %s", set.status, set.body)
	}
	again := w.ask("POST", path+"/prices", root, "k1", `{"sku":"h100-8x","currency":"usd","rate_micros_per_hour":1234567,"reason":"agreed"}`)
	if again.status != 201 || again.fields()["id"] != set.fields()["id"] {
		t.Errorf("a repeat answers %d %s", again.status, again.body)
	}
	policies := w.ask("PUT", path+"/policies", root, "k2", `{"changes":[{"key":"allocation.max_concurrent_per_user","value":7},{"key":"billing.runway_seconds"}],"reason":"agreed"}`)
	if policies.status != 200 || strings.Count(string(policies.body), `"overridden":true`) != 1 {
		t.Errorf("policies answer %d %s", policies.status, policies.body)
	}

	limited := w.ask("PUT", path+"/policies", root, "", `{"changes":[{"key":"rate_limit.api_requests_per_minute","value":77777}],"reason":"agreed"}`)
	if limited.status != 200 {
		t.Errorf("a rate limit answers %d %s", limited.status, limited.body)
	}
	if mine := w.ask("GET", "/api/v1/skus/h100-8x", ann, "", ""); !strings.Contains(mine.header.Get("RateLimit-Policy"), "77777") {
		t.Errorf("the tenant's rate limit is said to be %v", mine.header)
	}
	if theirs := w.ask("GET", "/api/v1/skus/h100-8x", ben, "", ""); strings.Contains(theirs.header.Get("RateLimit-Policy"), "77777") {
		t.Errorf("another tenant's rate limit is said to be %v", theirs.header)
	}
	if mine := w.ask("GET", "/api/v1/skus/h100-8x", ann, "", ""); !strings.Contains(string(mine.body), "1234567") {
		t.Errorf("the tenant sees %s", mine.body)
	}
	for _, token := range []string{ben, root} {
		for _, where := range []string{"/api/v1/skus/h100-8x", "/api/v1/skus"} {
			if theirs := w.ask("GET", where, token, "", ""); theirs.status != 200 || strings.Contains(string(theirs.body), "1234567") || !strings.Contains(string(theirs.body), "3600000") {
				t.Errorf("another tenant sees %s", theirs.body)
			}
		}
	}
	if listed := w.ask("GET", "/api/v1/admin/skus/h100-8x/prices", root, "", ""); strings.Contains(string(listed.body), "1234567") {
		t.Errorf("the list prices are %s", listed.body)
	}
	if history := w.ask("GET", path+"/policies/allocation.max_concurrent_per_user/history", root, "", ""); history.status != 200 || !strings.Contains(string(history.body), `"value":7`) {
		t.Errorf("the history is %d %s", history.status, history.body)
	}
	if prices := w.ask("GET", path+"/prices", root, "", ""); prices.status != 200 || !strings.Contains(string(prices.body), "1234567") {
		t.Errorf("the tenant's prices are %d %s", prices.status, prices.body)
	}
	for _, where := range []string{"/policies", "/prices", "/policies/billing.runway_seconds/history"} {
		w.want(w.ask("GET", path+where, ann, "", ""), 403, "admin_required")
	}
	nobody := fmt.Sprintf("/api/v1/admin/tenants/tenant_%s/policies", strings.Repeat("a", 26))
	w.want(w.ask("GET", nobody, root, "", ""), 404, "tenant_not_found")
	w.want(w.ask("PUT", path+"/policies", root, "", `{"changes":[{"key":"maas.enabled","value":true}],"reason":"no"}`), 409, "policy_not_per_tenant")

	if back := w.ask("POST", path+"/prices", root, "", `{"sku":"h100-8x","currency":"usd","reason":"over"}`); back.status != 201 || back.fields()["withdrawn"] != true {
		t.Errorf("a withdrawal answers %d %s", back.status, back.body)
	}
	if mine := w.ask("GET", "/api/v1/skus/h100-8x", ann, "", ""); !strings.Contains(string(mine.body), "3600000") {
		t.Errorf("afterwards the tenant sees %s", mine.body)
	}
}

func TestPolicyHistoryAndRollbackOverHTTP(t *testing.T) {
	w := newWorld(t, 0)
	root := w.token("root", "user", "admin")
	both := `{"changes":[{"key":"billing.minimum_deposit_minor","value":200000},{"key":"billing.maximum_deposit_minor","value":300000}],"reason":"larger"}`
	if set := w.ask("PUT", "/api/v1/admin/policies", root, "k1", both); set.status != 200 || strings.Count(string(set.body), `"version":1`) != 2 {
		t.Fatalf("both answer %d %s", set.status, set.body)
	}
	key := "/api/v1/admin/policies/billing.runway_seconds"
	for value := 1; value <= 3; value++ {
		if set := w.ask("PUT", key, root, "", fmt.Sprintf(`{"value":%d,"reason":"r%d"}`, value, value)); set.status != 200 {
			t.Fatalf("%d answers %d %s", value, set.status, set.body)
		}
	}
	back := w.ask("POST", key+"/rollback", root, "k2", `{"version":1,"reason":"back","expected_version":3}`)
	if back.status != 200 || back.fields()["value"] != 1.0 || back.fields()["version"] != 4.0 {
		t.Errorf("a rollback answers %d %s", back.status, back.body)
	}
	if again := w.ask("POST", key+"/rollback", root, "k2", `{"version":1,"reason":"back","expected_version":3}`); string(again.body) != string(back.body) {
		t.Errorf("its repeat answers %s", again.body)
	}
	w.want(w.ask("POST", key+"/rollback", root, "", `{"version":99,"reason":"back"}`), 404, "policy_version_not_found")
	page := w.ask("GET", key+"/history?limit=3", root, "", "")
	cursor, _ := page.fields()["next_cursor"].(string)
	if page.status != 200 || strings.Count(string(page.body), `"version"`) != 3 || cursor == "" {
		t.Fatalf("the history is %d %s", page.status, page.body)
	}
	if rest := w.ask("GET", key+"/history?limit=3&cursor="+cursor, root, "", ""); strings.Count(string(rest.body), `"version"`) != 1 || !strings.Contains(string(rest.body), `"reason":"r1"`) {
		t.Errorf("the rest is %s", rest.body)
	}
}
