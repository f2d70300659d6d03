package statement_test

import (
	"bytes"
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ledongthuc/pdf"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/statement"
)

var march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func sample(t *testing.T) billing.Statement {
	t.Helper()
	activity := []billing.Activity{
		{Kind: billing.KindUsage, AllocationID: "alloc_a", Day: march, AmountMicros: -24_000_001, MeteredMS: 3_600_500, Entries: 61},
		{Kind: "outage_credit", AllocationID: "alloc_a", Day: march, AmountMicros: 1_000_000, Entries: 1},
		{Kind: "adjustment_credit", AmountMicros: 7, Entries: 1},
	}
	made, err := billing.NewStatement(billing.Statement{
		AccountID: "acct_a", TenantID: "tenant_a", TenantName: "Müller & Søn", Currency: "usd", From: march, To: march.AddDate(0, 1, 0),
		Seller: billing.Seller{LegalName: "Example Compute Ltd.", Address: "1 Example Street\nOrléans", TaxNumber: "EX123"},
		Tax:    billing.Tax{Name: "VAT", BasisPoints: 2000}, OpeningMicros: 50_000_000, ClosingMicros: 27_000_006, Final: true,
	}, activity, map[id.Allocation]billing.Held{"alloc_a": {ProjectID: "proj_a", SKU: "=cmd()"}})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// The lines between the two balances add up to their difference, and no text of a tenant's is a formula.
func TestCSVAddsUp(t *testing.T) {
	var out bytes.Buffer
	if err := statement.WriteCSV(&out, sample(t)); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	sum, opening, closing := int64(0), int64(0), int64(0)
	for _, row := range rows[1:] {
		micros, err := strconv.ParseInt(row[7], 10, 64)
		if err != nil || row[8] != statement.Amount(money.Micros(micros)) {
			t.Fatalf("the row %q: %v", row, err)
		}
		switch row[0] {
		case "opening_balance":
			opening = micros
		case "closing_balance":
			closing = micros
		default:
			sum += micros
		}
		if strings.HasPrefix(row[3], "=") {
			t.Errorf("a spreadsheet reads %q as a formula", row[3])
		}
	}
	if opening+sum != closing || closing != 27_000_006 || len(rows) != 5 {
		t.Errorf("%d + %d ≠ %d in %q", opening, sum, closing, rows)
	}
}

func TestPDFSaysWhatTheStatementSays(t *testing.T) {
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := statement.WritePDF(out, sample(t)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same statement is two documents")
	}
	document, err := pdf.NewReader(bytes.NewReader(first.Bytes()), int64(first.Len()))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := document.GetPlainText()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Statement March 2026", "Example Compute Ltd.", "Orléans", "Müller & Søn", "50.000000", "27.000006", "23.000001", "VAT contained in usage (20.00 %)", "3.833333", "1:00:00.500", "alloc_a", "2026-03-01"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the document does not say %q: %s", want, text)
		}
	}
}

// A tenant is named as it likes, and somebody else gives reasons: nothing of that keeps a document from being made.
func TestADocumentIsMadeOfAnyText(t *testing.T) {
	for _, text := range []string{"Compute \U0001F680", "\U0010FFFF", "\U000AFBD6", "日本語", "עברית", "a\u0301\u200d\ufeff", "\x01\t\r\n\u2028", "\xff", strings.Repeat("\U0001F680", 500)} {
		made := sample(t)
		made.TenantName, made.Seller.LegalName, made.Seller.Address, made.Tax.Name = text, text, text, text
		if err := statement.WritePDF(io.Discard, made); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		for _, kind := range []billing.ReceiptKind{billing.DepositReceipt, billing.RefundReceipt} {
			receipt := billing.Receipt{Kind: kind, TenantName: text, Seller: made.Seller, Tax: made.Tax, Reason: text, Currency: "usd"}
			if err := statement.WriteReceiptPDF(io.Discard, receipt); err != nil {
				t.Errorf("%s %q: %v", kind, text, err)
			}
		}
	}
}

func TestAmountsAreWrittenInFull(t *testing.T) {
	for micros, want := range map[money.Micros]string{0: "0.000000", -1: "-0.000001", 1_234_567: "1.234567", -9_223_372_036_854_775_808: "-9223372036854.775808"} {
		if got := statement.Amount(micros); got != want {
			t.Errorf("%d is written %s", micros, got)
		}
	}
}
