package billing_test

import (
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
)

func TestWithinALimitIsTheLastMillisecondThatItPaysFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 1_000_000_000_000).Draw(t, "rate")
		most := rapid.Int64Range(1, 1_000_000_000_000_000).Draw(t, "most")
		last, exceeds := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: money.Micros(rate), Anchor: anchor}}.Within(money.Micros(most))
		if !exceeds {
			if exact(rate, int64(99*365*24*time.Hour/time.Millisecond)).Cmp(big.NewInt(most)) > 0 {
				t.Fatal("99 years cost more, yet it is never too much")
			}
			return
		}
		used := last.Sub(anchor).Milliseconds()
		if exact(rate, used).Cmp(big.NewInt(most)) > 0 || exact(rate, used+1).Cmp(big.NewInt(most)) <= 0 {
			t.Fatalf("%d ms cost %s, one more %s, of %d", used, exact(rate, used), exact(rate, used+1), most)
		}
	})
}

func TestBudgets(t *testing.T) {
	const rate = 3_600_000_000 // a million a second
	monthEnd := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	march := billing.BudgetMonth.At(anchor)
	if !march.End.Equal(monthEnd) || !march.Start.Equal(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("the month of %s is %v", anchor, march)
	}
	at := func(instant time.Time) *time.Time { return &instant }
	running := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: rate, Anchor: anchor}}
	ended := running
	ended.End = at(after(40_000))
	fromFebruary := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: rate, Anchor: march.Start.Add(-100 * time.Second)}}
	for name, test := range map[string]struct {
		budget               billing.Budget
		draws                []billing.Draw
		now                  time.Time
		spent                money.Micros
		warning, last, next  *time.Time
		warned, exhaustedNow bool
	}{
		"nothing runs": {billing.Budget{AmountMicros: 100_000_000, WarningPercent: 80, Period: march}, nil, after(0), 0, nil, nil, at(monthEnd), false, false},
		"one runs": {billing.Budget{AmountMicros: 100_000_000, WarningPercent: 80}, []billing.Draw{running}, after(10_000), 10_000_000,
			at(after(80_000)), at(after(100_000)), at(after(80_000)), false, false},
		"what has ended counts": {billing.Budget{AmountMicros: 100_000_000, WarningPercent: 80}, []billing.Draw{running, ended}, after(45_000), 85_000_000,
			at(after(40_000)), at(after(60_000)), at(after(60_000)), true, false},
		"used up": {billing.Budget{AmountMicros: 100_000_000, WarningPercent: 80}, []billing.Draw{running}, after(100_000), 100_000_000,
			at(after(80_000)), at(after(100_000)), nil, true, true},
		"another month's time does not count": {billing.Budget{AmountMicros: 100_000_000, WarningPercent: 100, Period: march}, []billing.Draw{fromFebruary},
			march.Start.Add(10 * time.Second), 10_000_000, at(march.Start.Add(100 * time.Second)), at(march.Start.Add(100 * time.Second)),
			at(march.Start.Add(100 * time.Second)), false, false},
		"the month ends first": {billing.Budget{AmountMicros: money.MaxSafe, WarningPercent: 80, Period: march}, []billing.Draw{running}, after(1000), 1_000_000,
			nil, nil, at(monthEnd), false, false},
		"a smaller budget reaches not back": {billing.Budget{AmountMicros: 10_000_000, WarningPercent: 50, Since: after(60_000)}, []billing.Draw{running}, after(70_000),
			70_000_000, at(after(60_000)), at(after(60_000)), nil, true, true},
	} {
		got, err := test.budget.Judge(test.draws, test.now)
		if err != nil || got.SpentMicros != test.spent || !sameInstant(got.WarningAt, test.warning) || !sameInstant(got.ExhaustedAt, test.last) ||
			!sameInstant(got.Next, test.next) || got.Warned != test.warned || got.Exhausted != test.exhaustedNow {
			t.Errorf("%s: %+v, error %v", name, got, err)
		}
	}
}
