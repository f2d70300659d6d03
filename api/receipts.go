package api

import (
	"context"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/statement"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type receiptBody struct {
	Number        string     `json:"number" doc:"D for a deposit or R for a refund, the year of the entry, and the entry."`
	Kind          string     `json:"kind" enum:"deposit,refund"`
	LedgerEntryID int64      `json:"ledger_entry_id" doc:"The entry that every figure is of."`
	PostedAt      moment     `json:"posted_at"`
	SettledAt     moment     `json:"settled_at" doc:"When the money was received, or was on its way back for good."`
	AccountID     id.Account `json:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
	TenantID      id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	TenantName    string     `json:"tenant_name"`
	Seller        sellerBody `json:"seller"`
	AmountMicros  int64      `json:"amount_micros"`
	Currency      string     `json:"currency" pattern:"^[a-z]{3}$"`
	Tax           taxBody    `json:"tax"`
	PaymentID     id.Payment `json:"payment_id" pattern:"^pay_[a-z2-7]{26}$"`
	Method        string     `json:"method" enum:"checkout,auto_topup"`
	RefundID      id.Refund  `json:"refund_id,omitempty" pattern:"^ref_[a-z2-7]{26}$" doc:"Of a refund alone."`
	Reason        string     `json:"reason,omitempty" doc:"Of a refund alone."`
}

type receiptOut struct{ Body receiptBody }

// ReceiptFormat is what a receipt is written as.
type ReceiptFormat struct {
	Format string `query:"format" enum:"csv,pdf" default:"pdf"`
}

type paymentReceiptDocumentIn struct {
	PaymentPath
	ReceiptFormat
}

type refundReceiptDocumentIn struct {
	RefundPath
	ReceiptFormat
}

func (s *server) receiptOperations() {
	handle(s, "getPaymentReceipt", func(ctx context.Context, _ *PaymentPath) (*receiptOut, error) {
		return shownReceipt(s.paymentReceipt(ctx))
	})
	handle(s, "getPaymentReceiptDocument", func(ctx context.Context, in *paymentReceiptDocumentIn) (*statementDocumentOut, error) {
		receipt, err := s.paymentReceipt(ctx)
		return receiptDocument(receipt, err, in.Format)
	})
	handle(s, "getRefundReceipt", func(ctx context.Context, _ *RefundPath) (*receiptOut, error) {
		return shownReceipt(s.refundReceipt(ctx))
	})
	handle(s, "getRefundReceiptDocument", func(ctx context.Context, in *refundReceiptDocumentIn) (*statementDocumentOut, error) {
		receipt, err := s.refundReceipt(ctx)
		return receiptDocument(receipt, err, in.Format)
	})
}

func (s *server) paymentReceipt(ctx context.Context) (billing.Receipt, error) {
	row, found := middleware.At(ctx).Object.(queries.Payment)
	if !found {
		return billing.Receipt{}, fault.New(fault.PaymentNotFound, "")
	}
	return s.statements.OfPayment(ctx, row)
}

func (s *server) refundReceipt(ctx context.Context) (billing.Receipt, error) {
	row, found := middleware.At(ctx).Object.(queries.Refund)
	if !found {
		return billing.Receipt{}, fault.New(fault.RefundNotFound, "")
	}
	paid, err := queries.GetPayment(ctx, s.config.Pool, row.TenantID, row.PaymentID)
	if err != nil {
		return billing.Receipt{}, err
	}
	return s.statements.OfRefund(ctx, row, paid.Method)
}

func shownReceipt(receipt billing.Receipt, err error) (*receiptOut, error) {
	if err != nil {
		return nil, err
	}
	return &receiptOut{Body: receiptBody{
		Number: receipt.Number(), Kind: string(receipt.Kind), LedgerEntryID: receipt.EntryID, PostedAt: moment(receipt.PostedAt), SettledAt: moment(receipt.SettledAt),
		AccountID: receipt.AccountID, TenantID: receipt.TenantID, TenantName: receipt.TenantName,
		Seller:       sellerBody{LegalName: receipt.Seller.LegalName, Address: receipt.Seller.Address, TaxNumber: receipt.Seller.TaxNumber},
		AmountMicros: int64(receipt.AmountMicros), Currency: receipt.Currency,
		Tax:       taxBody{Name: receipt.Tax.Name, BasisPoints: receipt.Tax.BasisPoints, ContainedMicros: int64(receipt.TaxMicros())},
		PaymentID: receipt.PaymentID, Method: receipt.Method, RefundID: receipt.RefundID, Reason: receipt.Reason,
	}}, nil
}

func receiptDocument(receipt billing.Receipt, err error, format string) (*statementDocumentOut, error) {
	if err != nil {
		return nil, err
	}
	return documentOf("receipt-"+receipt.Number(), format, receipt, statement.WriteReceiptCSV, statement.WriteReceiptPDF)
}
