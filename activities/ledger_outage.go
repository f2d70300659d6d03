package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// outageCredit is what policy gives back for one outage of the platform.
type outageCredit struct {
	period billing.Period
	amount money.Micros
	key    string
}

// forgiven is the credit for an outage that made this settlement late, nil when there was none or policy forgives
// nothing. An outage begins when the settlement was due. A settlement that is less than a window late is a usual delay; one
// that follows a late window is a further step of the same catch-up, which was credited with the first.
func (l *Ledger) forgiven(ctx context.Context, in workflows.PostWindowsIn, periods []billing.Period) (*outageCredit, error) {
	window := time.Duration(in.Meter.WindowSeconds) * time.Second
	if in.DueAt.IsZero() || in.Now.Sub(in.DueAt) < window {
		return nil, nil
	}
	seconds, err := l.policy.Int(ctx, policy.BillingOutageForgivenessSeconds)
	if err != nil || seconds == 0 {
		return nil, err
	}
	before, err := queries.UsageRecordedAt(ctx, l.pool, in.Meter.AllocationID, milliseconds(in.From))
	if err != nil {
		return nil, err
	}
	if before != nil && before.Sub(in.From) >= window {
		return nil, nil
	}
	forgivenTo := milliseconds(in.DueAt.Add(time.Duration(seconds) * time.Second))
	if last := periods[len(periods)-1].End; last.Before(forgivenTo) {
		forgivenTo = last
	}
	period := billing.Period{Start: milliseconds(in.DueAt), End: forgivenTo}
	if !period.End.After(period.Start) {
		return nil, nil
	}
	amount, err := period.Amount(in.Meter.RateMicrosPerHour, milliseconds(in.Meter.Anchor))
	if err != nil {
		return nil, fault.Wrap(err, fault.AmountOutOfRange, "The credit for an outage does not fit the ledger.")
	}
	if amount == 0 {
		return nil, nil
	}
	key := fmt.Sprintf("outage/%s/%d", in.Meter.AllocationID, period.Start.UnixMilli())
	return &outageCredit{period: period, amount: amount, key: key}, nil
}

// postForgiving posts the windows of an outage and its credit in one transaction of their own. It answers what was
// forgiven: on a repeat, what the first time gave.
func (l *Ledger) postForgiving(ctx context.Context, p *posting, credit outageCredit) (forgiven money.Micros, err error) {
	from, err := l.platformAccount(ctx, queries.AccountPlatformCredit, p.meter.Currency)
	if err != nil {
		return 0, err
	}
	if err := l.knowPlatform(ctx, p.meter.Currency); err != nil {
		return 0, err
	}
	var done *written
	err = store.InTx(ctx, l.pool, func(ctx context.Context, tx pgx.Tx) error {
		if done, err = l.write(ctx, tx, []*posting{p}); err != nil {
			return err
		}
		entryID, inserted, err := queries.InsertEntry(ctx, tx, queries.Entry{
			Kind: "outage_credit", TxnID: randomUUID(), DebitAccountID: from, CreditAccountID: p.meter.AccountID,
			Currency: p.meter.Currency, AmountMicros: credit.amount, AllocationID: p.meter.AllocationID,
			PeriodStart: &credit.period.Start, PeriodEnd: &credit.period.End, IdempotencyKey: credit.key,
		})
		if err != nil || !inserted {
			return err
		}
		return l.announce(ctx, tx, p.meter, credit.key, -credit.amount, entryID)
	})
	if err == nil {
		err = l.compared(ctx, []*posting{p}, done)
	}
	if err = l.answer(ctx, p, done.faultOf(p), err); err != nil {
		return 0, err
	}
	standing, err := queries.FindEntry(ctx, l.pool, credit.key)
	if err != nil {
		return 0, err
	}
	if standing == nil {
		return 0, errors.New("the credit for an outage is not there after it was written")
	}
	return standing.AmountMicros, nil
}

// usageRecorded is the payload of billing.usage_recorded; AmountMicros is negative for what was given back.
type usageRecorded struct {
	TenantID     string       `json:"tenant_id"`
	AccountID    string       `json:"account_id"`
	Currency     string       `json:"currency"`
	AmountMicros money.Micros `json:"amount_micros"`
	EntryIDs     []int64      `json:"entry_ids"`
}

// announce writes the outbox row of an entry that gives usage back.
func (l *Ledger) announce(ctx context.Context, db queries.DB, meter workflows.Meter, fact string, amount money.Micros, entryID int64) error {
	return queries.InsertOutbox(ctx, db, queries.Event{
		Type: event.BillingUsageRecorded, Fact: fact, AggregateID: string(meter.AccountID), OccurredAt: l.now(), CorrelationID: meter.CorrelationID,
		Payload: usageRecorded{TenantID: string(meter.TenantID), AccountID: string(meter.AccountID), Currency: meter.Currency,
			AmountMicros: amount, EntryIDs: []int64{entryID}},
	})
}
