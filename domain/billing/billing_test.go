package billing_test

import (
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
)

var anchor = time.Date(2026, 3, 1, 11, 22, 33, int(456*time.Millisecond), time.UTC)

// exact is the charge rule over integers without bounds.
func exact(rate int64, milliseconds int64) *big.Int {
	product := new(big.Int).Mul(big.NewInt(rate), big.NewInt(milliseconds))
	return product.Div(product, big.NewInt(3_600_000))
}

func TestChargeAgreesWithUnboundedIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(0, math.MaxInt64).Draw(t, "rate")
		elapsed := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "elapsed"))
		want := exact(rate, elapsed.Milliseconds())
		got, err := billing.Charge(money.Micros(rate), elapsed)
		if !want.IsInt64() {
			if !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("%s does not fit, yet the charge is %d, error %v", want, got, err)
			}
			return
		}
		if err != nil || int64(got) != want.Int64() {
			t.Fatalf("charge %d, error %v, want %s", got, err, want)
		}
	})
}

func TestChargeRefusesWhatIsNegative(t *testing.T) {
	for name, charge := range map[string]struct {
		rate    money.Micros
		elapsed time.Duration
	}{
		"a negative rate": {-1, time.Hour},
		"a negative time": {1, -time.Millisecond},
	} {
		if amount, err := billing.Charge(charge.rate, charge.elapsed); !errors.Is(err, money.ErrOverflow) {
			t.Errorf("%s: charged %d, error %v", name, amount, err)
		}
	}
	before := billing.Period{Start: anchor.Add(-time.Second), End: anchor}
	if _, err := before.Amount(1, anchor); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("a period before the anchor: error %v", err)
	}
}

func TestAnySplitAddsUpToTheMicro(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(0, int64(money.MaxSafe)).Draw(t, "rate")
		pieces := rapid.SliceOfN(rapid.Int64Range(1, 86_400_000), 1, 60).Draw(t, "pieces_ms")
		total, at, elapsed := new(big.Int), anchor, int64(0)
		for _, milliseconds := range pieces {
			end := at.Add(time.Duration(milliseconds) * time.Millisecond)
			amount, err := billing.Period{Start: at, End: end}.Amount(money.Micros(rate), anchor)
			if err != nil || amount < 0 {
				t.Fatalf("amount %d, error %v", amount, err)
			}
			total.Add(total, big.NewInt(int64(amount)))
			at, elapsed = end, elapsed+milliseconds
		}
		if want := exact(rate, elapsed); total.Cmp(want) != 0 {
			t.Fatalf("the pieces add up to %s, the whole costs %s", total, want)
		}
	})
}

func TestWindowsTileTheirTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := time.Duration(rapid.Int64Range(1, 3_600_000).Draw(t, "window_ms")) * time.Millisecond
		from := anchor.Add(window * time.Duration(rapid.Int64Range(0, 1000).Draw(t, "whole")) / 2).Truncate(time.Millisecond)
		if from.Before(anchor) {
			from = anchor
		}
		to := from.Add(time.Duration(rapid.Int64Range(0, 50*window.Milliseconds()).Draw(t, "length_ms")) * time.Millisecond)
		limit := rapid.IntRange(1, 60).Draw(t, "limit")

		periods := billing.Windows(anchor, from, to, window, limit)
		at := from
		for i, period := range periods {
			if !period.Start.Equal(at) || !period.End.After(period.Start) {
				t.Fatalf("window %d is %v, want it to start at %s", i, period, at)
			}
			onBoundary := period.End.Sub(anchor)%window == 0
			if !onBoundary && !period.End.Equal(to) {
				t.Fatalf("window %d ends at %s, neither a boundary nor the end", i, period.End)
			}
			if crossed := period.End.Add(-1).Sub(anchor)/window - period.Start.Sub(anchor)/window; crossed != 0 {
				t.Fatalf("window %d crosses a boundary: %v", i, period)
			}
			at = period.End
		}
		if len(periods) < limit && !at.Equal(to) {
			t.Fatalf("%d windows end at %s, not at %s", len(periods), at, to)
		}
	})
}

func TestWindowsRefuseWhatNoWindowContains(t *testing.T) {
	if got := billing.Windows(anchor, anchor, anchor.Add(time.Hour), 0, 10); got != nil {
		t.Errorf("a window of no length gave %v", got)
	}
	if got := billing.Windows(anchor, anchor.Add(-time.Second), anchor.Add(time.Hour), time.Minute, 10); got != nil {
		t.Errorf("a time before the anchor gave %v", got)
	}
}

func TestAccruedIsWhatTheLedgerDoesNotShowYet(t *testing.T) {
	at := func(seconds int) *time.Time {
		instant := anchor.Add(time.Duration(seconds) * time.Second)
		return &instant
	}
	const rate = 3_600_000_000 // one thousand micros a millisecond
	for name, test := range map[string]struct {
		end, postedTo *time.Time
		now           *time.Time
		want          money.Micros
	}{
		"nothing posted":           {nil, nil, at(90), 90_000_000},
		"one window posted":        {nil, at(60), at(90), 30_000_000},
		"ended before now":         {at(70), at(60), at(90), 10_000_000},
		"posted beyond the end":    {at(50), at(60), at(90), 0},
		"a clock behind the meter": {nil, nil, at(-5), 0},
	} {
		got, err := billing.Meter{RateMicrosPerHour: rate, Anchor: anchor, End: test.end}.Accrued(test.postedTo, *test.now)
		if err != nil || got != test.want {
			t.Errorf("%s: accrued %d, error %v, want %d", name, got, err, test.want)
		}
	}
}
