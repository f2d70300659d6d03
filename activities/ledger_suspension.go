package activities

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// SettleSuspension takes [From, To) out of a bill, in one transaction: the windows before From are posted, the last of them
// prorated, then the time of the suspension as one period of usage that runs through, and one credit of exactly what it
// costs. A repeat answers the same bill.
func (l *Ledger) SettleSuspension(ctx context.Context, in workflows.SettleSuspensionIn) (workflows.SettleEndOut, error) {
	in.Meter.Anchor, in.From, in.To = milliseconds(in.Meter.Anchor), milliseconds(in.From), milliseconds(in.To)
	if in.From.Before(in.Meter.Anchor) || !in.To.After(in.From) {
		return workflows.SettleEndOut{}, fault.Newf(fault.InvalidRequest, "The suspension of %s cannot end before it began.", in.Meter.AllocationID)
	}
	return l.settling(ctx, in.Meter, func(ctx context.Context, tx pgx.Tx) error {
		ends, err := queries.LastPostedEnds(ctx, tx, []id.Allocation{in.Meter.AllocationID})
		if err != nil {
			return err
		}
		postedTo := in.Meter.Anchor
		if last := ends[in.Meter.AllocationID].PostedTo; last != nil {
			postedTo = *last
		}
		if postedTo.Before(in.To) {
			if err := l.postThrough(ctx, tx, in, postedTo); err != nil {
				return err
			}
		}
		return l.creditSuspension(ctx, tx, in)
	})
}

// postThrough brings the chain of usage to the end of the suspension.
func (l *Ledger) postThrough(ctx context.Context, tx pgx.Tx, in workflows.SettleSuspensionIn, postedTo time.Time) error {
	window := time.Duration(in.Meter.WindowSeconds) * time.Second
	end := postedTo
	periods := billing.Windows(in.Meter.Anchor, postedTo, in.From, window, math.MaxInt)
	if end.Before(in.From) {
		end = in.From
	}
	return l.postBehind(ctx, tx, in.Meter, postedTo, append(periods, billing.Period{Start: end, End: in.To}))
}

// creditSuspension gives back what the suspended time costs, once.
func (l *Ledger) creditSuspension(ctx context.Context, tx pgx.Tx, in workflows.SettleSuspensionIn) error {
	period := billing.Period{Start: in.From, End: in.To}
	amount, err := period.Amount(in.Meter.RateMicrosPerHour, in.Meter.Anchor)
	if err != nil {
		return fault.Wrap(err, fault.AmountOutOfRange, "The credit for a suspension does not fit the ledger.")
	}
	if amount == 0 {
		return nil
	}
	revenue, err := l.platformAccount(ctx, queries.AccountPlatformRevenue, in.Meter.Currency)
	if err != nil {
		return err
	}
	key := suspensionKey(in.Meter.AllocationID, in.From)
	entryID, inserted, err := queries.InsertEntry(ctx, tx, queries.Entry{
		Kind: "suspension_credit", TxnID: randomUUID(), DebitAccountID: revenue, CreditAccountID: in.Meter.AccountID,
		Currency: in.Meter.Currency, AmountMicros: amount, AllocationID: in.Meter.AllocationID,
		PeriodStart: &period.Start, PeriodEnd: &period.End, IdempotencyKey: key,
	})
	if err != nil {
		return err
	}
	if inserted {
		return l.announce(ctx, tx, in.Meter, key, -amount, entryID)
	}
	standing, err := queries.FindEntry(ctx, tx, key)
	switch {
	case err != nil:
		return err
	case standing == nil:
		return errors.New("the credit for a suspension is not there although it stands")
	case standing.AmountMicros != amount:
		return fault.Newf(fault.LedgerConflict, "The suspension of %s was settled with another end.", in.Meter.AllocationID)
	default:
		return nil
	}
}

// suspensionKey is the idempotency key of what a suspension gives back: an allocation is suspended once at an instant.
func suspensionKey(allocationID id.Allocation, from time.Time) string {
	return fmt.Sprintf("suspension/%s/%d", allocationID, from.UnixMilli())
}
