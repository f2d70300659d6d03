package activities

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// SettleEnd closes a meter at To in one transaction: it shuts the meter in the database, so that no late posting
// passes To any more, posts what is missing with the last window prorated, or credits what was posted beyond To.
// Afterwards usage less credits is C(To − Anchor) less what outages and suspensions gave back. A repeat answers the same bill; another
// To is fault.LedgerConflict.
func (l *Ledger) SettleEnd(ctx context.Context, in workflows.SettleEndIn) (workflows.SettleEndOut, error) {
	in.To = milliseconds(in.To)
	in.Meter.Anchor = milliseconds(in.Meter.Anchor)
	if in.To.Before(in.Meter.Anchor) {
		return workflows.SettleEndOut{}, fault.Newf(fault.InvalidRequest, "The meter of %s cannot end before it began.", in.Meter.AllocationID)
	}
	return l.settling(ctx, in.Meter, func(ctx context.Context, tx pgx.Tx) error { return l.settle(ctx, tx, in) })
}

// settling makes a settlement in one transaction, again when it lost a race, and answers the bill as it stands then. What the
// database refuses is fault.LedgerConflict, and an alarm.
func (l *Ledger) settling(ctx context.Context, meter workflows.Meter, settle func(context.Context, pgx.Tx) error) (workflows.SettleEndOut, error) {
	if err := l.knowPlatform(ctx, meter.Currency); err != nil {
		return workflows.SettleEndOut{}, err
	}
	var out workflows.SettleEndOut
	once := func() error {
		return store.InTx(ctx, l.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
			if err := settle(ctx, tx); err != nil {
				return err
			}
			out, err = bill(ctx, tx, meter)
			return err
		})
	}
	err := once()
	for attempt := 1; attempt < raceAttempts && lostARace(err); attempt++ {
		err = once()
	}
	if refused(err) {
		l.log.ErrorContext(ctx, "alarm: the database refuses a settlement", "allocation_id", meter.AllocationID, "error", err.Error())
		return workflows.SettleEndOut{}, fault.Wrap(err, fault.LedgerConflict, "The ledger refuses the settlement of this allocation.")
	}
	return out, err
}

func bill(ctx context.Context, tx pgx.Tx, meter workflows.Meter) (workflows.SettleEndOut, error) {
	totals, err := queries.LedgerAllocationTotals(ctx, tx, meter.TenantID, meter.AccountID, meter.AllocationID)
	if err != nil {
		return workflows.SettleEndOut{}, err
	}
	balance, err := queries.Balance(ctx, tx, meter.AccountID)
	return workflows.SettleEndOut{ChargedMicros: totals.UsageMicros, CreditedMicros: totals.CreditMicros, BalanceMicros: balance}, err
}

func (l *Ledger) settle(ctx context.Context, tx pgx.Tx, in workflows.SettleEndIn) error {
	closed, end, err := queries.CloseMeter(ctx, tx, in.Meter.AllocationID, in.Meter.AccountID, in.To)
	if err != nil {
		return err
	}
	if !end.Equal(in.To) {
		return l.conflict(ctx, in.Meter, fmt.Sprintf("The meter of %s was settled at %s, not at %s.",
			in.Meter.AllocationID, end.Format(time.RFC3339Nano), in.To.Format(time.RFC3339Nano)))
	}
	if !closed {
		return nil
	}
	return l.settleDifference(ctx, tx, in)
}

// settleDifference brings the ledger from where posting got to, to the meter's end.
func (l *Ledger) settleDifference(ctx context.Context, tx pgx.Tx, in workflows.SettleEndIn) error {
	ends, err := queries.LastPostedEnds(ctx, tx, []id.Allocation{in.Meter.AllocationID})
	if err != nil {
		return err
	}
	postedTo := in.Meter.Anchor
	if last := ends[in.Meter.AllocationID].PostedTo; last != nil {
		postedTo = *last
	}
	if postedTo.After(in.To) {
		return l.creditBeyond(ctx, tx, in, postedTo)
	}
	window := time.Duration(in.Meter.WindowSeconds) * time.Second
	return l.postBehind(ctx, tx, in.Meter, postedTo, billing.Windows(in.Meter.Anchor, postedTo, in.To, window, math.MaxInt))
}

// postBehind posts periods behind the end of a meter's chain, as many in a statement as may be. What stands there already is a conflict.
func (l *Ledger) postBehind(ctx context.Context, tx pgx.Tx, meter workflows.Meter, postedTo time.Time, periods []billing.Period) error {
	for len(periods) > 0 {
		part := periods[:min(len(periods), MaxStatementWindows)]
		periods = periods[len(part):]
		p, err := newPosting(meter, part)
		if err != nil {
			return err
		}
		done, err := l.write(ctx, tx, []*posting{p})
		if err != nil {
			return err
		}
		if done.inserted != len(part) {
			return l.conflict(ctx, meter, fmt.Sprintf("The chain of %s ends at %s, yet a window stands behind it.", meter.AllocationID, postedTo.Format(time.RFC3339Nano)))
		}
	}
	return nil
}

// creditBeyond gives back what was posted beyond the meter's end, less what an outage or a suspension gave back of it already.
func (l *Ledger) creditBeyond(ctx context.Context, tx pgx.Tx, in workflows.SettleEndIn, postedTo time.Time) error {
	beyond := billing.Period{Start: in.To, End: postedTo}
	amount, err := beyond.Amount(in.Meter.RateMicrosPerHour, in.Meter.Anchor)
	if err != nil {
		return fault.Wrap(err, fault.AmountOutOfRange, "The credit of a settlement does not fit the ledger.")
	}
	forgiven, err := forgivenBeyond(ctx, tx, in)
	if err != nil {
		return err
	}
	if amount -= forgiven; amount <= 0 {
		return nil
	}
	revenue, err := l.platformAccount(ctx, queries.AccountPlatformRevenue, in.Meter.Currency)
	if err != nil {
		return err
	}
	key := "settle/" + string(in.Meter.AllocationID)
	entryID, inserted, err := queries.InsertEntry(ctx, tx, queries.Entry{
		Kind: "usage_credit", TxnID: randomUUID(), DebitAccountID: revenue, CreditAccountID: in.Meter.AccountID,
		Currency: in.Meter.Currency, AmountMicros: amount, AllocationID: in.Meter.AllocationID,
		PeriodStart: &beyond.Start, PeriodEnd: &beyond.End, IdempotencyKey: key,
	})
	if err != nil {
		return err
	}
	if !inserted {
		return l.conflict(ctx, in.Meter, fmt.Sprintf("A settlement credit of %s stands although its meter was open.", in.Meter.AllocationID))
	}
	return l.announce(ctx, tx, in.Meter, key, -amount, entryID)
}

// forgivenBeyond is the part of what outages and suspensions gave back that lies beyond the meter's end.
func forgivenBeyond(ctx context.Context, tx pgx.Tx, in workflows.SettleEndIn) (money.Micros, error) {
	credits, err := queries.Forgiven(ctx, tx, in.Meter.AllocationID)
	if err != nil {
		return 0, err
	}
	var total money.Micros
	for _, credit := range credits {
		part := billing.Period{Start: credit.PeriodStart, End: credit.PeriodEnd}
		if part.Start.Before(in.To) {
			part.Start = in.To
		}
		if !part.End.After(part.Start) {
			continue
		}
		amount, err := part.Amount(in.Meter.RateMicrosPerHour, in.Meter.Anchor)
		if err != nil {
			return 0, err
		}
		total += amount
	}
	return total, nil
}

func (l *Ledger) conflict(ctx context.Context, meter workflows.Meter, sentence string) error {
	l.stats.conflicts.Add(1)
	l.log.ErrorContext(ctx, "alarm: "+sentence, "allocation_id", meter.AllocationID, "account_id", meter.AccountID, "correlation_id", meter.CorrelationID)
	return fault.New(fault.LedgerConflict, sentence)
}
