package reconciliation_test

import (
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
)

const (
	rate money.Micros = 3_599_999 // not quite a micro a millisecond, so that rounding shows
	lag               = 5 * time.Minute
)

var anchor = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func at(after time.Duration) *time.Time {
	instant := anchor.Add(after)
	return &instant
}

func charge(t *testing.T, elapsed time.Duration) money.Micros {
	t.Helper()
	amount, err := billing.Charge(rate, elapsed)
	if err != nil {
		t.Fatal(err)
	}
	return amount
}

// part is what a stretch of the meter costs.
func part(t *testing.T, from, to time.Duration) money.Micros {
	t.Helper()
	return charge(t, to) - charge(t, from)
}

func TestABillIsHeldBesideTheChargeRule(t *testing.T) {
	const minute = time.Minute
	// whole is an allocation that was posted in full from its anchor for so long.
	whole := func(posted time.Duration) reconciliation.Billed {
		return reconciliation.Billed{
			RateMicrosPerHour: rate, Window: minute, WindowsPerSettlement: 1, Anchor: anchor, ChangedAt: anchor, Windows: int64(posted / minute),
			FirstStart: at(0), LastEnd: at(posted), UsageMicros: charge(t, posted),
		}
	}
	for name, test := range map[string]struct {
		change  func(*reconciliation.Billed)
		posted  time.Duration
		now     time.Duration
		owed    money.Micros
		missing time.Duration
		surplus time.Duration
		differs bool
	}{
		"one that runs and is posted":              {posted: 10 * minute, now: 10*minute + 30*time.Second},
		"one that runs, late within the tolerance": {posted: 10 * minute, now: 16 * minute},
		"one that runs, later than that":           {posted: 10 * minute, now: 18 * minute, owed: -part(t, 10*minute, 12*minute), missing: 2 * minute},
		"one whose settlements are of many windows": {posted: 10 * minute, now: 29 * minute,
			change: func(b *reconciliation.Billed) { b.WindowsPerSettlement = 10 }},
		"one of whose settlements one is missing": {posted: 10 * minute, now: 36 * minute, owed: -part(t, 10*minute, 20*minute), missing: 10 * minute,
			change: func(b *reconciliation.Billed) { b.WindowsPerSettlement = 10 }},
		"one without any window": {now: 30 * minute, owed: -charge(t, 24*minute), missing: 24 * minute,
			change: func(b *reconciliation.Billed) { b.FirstStart, b.LastEnd = nil, nil }},
		"one with a hole": {posted: 10 * minute, now: 10 * minute, owed: -part(t, 3*minute, 4*minute), missing: minute,
			change: func(b *reconciliation.Billed) {
				b.GapMS, b.UsageMicros = 60_000, b.UsageMicros-part(t, 3*minute, 4*minute)
			}},
		"one whose first window is gone": {posted: 10 * minute, now: 10 * minute, owed: -charge(t, minute), missing: minute,
			change: func(b *reconciliation.Billed) {
				b.FirstStart, b.UsageMicros = at(minute), b.UsageMicros-charge(t, minute)
			}},
		"one with a window twice": {posted: 10 * minute, now: 10 * minute, owed: part(t, 3*minute, 4*minute), surplus: minute,
			change: func(b *reconciliation.Billed) {
				b.OverlapMS, b.UsageMicros = 60_000, b.UsageMicros+part(t, 3*minute, 4*minute)
			}},
		"one of whose windows one is a micro dearer": {posted: 10 * minute, now: 10 * minute, owed: 1,
			change: func(b *reconciliation.Billed) { b.UsageMicros++ }},
		"one that was corrected": {posted: 10 * minute, now: 10 * minute,
			change: func(b *reconciliation.Billed) {
				b.GapMS, b.UsageMicros, b.CorrectedMicros = 60_000, b.UsageMicros-part(t, 3*minute, 4*minute), -part(t, 3*minute, 4*minute)
			}},
		"one that was corrected by too little": {posted: 10 * minute, now: 10 * minute, owed: 7, change: func(b *reconciliation.Billed) { b.UsageMicros, b.CorrectedMicros = b.UsageMicros+10, 3 }},
		"one that was settled in time": {posted: 9*minute + 7*time.Second, now: time.Hour,
			change: func(b *reconciliation.Billed) { b.End, b.Settled = b.LastEnd, b.LastEnd }},
		"one that was settled with a credit": {posted: 10 * minute, now: time.Hour,
			change: func(b *reconciliation.Billed) {
				b.End, b.Settled, b.CreditMicros = at(9*minute+7*time.Second), at(9*minute+7*time.Second), part(t, 9*minute+7*time.Second, 10*minute)
			}},
		"one that was settled without its credit": {posted: 10 * minute, now: time.Hour, owed: part(t, 9*minute, 10*minute), surplus: minute,
			change: func(b *reconciliation.Billed) { b.End, b.Settled = at(9*minute), at(9*minute) }},
		"one that ended and is being settled": {posted: 10 * minute, now: 12 * minute,
			change: func(b *reconciliation.Billed) { b.End, b.ChangedAt = at(11*minute), *at(11 * minute) }},
		"one that ended and was not settled": {posted: 10 * minute, now: 17 * minute, owed: -part(t, 10*minute, 11*minute), missing: minute, differs: true,
			change: func(b *reconciliation.Billed) { b.End, b.ChangedAt = at(11*minute), *at(11 * minute) }},
		"one that was settled elsewhere": {posted: 10 * minute, now: time.Hour, differs: true,
			change: func(b *reconciliation.Billed) { b.End, b.Settled = b.LastEnd, at(9*minute) }},
		"one that stands still": {posted: 10 * minute, now: time.Hour,
			change: func(b *reconciliation.Billed) { b.SuspendedAt = at(10*minute + 20*time.Second) }},
		"one that stood still and runs again": {posted: 30 * minute, now: 30 * minute,
			change: func(b *reconciliation.Billed) {
				b.Forgiven = []reconciliation.Forgiven{{Period: billing.Period{Start: *at(10 * minute), End: *at(20 * minute)}, Micros: part(t, 10*minute, 20*minute)}}
			}},
		"one that was forgiven too much": {posted: 30 * minute, now: 30 * minute, owed: -5,
			change: func(b *reconciliation.Billed) {
				b.Forgiven = []reconciliation.Forgiven{{Period: billing.Period{Start: *at(10 * minute), End: *at(20 * minute)}, Micros: part(t, 10*minute, 20*minute) + 5}}
			}},
		"one that ended within a time that was forgiven": {posted: 20 * minute, now: time.Hour,
			change: func(b *reconciliation.Billed) {
				b.Forgiven = []reconciliation.Forgiven{{Period: billing.Period{Start: *at(10 * minute), End: *at(18 * minute)}, Micros: part(t, 10*minute, 18*minute)}}
				b.End, b.Settled, b.CreditMicros = at(15*minute), at(15*minute), part(t, 18*minute, 20*minute)
			}},
		"one that is posted beyond now": {posted: time.Hour, now: 10 * minute, owed: part(t, 10*minute, time.Hour), surplus: 50 * minute},
	} {
		bill := whole(test.posted)
		if test.change != nil {
			test.change(&bill)
		}
		got, err := bill.Judge(anchor.Add(test.now), lag)
		want := reconciliation.Judgement{OwedMicros: test.owed, MissingMS: test.missing.Milliseconds(), SurplusMS: test.surplus.Milliseconds(), SettlementDiffers: test.differs}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, not %+v", name, got, err, want)
		}
	}
}

func TestEveryKindIsFoundByACheckThatIsMade(t *testing.T) {
	made := map[reconciliation.Check]int{}
	for _, check := range reconciliation.Checks() {
		made[check] = 0
	}
	for _, kind := range reconciliation.Kinds() {
		if _, known := made[kind.Check()]; !known {
			t.Errorf("%s is found by %q, which no run makes", kind, kind.Check())
		}
		made[kind.Check()]++
	}
	for check, kinds := range made {
		if kinds == 0 {
			t.Errorf("%s finds nothing", check)
		}
	}
}
