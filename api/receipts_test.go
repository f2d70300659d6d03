//go:build integration

package api_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What was credited, and what was paid back for good, has a receipt of its entry; nothing else has one, and nobody else reads it.
func TestAReceiptIsItsLedgerEntry(t *testing.T) {
	w := newPaymentsWorld(t)
	w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.legal_name', 1, '"Example Compute Ltd."', 'platform'),
		('billing.tax_name', 1, '"VAT"', 'platform'), ('billing.tax_basis_points', 1, '2000', 'platform')`)
	ada, eve := w.penniless("ada"), w.penniless("eve")
	open := w.deposit(ada, "open", 1000)
	w.want(w.ask("GET", "/api/v1/payments/"+open.text("id")+"/receipt", ada, "", ""), 404, "receipt_not_found")
	w.want(w.ask("GET", "/api/v1/payments/"+open.text("id")+"/receipt/document", ada, "", ""), 404, "receipt_not_found")
	payment := w.paid(ada, "d1", 3000)
	refund := w.ask("POST", "/api/v1/payments/"+payment+"/refunds", ada, "r1", `{"amount_minor":1250,"reason":"too much"}`).text("id")
	w.stands("/api/v1/refunds/"+refund, ada, "succeeded")
	for path, want := range map[string]struct {
		kind, letter, entry string
		micros              float64
	}{
		"/api/v1/payments/" + payment: {"deposit", "D", `SELECT entry_id::text FROM payments WHERE id = $1`, 30_000_000},
		"/api/v1/refunds/" + refund:   {"refund", "R", `SELECT entry_id::text FROM refunds WHERE id = $1`, 12_500_000},
	} {
		entry := w.field(want.entry, path[strings.LastIndexByte(path, '/')+1:])
		shown := w.ask("GET", path+"/receipt", ada, "", "")
		number := fmt.Sprintf("%s-%d-%010s", want.letter, time.Now().UTC().Year(), entry)
		fields := shown.fields()
		seller, _ := fields["seller"].(map[string]any)
		tax, _ := fields["tax"].(map[string]any)
		if shown.text("number") != number || shown.text("kind") != want.kind || fields["amount_micros"] != want.micros || fmt.Sprint(fields["ledger_entry_id"]) != entry ||
			seller["legal_name"] != "Example Compute Ltd." || tax["name"] != "VAT" || tax["contained_micros"] != float64(0) {
			t.Errorf("%s has the receipt %s", path, shown.body)
		}
		document := w.ask("GET", path+"/receipt/document", ada, "", "")
		if again := w.ask("GET", path+"/receipt/document", ada, "", ""); !bytes.HasPrefix(document.body, []byte("%PDF-")) || !bytes.Equal(document.body, again.body) ||
			!strings.Contains(document.header.Get("Content-Disposition"), number) {
			t.Errorf("%s has the document %d %v of %d bytes", path, document.status, document.header, len(document.body))
		}
		rows, err := csv.NewReader(bytes.NewReader(w.ask("GET", path+"/receipt/document?format=csv", ada, "", "").body)).ReadAll()
		if err != nil || len(rows) != 2 || rows[1][0] != number || rows[1][4] != fmt.Sprint(int64(want.micros)) || rows[1][20] != entry || rows[1][10] != "Example Compute Ltd." {
			t.Errorf("%s has the lines %q: %v", path, rows, err)
		}
		// Whoever sells later did not sell then.
		w.exec(`INSERT INTO policy_values (key, version, value, actor_user_id) SELECT 'billing.legal_name', max(version) + 1, '"Another Ltd."', 'platform' FROM policy_values WHERE key = 'billing.legal_name'`)
		if again := w.ask("GET", path+"/receipt", ada, "", ""); !bytes.Equal(again.body, shown.body) {
			t.Errorf("after a change of policy %s has the receipt %s", path, again.body)
		}
		w.want(w.ask("GET", path+"/receipt/document?format=html", ada, "", ""), 422, "validation_error")
		w.want(w.ask("GET", path+"/receipt", eve, "", ""), 404, map[string]string{"deposit": "payment_not_found", "refund": "refund_not_found"}[want.kind])
	}
	// A refund that came back was not paid back, and an entry that is not what was paid has no receipt.
	w.stripe.Order("refund", map[string]any{"refund": w.atStripe(refund), "outcome": "failed"})
	w.stands("/api/v1/refunds/"+refund, ada, "failed")
	w.want(w.ask("GET", "/api/v1/refunds/"+refund+"/receipt", ada, "", ""), 404, "receipt_not_found")
	w.exec(`ALTER TABLE payments DISABLE TRIGGER payments_are_facts`)
	w.exec(`UPDATE payments SET amount_micros = amount_micros + 1 WHERE id = $1`, payment)
	w.exec(`ALTER TABLE payments ENABLE ALWAYS TRIGGER payments_are_facts`)
	w.want(w.ask("GET", "/api/v1/payments/"+payment+"/receipt", ada, "", ""), 500, "internal_error")
}
