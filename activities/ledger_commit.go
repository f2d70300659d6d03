package activities

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// commit posts the windows of several callers in one statement and answers each of them. A statement that the database
// refuses is halved until the posting it refuses stands alone: its caller alone gets the error.
func (l *Ledger) commit(ctx context.Context, postings []*posting) {
	sortPostings(postings)
	done, err := l.write(ctx, l.pool, postings)
	if refused(err) && len(postings) > 1 {
		l.stats.bisections.Add(1)
		half := len(postings) / 2
		l.commit(ctx, postings[:half])
		l.commit(ctx, postings[half:])
		return
	}
	if err == nil {
		err = l.compared(ctx, postings, done)
	}
	for _, p := range postings {
		p.done <- l.answer(ctx, p, done.faultOf(p), err)
	}
}

// sortPostings puts postings in the one order in which every statement meets the ledger's keys.
func sortPostings(postings []*posting) {
	slices.SortFunc(postings, func(a, b *posting) int {
		return cmp.Or(strings.Compare(string(a.meter.AllocationID), string(b.meter.AllocationID)), a.periods[0].Start.Compare(b.periods[0].Start))
	})
}

// written is what one statement did: how many windows are new, and who met a different entry.
type written struct {
	usage    *queries.UsageBatch
	inserted int
	faults   map[*posting]error
}

func (w *written) faultOf(p *posting) error {
	if w == nil {
		return nil
	}
	return w.faults[p]
}

// write sends the statement, again when it lost a deadlock: that says nothing about its windows.
func (l *Ledger) write(ctx context.Context, db queries.Sender, postings []*posting) (*written, error) {
	revenue, err := l.platformAccount(ctx, queries.AccountPlatformRevenue, postings[0].meter.Currency)
	if err != nil {
		return nil, err
	}
	usage := usageBatch(postings, revenue, l.now())
	for attempt := 1; ; attempt++ {
		inserted, err := queries.PostUsage(ctx, db, usage)
		if err == nil {
			l.stats.statements.Add(1)
			l.windows.Record(ctx, float64(usage.Len()))
			l.stats.posted.Add(int64(inserted))
			l.stats.repeated.Add(int64(usage.Len() - inserted))
			return &written{usage: usage, inserted: inserted}, nil
		}
		if _, inTransaction := db.(pgx.Tx); inTransaction || attempt == raceAttempts || !lostARace(err) {
			return nil, err
		}
	}
}

// usageBatch lays the postings out in columns.
func usageBatch(postings []*posting, revenue id.Account, now time.Time) *queries.UsageBatch {
	windows := 0
	for _, p := range postings {
		windows += len(p.periods)
	}
	usage := &queries.UsageBatch{
		TxnID: randomUUID(), OccurredAt: now, Currency: postings[0].meter.Currency, RevenueAccountID: revenue,
		AllocationIDs: make([]id.Allocation, 0, windows), AccountIDs: make([]id.Account, 0, windows),
		Amounts: make([]money.Micros, 0, windows), PeriodStarts: make([]time.Time, 0, windows),
		PeriodEnds: make([]time.Time, 0, windows), Heads: make([]bool, 0, windows), IdempotencyKeys: make([]string, 0, windows),
	}
	seen := make(map[id.Account]bool, len(postings))
	for _, p := range postings {
		anchor := milliseconds(p.meter.Anchor)
		for i, period := range p.periods {
			usage.AllocationIDs = append(usage.AllocationIDs, p.meter.AllocationID)
			usage.AccountIDs = append(usage.AccountIDs, p.meter.AccountID)
			usage.Amounts = append(usage.Amounts, p.amounts[i])
			usage.PeriodStarts = append(usage.PeriodStarts, period.Start)
			usage.PeriodEnds = append(usage.PeriodEnds, period.End)
			usage.Heads = append(usage.Heads, period.Start.Equal(anchor))
			usage.IdempotencyKeys = append(usage.IdempotencyKeys, usageKey(p.meter.AllocationID, period.Start))
		}
		if !seen[p.meter.AccountID] {
			seen[p.meter.AccountID] = true
			usage.EventAccounts = append(usage.EventAccounts, p.meter.AccountID)
			usage.EventTenants = append(usage.EventTenants, p.meter.TenantID)
			usage.EventIDs = append(usage.EventIDs, randomUUID())
			usage.EventCorrelations = append(usage.EventCorrelations, p.meter.CorrelationID)
		}
	}
	return usage
}

func usageKey(allocation id.Allocation, start time.Time) string {
	return "usage/" + string(allocation) + "/" + strconv.FormatInt(start.UnixMilli(), 10)
}

// compared holds every skipped window against the one that stands. A difference means that two prices or two
// cuttings of the same time met: nobody's retry mends that, so it alarms.
func (l *Ledger) compared(ctx context.Context, postings []*posting, done *written) error {
	if done.inserted == done.usage.Len() {
		return nil
	}
	standing, err := queries.StandingUsages(ctx, l.pool, done.usage)
	if err != nil {
		return err
	}
	return l.compareWith(ctx, postings, done, standing)
}

type usageSlot struct {
	allocation id.Allocation
	start      int64
}

func (l *Ledger) compareWith(ctx context.Context, postings []*posting, done *written, standing []queries.StandingUsage) error {
	bySlot := make(map[usageSlot]queries.StandingUsage, len(standing))
	for _, entry := range standing {
		bySlot[usageSlot{entry.AllocationID, entry.PeriodStart.UnixMilli()}] = entry
	}
	done.faults = map[*posting]error{}
	for _, p := range postings {
		for i, period := range p.periods {
			entry := bySlot[usageSlot{p.meter.AllocationID, period.Start.UnixMilli()}]
			if entry.AccountID == p.meter.AccountID && entry.AmountMicros == p.amounts[i] && entry.PeriodEnd.Equal(period.End) {
				continue
			}
			found, err := l.difference(ctx, p, i, entry)
			if err != nil {
				return err
			}
			done.faults[p] = found
			break
		}
	}
	return nil
}

// difference is the fault of a window that stands otherwise. A stale posting that meets the prorated last window of a
// closed meter is only late.
func (l *Ledger) difference(ctx context.Context, p *posting, i int, entry queries.StandingUsage) (error, error) {
	end, err := queries.MeterEnd(ctx, l.pool, p.meter.AllocationID)
	if err != nil {
		return nil, err
	}
	if end != nil && entry.PeriodEnd.Equal(*end) && p.periods[i].End.After(*end) {
		return meterEnded(p.meter.AllocationID), nil
	}
	l.stats.conflicts.Add(1)
	l.log.ErrorContext(ctx, "alarm: a window stands in the ledger otherwise than it would be posted now",
		"allocation_id", p.meter.AllocationID, "account_id", p.meter.AccountID, "correlation_id", p.meter.CorrelationID,
		"period_start", p.periods[i].Start, "period_end", p.periods[i].End, "amount_micros", p.amounts[i],
		"standing_account_id", entry.AccountID, "standing_period_end", entry.PeriodEnd, "standing_amount_micros", entry.AmountMicros)
	return fault.Newf(fault.LedgerConflict, "The window of %s at %s stands with another amount, end or account.",
		p.meter.AllocationID, p.periods[i].Start.Format(time.RFC3339Nano)), nil
}

func meterEnded(allocation id.Allocation) error {
	return fault.Newf(fault.AllocationNotActive, "The meter of %s has ended and is settled.", allocation)
}

// answer is what the caller of one posting is told, given its own fault and the error of its statement.
func (l *Ledger) answer(ctx context.Context, p *posting, own, statement error) error {
	switch {
	case statement == nil:
		return own
	case violates(statement, "ledger_meter_open"):
		return meterEnded(p.meter.AllocationID)
	case violates(statement, "ledger_usage_chain"):
		if end, err := queries.MeterEnd(ctx, l.pool, p.meter.AllocationID); err == nil && end != nil {
			return meterEnded(p.meter.AllocationID)
		}
		// The window before may still be on its way: the step is repeated.
		return statement
	case refused(statement):
		l.stats.refused.Add(1)
		l.log.ErrorContext(ctx, "alarm: the database refuses a window", "allocation_id", p.meter.AllocationID, "account_id", p.meter.AccountID,
			"correlation_id", p.meter.CorrelationID, "error", statement.Error())
		return fault.Wrap(statement, fault.LedgerConflict, "The ledger refuses the windows of this allocation.")
	default:
		return statement
	}
}

// refused says that the database understood the rows and refuses them, whoever sends them again.
func refused(err error) bool {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		return false
	}
	class := failure.Code[:2]
	return class == "22" || class == "23" || failure.Code == "P0001"
}

func violates(err error, constraint string) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && failure.ConstraintName == constraint
}

// raceAttempts is how often a statement that lost a race is sent; one that still loses is refused for a reason of its own.
const raceAttempts = 4

// lostARace says that the statement was the victim of a deadlock or a serialization failure, or that another statement was
// just inserting the same window. ON CONFLICT looks at the usage key alone; when both are under way at once, the
// loser may meet an older unique index of the same row first. Repeated, it finds the window standing under the usage key.
func lostARace(err error) bool {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.Code {
	case "40001", "40P01":
		return true
	case "23505":
		return failure.ConstraintName == "ledger_entries_idempotency_key_key" || failure.ConstraintName == "ledger_usage_end"
	default:
		return false
	}
}

// randomUUID is a version 4 UUID.
func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
