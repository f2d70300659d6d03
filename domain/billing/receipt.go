package billing

import (
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// ReceiptKind says which way the money went.
type ReceiptKind string

// The kinds of receipts.
const (
	DepositReceipt ReceiptKind = "deposit"
	RefundReceipt  ReceiptKind = "refund"
)

// Receipt says that money was received, or paid back. Everything of it that is a figure is that of the ledger entry EntryID, which moved
// the account's balance.
type Receipt struct {
	Kind    ReceiptKind
	EntryID int64
	// PostedAt is when the entry was posted, SettledAt when the money was received, or was on its way for good; both UTC.
	PostedAt, SettledAt time.Time
	AccountID           id.Account
	TenantID            id.Tenant
	TenantName          string
	Currency            string
	// AmountMicros is positive either way.
	AmountMicros money.Micros
	PaymentID    id.Payment
	// RefundID and Reason are those of a refund.
	RefundID id.Refund
	Reason   string
	// Method is how it was paid.
	Method string
	Seller Seller
	// Tax names the tax that prices contain. A deposit is a payment on account and contains none: what is used of it does, and the
	// statements say how much.
	Tax Tax
}

// Number is the receipt's: the ledger's entry within the year of its posting, D for a deposit and R for a refund. No two receipts have one.
func (r Receipt) Number() string {
	letter := "D"
	if r.Kind == RefundReceipt {
		letter = "R"
	}
	return fmt.Sprintf("%s-%d-%010d", letter, r.PostedAt.UTC().Year(), r.EntryID)
}

// TaxMicros is the tax that the amount contains: none.
func (r Receipt) TaxMicros() money.Micros { return 0 }
