//go:build integration

package api_test

import (
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
)

// usageOf reads one reply of usage.
type usageOf struct {
	Items []struct {
		Day          string `json:"day"`
		AllocationID string `json:"allocation_id"`
		NetMicros    int64  `json:"net_micros"`
		MeteredMS    int64  `json:"metered_ms"`
	} `json:"items"`
	Total struct {
		NetMicros int64 `json:"net_micros"`
		Entries   int64 `json:"entries"`
	} `json:"total"`
}

// A tenant that used nodes reads the same money in the ledger, in each grouping of its usage, in the statement and in its CSV; the
// seller and the tax are what policy says, and nobody else reads any of it.
func TestUsageAndStatementAreTheLedger(t *testing.T) {
	w := newWorld(t, 2)
	w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.window_seconds', 1, '1', 'platform'),
		('billing.legal_name', 1, '"Example Compute Ltd."', 'platform'), ('billing.tax_name', 1, '"VAT"', 'platform'), ('billing.tax_basis_points', 1, '2000', 'platform')`)
	ada := w.token("ada")
	for range 2 {
		path := w.activeAllocation(ada)
		w.ask("POST", path+"/release", ada, "", "")
		w.reach(path, ada, "released")
	}
	month := time.Now().UTC().Format("2006-01")

	var charged, all int64
	for _, entry := range items(w.ask("GET", "/api/v1/billing/ledger?limit=200", ada, "", "")) {
		micros := int64(entry["amount_micros"].(float64))
		all += micros
		if entry["allocation_id"] != nil {
			charged -= micros
		}
	}
	if charged <= 0 {
		t.Fatal("nothing was charged: there is nothing to compare")
	}
	for _, by := range []string{"day", "project", "sku", "allocation", "day,project,sku,allocation"} {
		var usage usageOf
		got := w.ask("GET", "/api/v1/billing/usage?group_by="+by, ada, "", "")
		if err := json.Unmarshal(got.body, &usage); err != nil || got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		var sum int64
		for _, item := range usage.Items {
			sum += item.NetMicros
		}
		if sum != charged || usage.Total.NetMicros != charged || usage.Total.Entries == 0 {
			t.Errorf("by %s the usage is %d, in total %d, and the ledger says %d", by, sum, usage.Total.NetMicros, charged)
		}
		if by == "allocation" && len(usage.Items) != 2 {
			t.Errorf("two allocations are %d lines", len(usage.Items))
		}
	}

	statement := w.ask("GET", "/api/v1/billing/statements/"+month, ada, "", "").fields()
	seller, _ := statement["seller"].(map[string]any)
	tax, _ := statement["tax"].(map[string]any)
	if statement["closing_micros"] != float64(all) || statement["opening_micros"] != float64(0) || statement["net_usage_micros"] != float64(charged) ||
		seller["legal_name"] != "Example Compute Ltd." || tax["contained_micros"] != float64(charged*2000/12000) || statement["final"] != false {
		t.Errorf("the statement is %v; the ledger holds %d, of which %d was charged", statement, all, charged)
	}
	document := w.ask("GET", "/api/v1/billing/statements/"+month+"/document?format=csv", ada, "", "")
	rows, err := csv.NewReader(strings.NewReader(string(document.body))).ReadAll()
	if err != nil || document.status != 200 {
		t.Fatalf("%d %s: %v", document.status, document.body, err)
	}
	if last := rows[len(rows)-1]; last[7] != strconv.FormatInt(all, 10) {
		t.Errorf("the CSV closes at %s, the ledger at %d", last[7], all)
	}
	if pdf := w.ask("GET", "/api/v1/billing/statements/"+month+"/document?format=pdf", ada, "", ""); pdf.status != 200 || !strings.HasPrefix(string(pdf.body), "%PDF-") ||
		pdf.header.Get("Content-Type") != "application/pdf" {
		t.Errorf("the PDF is %d %s", pdf.status, pdf.header.Get("Content-Type"))
	}

	grace := w.token("grace")
	w.ask("GET", "/api/v1/me", grace, "", "")
	w.want(w.ask("GET", "/api/v1/billing/statements/"+month+"?tenant_id="+w.tenantOf("ada"), grace, "", ""), 404, "tenant_not_found")
	w.want(w.ask("GET", "/api/v1/billing/statements/2001-01", ada, "", ""), 404, "statement_not_found")
	w.want(w.ask("GET", "/api/v1/billing/statements/2099-01", ada, "", ""), 404, "statement_not_found")
	w.want(w.ask("GET", "/api/v1/billing/statements/2026-13", ada, "", ""), 422, "validation_error")
	w.want(w.ask("GET", "/api/v1/billing/usage?from=2026-02-30", ada, "", ""), 422, "validation_error")
	w.want(w.ask("GET", "/api/v1/billing/usage?from=2024-01-01&to=2026-01-01", ada, "", ""), 422, "validation_error")
	w.want(w.ask("GET", "/api/v1/billing/usage?from=2026-02-01&to=2026-02-01", ada, "", ""), 422, "validation_error")
	w.want(w.ask("GET", "/api/v1/billing/usage?group_by=colour", ada, "", ""), 422, "validation_error")
}
