package billing_test

import (
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
)

func TestAReceiptIsNumberedByItsEntry(t *testing.T) {
	newYear := time.Date(2027, 1, 1, 0, 30, 0, 0, time.FixedZone("east", 3600))
	for want, receipt := range map[string]billing.Receipt{
		"D-2026-0000004712":          {Kind: billing.DepositReceipt, EntryID: 4712, PostedAt: newYear},
		"R-2027-9223372036854775807": {Kind: billing.RefundReceipt, EntryID: 1<<63 - 1, PostedAt: newYear.Add(time.Hour)},
	} {
		if got := receipt.Number(); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}
