//go:build integration

package api_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
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

// Usage is by when it was metered, whenever it was posted; a page of the ledger by when it was posted.
func TestUsageIsByWhenItWasMetered(t *testing.T) {
	w := newWorld(t, 1)
	w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.window_seconds', 1, '1', 'platform')`)
	ada := w.token("ada")
	path := w.activeAllocation(ada)
	temporaltest.Eventually(t, time.Minute, func() error {
		if w.field(`SELECT (count(*) > 3)::text FROM ledger_entries WHERE kind = 'usage'`) != "true" {
			return errors.New("too little is billed")
		}
		return nil
	})
	w.ask("POST", path+"/release", ada, "end", `{}`)
	w.reach(path, ada, "released")
	// Half of it is posted three days after, as by somebody who was away, and its days are those of March.
	w.damage("ledger_entries", `UPDATE ledger_entries SET created_at = created_at + interval '3 days' WHERE id > (SELECT (min(id) + max(id)) / 2 FROM ledger_entries WHERE kind = 'usage')`)
	w.damage("ledger_entries", `UPDATE ledger_entries SET period_start = period_start - (now() - '2026-03-05 12:00Z'::timestamptz), period_end = period_end - (now() - '2026-03-05 12:00Z'::timestamptz),
		prev_end = prev_end - (now() - '2026-03-05 12:00Z'::timestamptz) WHERE period_start IS NOT NULL`)
	w.damage("allocations", `UPDATE allocations SET metered_from = '2026-03-05 11:00Z'`)
	entries := w.field(`SELECT count(*)::text FROM ledger_entries WHERE allocation_id IS NOT NULL`)
	net := w.field(`SELECT sum(CASE kind WHEN 'usage' THEN amount_micros ELSE -amount_micros END)::text FROM ledger_entries WHERE allocation_id IS NOT NULL`)
	for days, want := range map[string]string{"from=2026-03-05&to=2026-03-06": entries + " " + net, "from=2026-03-04&to=2026-03-05": "0 0", "from=2026-03-06&to=2026-03-20": "0 0"} {
		var usage usageOf
		got := w.ask("GET", "/api/v1/billing/usage?group_by=day&"+days, ada, "", "")
		if err := json.Unmarshal(got.body, &usage); err != nil || fmt.Sprint(usage.Total.Entries, " ", usage.Total.NetMicros) != want {
			t.Errorf("%s is %s, and not %s", days, got.body, want)
		}
	}
	w.want(w.ask("GET", "/api/v1/billing/ledger?since=yesterday", ada, "", ""), 422, "validation_error")
	all := len(items(w.ask("GET", "/api/v1/billing/ledger?limit=200", ada, "", "")))
	late := w.field(`SELECT to_char(min(created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') FROM ledger_entries WHERE kind = 'usage' AND created_at > now() + interval '1 day'`)
	for _, of := range []string{"", "&allocation_id=" + idOf(path)} {
		whole := all
		if of != "" {
			whole = len(items(w.ask("GET", "/api/v1/billing/ledger?limit=200"+of, ada, "", "")))
		}
		since := items(w.ask("GET", "/api/v1/billing/ledger?limit=200&since="+late+"&until=2100-01-01T00:00:00Z"+of, ada, "", ""))
		until := items(w.ask("GET", "/api/v1/billing/ledger?limit=200&until="+late+of, ada, "", ""))
		if len(since) == 0 || len(until) == 0 || len(since)+len(until) != whole {
			t.Errorf("%d entries before and %d from %s on are not %d", len(until), len(since), late, whole)
		}
		for _, entry := range since {
			if posted, _ := entry["created_at"].(string); posted < late {
				t.Errorf("one of %s is not since %s", posted, late)
			}
		}
	}
}
