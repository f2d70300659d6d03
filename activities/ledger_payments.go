package activities

import (
	"context"
	"fmt"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// knowProvider reads the platform's accounts that money from and to the payment provider passes; see knowPlatform.
func (l *Ledger) knowProvider(ctx context.Context, currency string) error {
	for _, kind := range []string{queries.AccountPlatformStripeClearing, queries.AccountPlatformRefundsPending, queries.AccountPlatformDisputes} {
		if _, err := l.platformAccount(ctx, kind, currency); err != nil {
			return err
		}
	}
	return nil
}

// transfer posts one entry of a fact, or finds the one that stands for it, which must be the same. posted is false for a repeat.
func (l *Ledger) transfer(ctx context.Context, db queries.DB, entry queries.Entry) (entryID int64, posted bool, err error) {
	entry.TxnID = randomUUID()
	entryID, posted, err = queries.InsertEntry(ctx, db, entry)
	if err != nil || posted {
		return entryID, posted, err
	}
	standing, err := queries.FindEntry(ctx, db, entry.IdempotencyKey)
	if err != nil {
		return 0, false, err
	}
	if standing == nil {
		return 0, false, fmt.Errorf("the entry %s was refused as a repeat and does not stand", entry.IdempotencyKey)
	}
	same := standing.Kind == entry.Kind && standing.AmountMicros == entry.AmountMicros && standing.Currency == entry.Currency &&
		standing.DebitAccountID == entry.DebitAccountID && standing.CreditAccountID == entry.CreditAccountID
	if !same {
		l.stats.conflicts.Add(1)
		l.log.ErrorContext(ctx, "alarm: an entry stands otherwise than its fact says", "entry_id", standing.ID, "kind", entry.Kind)
		return 0, false, fault.Newf(fault.LedgerConflict, "The entry of this fact stands with another amount or account.")
	}
	return standing.ID, false, nil
}
