package statement

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// OfPayment is the receipt of a deposit. Fault: ReceiptNotFound where it was not credited.
func (r *Reader) OfPayment(ctx context.Context, paid queries.Payment) (billing.Receipt, error) {
	if paid.State != payment.Credited || paid.EntryID == nil || paid.CreditedAt == nil {
		return billing.Receipt{}, fault.New(fault.ReceiptNotFound, "")
	}
	return r.receipt(ctx, billing.Receipt{
		Kind: billing.DepositReceipt, EntryID: *paid.EntryID, SettledAt: paid.CreditedAt.UTC(), AccountID: paid.AccountID, TenantID: paid.TenantID,
		Currency: paid.Currency, PaymentID: paid.ID, Method: paid.Method,
	}, paid.AmountMicros)
}

// OfRefund is the receipt of a refund of a payment. Fault: ReceiptNotFound where it is not settled, or came back.
func (r *Reader) OfRefund(ctx context.Context, refund queries.Refund, method string) (billing.Receipt, error) {
	if refund.State != payment.RefundSucceeded || refund.EndedAt == nil {
		return billing.Receipt{}, fault.New(fault.ReceiptNotFound, "")
	}
	return r.receipt(ctx, billing.Receipt{
		Kind: billing.RefundReceipt, EntryID: refund.EntryID, SettledAt: refund.EndedAt.UTC(), AccountID: refund.AccountID, TenantID: refund.TenantID,
		Currency: refund.Currency, PaymentID: refund.PaymentID, RefundID: refund.ID, Reason: refund.Reason, Method: method,
	}, -refund.AmountMicros)
}

// receipt fills in what the ledger says of the entry, and who sells and buys. Where the entry is not what was paid, that is an error.
func (r *Reader) receipt(ctx context.Context, receipt billing.Receipt, moved money.Micros) (billing.Receipt, error) {
	err := r.atOnce(ctx, func(tx pgx.Tx) error {
		entries, err := queries.LedgerEntries(ctx, tx, queries.LedgerPage{TenantID: receipt.TenantID, AccountID: receipt.AccountID, BeforeID: receipt.EntryID + 1, Limit: 1})
		if err != nil {
			return err
		}
		if len(entries) != 1 || entries[0].ID != receipt.EntryID || entries[0].AmountMicros != moved || entries[0].Currency != receipt.Currency {
			return fmt.Errorf("the entry %d of %s is not what was paid", receipt.EntryID, receipt.AccountID)
		}
		receipt.PostedAt, receipt.AmountMicros = entries[0].CreatedAt.UTC(), max(moved, -moved)
		parties := billing.Statement{TenantID: receipt.TenantID}
		if err := describe(ctx, tx, &parties, receipt.PostedAt); err != nil {
			return err
		}
		receipt.TenantName, receipt.Seller, receipt.Tax = parties.TenantName, parties.Seller, parties.Tax
		return nil
	})
	return receipt, err
}

// methods are how a deposit was paid, for people.
var methods = map[string]string{queries.PaymentByCheckout: "Paid on the payment page", queries.PaymentByAutoTopUp: "Charged to the saved card by itself"}

// WriteReceiptPDF writes a receipt as a document to file. The same receipt is the same document, byte for byte.
func WriteReceiptPDF(w io.Writer, r billing.Receipt) error {
	title, received := "Receipt "+r.Number(), "Received"
	if r.Kind == billing.RefundReceipt {
		title, received = "Refund "+r.Number(), "Paid back"
	}
	d := newDocument(title, r.PostedAt)
	d.parties(r.Seller, r.TenantName, string(r.TenantID), string(r.AccountID))
	d.facts([][2]string{
		{"Number", r.Number()},
		{received, r.SettledAt.Format(time.DateTime) + " (UTC)"},
		{"Amount", Amount(r.AmountMicros) + " " + strings.ToUpper(r.Currency)},
		{receiptTaxLine(r.Tax), Amount(r.TaxMicros()) + " " + strings.ToUpper(r.Currency)},
		{"Payment", string(r.PaymentID)},
		{"How it was paid", orElse(methods[r.Method], r.Method)},
		{"Ledger entry", fmt.Sprint(r.EntryID)},
	})
	if r.Kind == billing.RefundReceipt {
		d.facts([][2]string{{"Refund", string(r.RefundID)}})
		d.note("Reason: " + r.Reason)
	}
	d.note("A deposit is a payment on account and carries no tax. What is used of it contains the tax that the monthly statements show.")
	if err := d.pdf.Output(w); err != nil {
		return fmt.Errorf("write a receipt as PDF: %w", err)
	}
	return nil
}

func receiptTaxLine(tax billing.Tax) string {
	return strings.Replace(taxLine(tax), "contained in usage", "contained in the amount", 1)
}
