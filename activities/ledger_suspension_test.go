//go:build integration

package activities_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

func (b *books) price(meter workflows.Meter, from, to time.Time) money.Micros {
	b.t.Helper()
	amount, err := billing.Period{Start: from, End: to}.Amount(meter.RateMicrosPerHour, meter.Anchor)
	if err != nil {
		b.t.Fatal(err)
	}
	return amount
}

// However often and wherever a meter is suspended, it charges the time outside of its suspensions, to the micro: the chain
// of usage has no gap, every row of it obeys the charge rule, and each suspension is one credit.
func TestSuspensionsAreTakenOutOfTheBillToTheMicro(t *testing.T) {
	b := newBooks(t)
	random := rand.New(rand.NewPCG(3, 14))
	for range 40 {
		owner := b.tenant(string(newID[id.User]()), 0)
		meter := b.meter(owner, money.Micros(random.Int64N(40_000_000_000)), 1+random.Int64N(90), b.now)
		window := time.Duration(meter.WindowSeconds) * time.Second
		at, postedTo, free := meter.Anchor, meter.Anchor, money.Micros(0)
		suspensions := random.IntN(4)
		for range suspensions {
			at = at.Add(time.Duration(random.Int64N(int64(10 * window))).Truncate(time.Millisecond))
			if boundary := meter.Anchor.Add(at.Sub(meter.Anchor).Truncate(window)); boundary.After(postedTo) && random.IntN(3) > 0 {
				in := workflows.PostWindowsIn{Meter: meter, From: postedTo, To: boundary, Now: at}
				if _, err := b.ledger.PostWindows(t.Context(), in); err != nil {
					t.Fatal(err)
				}
			}
			// What was posted before the suspension was heard may lie beyond it.
			from := at.Add(-time.Duration(random.Int64N(int64(2 * window))).Truncate(time.Millisecond))
			if from.Before(meter.Anchor) {
				from = meter.Anchor
			}
			to := at.Add(time.Millisecond + time.Duration(random.Int64N(int64(50*window))).Truncate(time.Millisecond))
			in := workflows.SettleSuspensionIn{Meter: meter, From: from, To: to}
			first, err := b.ledger.SettleSuspension(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := b.ledger.SettleSuspension(t.Context(), in); err != nil || again != first {
				t.Fatalf("a repeat answers %+v, %v, not %+v", again, err, first)
			}
			free += b.price(meter, from, to)
			at, postedTo = to, to
			if got := first.ChargedMicros - first.CreditedMicros; got != exactCharge(meter, to)-free {
				t.Fatalf("after a suspension %d are billed, not %d", got, exactCharge(meter, to)-free)
			}
			at = at.Add(2 * window) // the next suspension begins behind this one
		}
		end := at.Add(time.Duration(random.Int64N(int64(10 * window))).Truncate(time.Millisecond))
		out, err := b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: end})
		if err != nil {
			t.Fatal(err)
		}
		want := exactCharge(meter, end) - free
		if got := out.ChargedMicros - out.CreditedMicros; got != want || b.summed(meter.AccountID) != -want || out.BalanceMicros != -want {
			t.Fatalf("%d are billed and the balance is %d, not %d, after %d suspensions", got, b.summed(meter.AccountID), want, suspensions)
		}
		if broken := b.count(`SELECT count(*) FROM ledger_entries WHERE allocation_id = $1 AND kind = 'usage' AND amount_micros <>
			floor($2::numeric * round(extract(epoch FROM period_end - $3::timestamptz) * 1000) / 3600000)
			- floor($2::numeric * round(extract(epoch FROM period_start - $3::timestamptz) * 1000) / 3600000)`,
			meter.AllocationID, int64(meter.RateMicrosPerHour), meter.Anchor); broken != 0 {
			t.Fatalf("%d rows of usage do not obey the charge rule", broken)
		}
	}
}

// A meter that ended within a suspension, because the release was asked for before and heard after it, gives nothing twice.
func TestAnEndWithinASettledSuspensionGivesNothingTwice(t *testing.T) {
	b := newBooks(t)
	meter := b.meter(b.tenant("owner", 0), 3_600_000_000, 60, b.now)
	at := func(seconds int) time.Time { return meter.Anchor.Add(time.Duration(seconds) * time.Second) }
	if _, err := b.ledger.SettleSuspension(t.Context(), workflows.SettleSuspensionIn{Meter: meter, From: at(90), To: at(300)}); err != nil {
		t.Fatal(err)
	}
	out, err := b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: at(200)})
	if err != nil || out.BalanceMicros != -exactCharge(meter, at(90)) {
		t.Fatalf("the balance is %d, %v, not %d", out.BalanceMicros, err, -exactCharge(meter, at(90)))
	}
}

func TestASuspensionIsSettledWithOneEndAndBeforeTheMeterEnds(t *testing.T) {
	b := newBooks(t)
	meter := b.meter(b.tenant("owner", 0), 3_600_000, 60, b.now)
	at := func(seconds int) time.Time { return meter.Anchor.Add(time.Duration(seconds) * time.Second) }
	settle := func(from, to int) error {
		_, err := b.ledger.SettleSuspension(t.Context(), workflows.SettleSuspensionIn{Meter: meter, From: at(from), To: at(to)})
		return err
	}
	if err := settle(30, 30); !errors.Is(err, fault.InvalidRequest) {
		t.Errorf("a suspension of no time: %v", err)
	}
	if err := settle(-10, 30); !errors.Is(err, fault.InvalidRequest) {
		t.Errorf("a suspension before the meter: %v", err)
	}
	if err := settle(30, 90); err != nil {
		t.Fatal(err)
	}
	if err := settle(30, 95); !errors.Is(err, fault.LedgerConflict) {
		t.Errorf("another end of the same suspension: %v", err)
	}
	if _, err := b.ledger.SettleEnd(t.Context(), workflows.SettleEndIn{Meter: meter, To: at(100)}); err != nil {
		t.Fatal(err)
	}
	before := b.summed(meter.AccountID)
	if err := settle(120, 180); !errors.Is(err, fault.LedgerConflict) || b.summed(meter.AccountID) != before {
		t.Errorf("a suspension after the end: %v, and the balance moved by %d", err, b.summed(meter.AccountID)-before)
	}
}
