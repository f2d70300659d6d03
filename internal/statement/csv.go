package statement

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
)

// CSVHeader names the columns of a statement. The amounts of all lines but the opening and the closing balance add up to the
// difference of the two.
func CSVHeader() []string {
	return []string{"line", "day", "project_id", "sku", "allocation_id", "metered_ms", "entries", "amount_micros", "amount", "currency"}
}

// WriteCSV writes a statement as RFC 4180 text: the opening balance, usage and what was given back of it by day and allocation,
// the other movements by kind, the closing balance. Amounts are signed as the account sees them.
func WriteCSV(w io.Writer, s billing.Statement) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	write := func(line string, about billing.UsageLine, amount money.Micros) error {
		day := ""
		if !about.Day.IsZero() {
			day = about.Day.Format(time.DateOnly)
		}
		return out.Write([]string{
			line, day, string(about.ProjectID), plain(string(about.SKU)), string(about.AllocationID), strconv.FormatInt(about.MeteredMS, 10),
			strconv.FormatInt(about.Entries, 10), strconv.FormatInt(int64(amount), 10), Amount(amount), s.Currency,
		})
	}
	err := out.Write(CSVHeader())
	if err == nil {
		err = write("opening_balance", billing.UsageLine{}, s.OpeningMicros)
	}
	for _, line := range s.Usage {
		if err == nil {
			err = write("usage", line, -line.NetMicros())
		}
	}
	for _, movement := range s.Others() {
		if err == nil {
			err = write(movement.Kind, billing.UsageLine{Entries: movement.Entries}, movement.AmountMicros)
		}
	}
	if err == nil {
		err = write("closing_balance", billing.UsageLine{}, s.ClosingMicros)
	}
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	if err != nil {
		return fmt.Errorf("write a statement as CSV: %w", err)
	}
	return nil
}

// ReceiptCSVHeader names the columns of a receipt.
func ReceiptCSVHeader() []string {
	return []string{
		"number", "kind", "posted_at", "settled_at", "amount_micros", "amount", "currency", "tax_name", "tax_basis_points", "tax_contained_micros", "seller", "seller_address",
		"seller_tax_number", "tenant_id", "tenant_name", "account_id", "payment_id", "method", "refund_id", "reason", "ledger_entry_id",
	}
}

// WriteReceiptCSV writes a receipt as RFC 4180 text of one line below its header.
func WriteReceiptCSV(w io.Writer, r billing.Receipt) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	err := out.WriteAll([][]string{ReceiptCSVHeader(), {
		r.Number(), string(r.Kind), r.PostedAt.Format(time.RFC3339Nano), r.SettledAt.Format(time.RFC3339Nano), strconv.FormatInt(int64(r.AmountMicros), 10), Amount(r.AmountMicros),
		r.Currency, plain(r.Tax.Name), strconv.FormatInt(r.Tax.BasisPoints, 10), strconv.FormatInt(int64(r.TaxMicros()), 10), plain(r.Seller.LegalName), plain(r.Seller.Address),
		plain(r.Seller.TaxNumber), string(r.TenantID), plain(r.TenantName), string(r.AccountID), string(r.PaymentID), r.Method, string(r.RefundID), plain(r.Reason),
		strconv.FormatInt(r.EntryID, 10),
	}})
	if err != nil {
		return fmt.Errorf("write a receipt as CSV: %w", err)
	}
	return nil
}

// plain keeps a text that people chose from being read as a formula by a spreadsheet.
func plain(text string) string {
	if strings.IndexAny(text, "=+-@\t\r") == 0 {
		return "'" + text
	}
	return text
}

// Amount writes micros as a decimal number of the currency with six places, nothing rounded.
func Amount(micros money.Micros) string {
	sign, rest := "", uint64(micros) //nolint:gosec // the sign is taken off below
	if micros < 0 {
		sign, rest = "-", -rest
	}
	return fmt.Sprintf("%s%d.%06d", sign, rest/1_000_000, rest%1_000_000)
}
