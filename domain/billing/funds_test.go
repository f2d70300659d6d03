package billing_test

import (
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
)

func after(ms int64) time.Time { return anchor.Add(time.Duration(ms) * time.Millisecond) }

// drawsOf draws meters that began, posted and ended somewhere within two days.
func drawsOf(t *rapid.T, most int) []billing.Draw {
	draws := make([]billing.Draw, rapid.IntRange(1, most).Draw(t, "meters"))
	for i := range draws {
		began := rapid.Int64Range(0, 86_400_000).Draw(t, "began_ms")
		posted := began + rapid.Int64Range(0, 86_400_000).Draw(t, "posted_ms")
		draws[i].RateMicrosPerHour = money.Micros(rapid.Int64Range(0, 1_000_000_000_000).Draw(t, "rate"))
		draws[i].Anchor = after(began)
		if rapid.Bool().Draw(t, "has_posted") {
			postedTo := after(posted)
			draws[i].PostedTo = &postedTo
			if rapid.Bool().Draw(t, "has_free") {
				free := rapid.Int64Range(began, posted).Draw(t, "free_from_ms")
				draws[i].Free = []billing.Period{{Start: after(free), End: after(rapid.Int64Range(free, posted).Draw(t, "free_to_ms"))}}
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "has_end") == 0 {
			end := after(began + rapid.Int64Range(0, 200_000_000).Draw(t, "end_ms"))
			draws[i].End = &end
		}
	}
	return draws
}

// left is what is left at t by integers without bounds, from the charge rule alone.
func left(funds billing.Funds, t time.Time) *big.Int {
	bill := func(draw billing.Draw, t time.Time) *big.Int {
		at := func(instant time.Time) *big.Int {
			if !instant.After(draw.Anchor) {
				return new(big.Int)
			}
			return exact(int64(draw.RateMicrosPerHour), instant.Sub(draw.Anchor).Milliseconds())
		}
		total := at(t)
		for _, free := range draw.Free {
			if free.Start.After(t) {
				continue
			}
			if free.End.After(t) {
				free.End = t
			}
			total.Add(total, at(free.Start))
			total.Sub(total, at(free.End))
		}
		return total
	}
	total := big.NewInt(int64(funds.BalanceMicros))
	for _, draw := range funds.Draws {
		until := t
		if draw.End != nil && draw.End.Before(t) {
			until = *draw.End
		}
		total.Sub(total, bill(draw, until))
		if draw.PostedTo != nil {
			total.Add(total, bill(draw, *draw.PostedTo))
		}
	}
	return total
}

// lasted is what was left at t with what was taken out since.
func lasted(funds billing.Funds, t time.Time) *big.Int {
	total := left(funds, t)
	for _, debit := range funds.Debits {
		if t.Before(debit.At) {
			total.Add(total, big.NewInt(int64(debit.Micros)))
		}
	}
	return total
}

func TestTheInstantIsTheFirstMillisecondAtWhichNoMoreIsLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		funds := billing.Funds{
			BalanceMicros: money.Micros(rapid.Int64Range(-1_000_000_000_000, 50_000_000_000_000).Draw(t, "balance")),
			Draws:         drawsOf(t, 20),
		}
		if rapid.Bool().Draw(t, "debited") {
			funds.Since = after(rapid.Int64Range(0, 200_000_000).Draw(t, "since_ms"))
		}
		for range rapid.IntRange(0, 3).Draw(t, "debits") {
			funds.Debits = append(funds.Debits, billing.Debit{
				At: after(rapid.Int64Range(-1000, 200_000_000).Draw(t, "debit_ms")), Micros: money.Micros(rapid.Int64Range(1, 20_000_000_000_000).Draw(t, "debit")),
			})
		}
		level := money.Micros(rapid.Int64Range(0, 1_000_000_000).Draw(t, "level"))
		at, ever := funds.Reaches(level)
		wanted := big.NewInt(int64(level))
		if !ever {
			if last := left(funds, anchor.Add(99*365*24*time.Hour)); last.Cmp(wanted) <= 0 {
				t.Fatalf("after 99 years %s is left, yet %d is never reached", last, level)
			}
			return
		}
		if got := lasted(funds, at); got.Cmp(wanted) > 0 {
			t.Fatalf("at %s there is still %s, more than %d", at, got, level)
		}
		first := funds.Draws[0].Anchor
		for _, draw := range funds.Draws {
			if draw.Anchor.Before(first) {
				first = draw.Anchor
			}
		}
		if before := at.Add(-time.Millisecond); !before.Before(first) && !before.Before(funds.Since) && lasted(funds, before).Cmp(wanted) <= 0 {
			t.Fatalf("%d was reached before %s already", level, at)
		}
		if at.Before(first) || at.Before(funds.Since) {
			t.Fatalf("%s lies before anything could be done", at)
		}
	})
}

func TestWhatIsAvailableAgreesWithUnboundedIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		funds := billing.Funds{BalanceMicros: money.Micros(rapid.Int64Range(-1_000_000, 1_000_000_000_000).Draw(t, "balance")), Draws: drawsOf(t, 5)}
		now := after(rapid.Int64Range(0, 400_000_000).Draw(t, "now_ms"))
		got, err := funds.Available(now)
		if want := left(funds, now); err != nil || want.Cmp(big.NewInt(int64(got))) != 0 {
			t.Fatalf("%d is available, error %v, want %s", got, err, want)
		}
	})
}

func TestNothingIsReachedWhereNothingDraws(t *testing.T) {
	if at, ever := (billing.Funds{BalanceMicros: -5}).Reaches(0); ever {
		t.Errorf("without a meter the end comes at %s", at)
	}
	free := billing.Funds{BalanceMicros: 5, Draws: []billing.Draw{{Meter: billing.Meter{Anchor: anchor}}}}
	if at, ever := free.Reaches(0); ever {
		t.Errorf("a meter that costs nothing ends at %s", at)
	}
}

// A descent of the ladder, look by look, with top-ups in between: what is found at each look, in full.
func TestTheLadder(t *testing.T) {
	const rate = 3_600_000_000 // one thousand micros a millisecond, a million a second
	ladder := billing.Ladder{ThresholdMicros: 30_000_000, Grace: 10 * time.Second}
	meter := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: rate, Anchor: anchor}}
	second := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: rate, Anchor: after(96_000)}}
	type found = []billing.Crossing
	at := func(ms int64) *time.Time { instant := after(ms); return &instant }
	for name, looks := range map[string][]struct {
		at      int64
		balance money.Micros
		draws   []billing.Draw
		want    found
		next    *time.Time
	}{
		"straight down": {
			{0, 100_000_000, nil, nil, at(70_000)},
			{70_000, 100_000_000, nil, found{{Rung: billing.LowBalance, Number: 1, Reached: true, At: after(70_000)}}, at(90_000)},
			{70_000, 100_000_000, nil, nil, at(90_000)},
			{90_003, 100_000_000, nil, found{{Rung: billing.AutoReleasePending, Number: 1, Reached: true, At: after(90_000), Deadline: at(100_000)}}, at(100_000)},
			{100_000, 100_000_000, nil, found{{Rung: billing.Depleted, Number: 1, Reached: true, At: after(100_000)}}, nil},
			{100_500, 100_000_000, nil, nil, nil},
		},
		"an outage across the deadline": {
			{0, 100_000_000, nil, nil, at(70_000)},
			{160_000, 100_000_000, nil, found{
				{Rung: billing.LowBalance, Number: 1, Reached: true, At: after(70_000)},
				{Rung: billing.Depleted, Number: 1, Reached: true, At: after(100_000), Late: time.Minute, WrittenOffMicros: 60_000_000},
			}, nil},
		},
		"a deposit at each rung": {
			{75_000, 100_000_000, nil, found{{Rung: billing.LowBalance, Number: 1, Reached: true, At: after(70_000)}}, at(90_000)},
			{76_000, 200_000_000, nil, found{{Rung: billing.LowBalance, Number: 1, At: after(76_000)}}, at(170_000)},
			{170_000, 200_000_000, nil, found{{Rung: billing.LowBalance, Number: 2, Reached: true, At: after(170_000)}}, at(190_000)},
			{190_000, 200_000_000, nil, found{{Rung: billing.AutoReleasePending, Number: 1, Reached: true, At: after(190_000), Deadline: at(200_000)}}, at(200_000)},
			{195_000, 215_000_000, nil, found{{Rung: billing.AutoReleasePending, Number: 1, At: after(195_000)}}, at(205_000)}, // still low
			{205_000, 215_000_000, nil, found{{Rung: billing.AutoReleasePending, Number: 2, Reached: true, At: after(205_000), Deadline: at(215_000)}}, at(215_000)},
			{215_000, 215_000_000, nil, found{{Rung: billing.Depleted, Number: 1, Reached: true, At: after(215_000)}}, nil},
			{216_000, 300_000_000, nil, found{
				{Rung: billing.LowBalance, Number: 2, At: after(216_000)}, {Rung: billing.AutoReleasePending, Number: 2, At: after(216_000)},
				{Rung: billing.Depleted, Number: 1, At: after(216_000)},
			}, at(270_000)},
		},
		"another meter moves the deadline forward": {
			{95_000, 100_000_000, nil, found{
				{Rung: billing.LowBalance, Number: 1, Reached: true, At: after(70_000)},
				{Rung: billing.AutoReleasePending, Number: 1, Reached: true, At: after(90_000), Deadline: at(100_000)},
			}, at(100_000)},
			{96_000, 100_000_000, []billing.Draw{meter, second}, found{
				{Rung: billing.AutoReleasePending, Number: 1, At: after(96_000)},
				{Rung: billing.AutoReleasePending, Number: 2, Reached: true, At: after(96_000), Deadline: at(98_000)},
			}, at(98_000)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			standing := map[billing.Rung]billing.Standing{}
			for _, look := range looks {
				draws := look.draws
				if draws == nil {
					draws = []billing.Draw{meter}
				}
				verdict, err := ladder.Judge(billing.Funds{BalanceMicros: look.balance, Draws: draws}, standing, after(look.at))
				if err != nil {
					t.Fatal(err)
				}
				if !sameCrossings(verdict.Crossings, look.want) || !sameInstant(verdict.Next, look.next) {
					t.Fatalf("at %d ms: %+v, next %v; want %+v, next %v", look.at, verdict.Crossings, verdict.Next, look.want, look.next)
				}
				for _, crossing := range verdict.Crossings {
					standing[crossing.Rung] = billing.Standing{Crossing: crossing.Number, Stands: crossing.Reached, At: crossing.At, Deadline: crossing.Deadline}
				}
			}
		})
	}
}

// Money that came and went while nobody looked is found by when it came: its end is told like any other, and nothing is told again that was
// never left.
func TestMoneyThatCameAndWentUnseen(t *testing.T) {
	const rate = 3_600_000_000
	ladder := billing.Ladder{ThresholdMicros: 30_000_000, Grace: 10 * time.Second}
	at := func(ms int64) *time.Time { instant := after(ms); return &instant }
	ended := map[billing.Rung]billing.Standing{
		billing.LowBalance:         {Crossing: 1, Stands: true, At: after(70_000)},
		billing.AutoReleasePending: {Crossing: 1, Stands: true, At: after(90_000), Deadline: at(100_000)},
		billing.Depleted:           {Crossing: 1, Stands: true, At: after(100_000)},
	}
	for name, look := range map[string]struct {
		at       int64
		balance  money.Micros
		credited time.Time
		want     []billing.Crossing
	}{
		"no money came": {at: 200_000, credited: after(-5_000)},
		"a deposit": {200_000, 50_000_000, after(120_000), []billing.Crossing{
			{Rung: billing.LowBalance, Number: 1, At: after(200_000)}, {Rung: billing.LowBalance, Number: 2, Reached: true, At: after(150_000)},
			{Rung: billing.Depleted, Number: 1, At: after(200_000)},
			{Rung: billing.Depleted, Number: 2, Reached: true, At: after(180_000), Late: 20 * time.Second, WrittenOffMicros: 20_000_000},
		}},
		"a deposit below the threshold": {200_000, 20_000_000, after(120_000), []billing.Crossing{
			{Rung: billing.Depleted, Number: 1, At: after(200_000)},
			{Rung: billing.Depleted, Number: 2, Reached: true, At: after(150_000), Late: 50 * time.Second, WrittenOffMicros: 50_000_000},
		}},
		"a deposit that is not used up yet": {172_000, 50_000_000, after(120_000), []billing.Crossing{
			{Rung: billing.LowBalance, Number: 1, At: after(172_000)}, {Rung: billing.LowBalance, Number: 2, Reached: true, At: after(150_000)},
			{Rung: billing.AutoReleasePending, Number: 1, At: after(172_000)},
			{Rung: billing.AutoReleasePending, Number: 2, Reached: true, At: after(172_000), Deadline: at(180_000)},
			{Rung: billing.Depleted, Number: 1, At: after(172_000)},
		}},
		"too little to get out of debt": {200_000, -1, after(120_000), nil},
	} {
		t.Run(name, func(t *testing.T) {
			meter := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: rate, Anchor: after(130_000)}}
			verdict, err := ladder.Judge(billing.Funds{BalanceMicros: look.balance, CreditedAt: look.credited, Draws: []billing.Draw{meter}}, ended, after(look.at))
			if err != nil || !sameCrossings(verdict.Crossings, look.want) {
				t.Fatalf("%+v, %v; want %+v", verdict.Crossings, err, look.want)
			}
		})
	}
}

// What somebody else takes out ends what runs at its own instant, and never before; and where the money had ended before, nobody having looked,
// it ended then: the time in between is written off and not the tenant's.
func TestADebitNeitherReachesBackNorHidesAnEnd(t *testing.T) {
	const rate = 3_600_000_000 // a million micros a second
	at := func(ms int64, micros money.Micros) billing.Debit { return billing.Debit{At: after(ms), Micros: micros} }
	meter := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: rate, Anchor: anchor}}
	posted := after(90_000)
	for name, test := range map[string]struct {
		balance    money.Micros
		postedTo   *time.Time
		debits     []billing.Debit
		now        int64
		zero       int64
		writtenOff money.Micros
	}{
		"no debit":                                   {100_000_000, nil, nil, 160_000, 100_000, 60_000_000},
		"a debit that ends it":                       {-50_000_000, nil, []billing.Debit{at(60_000, 150_000_000)}, 160_000, 60_000, 100_000_000},
		"a debit that shortens it":                   {70_000_000, nil, []billing.Debit{at(60_000, 30_000_000)}, 80_000, 70_000, 10_000_000},
		"a debit after an end that nobody saw":       {60_000_000, nil, []billing.Debit{at(130_000, 40_000_000)}, 160_000, 100_000, 60_000_000},
		"and usage that was posted":                  {-30_000_000, &posted, []billing.Debit{at(130_000, 40_000_000)}, 160_000, 100_000, 60_000_000},
		"a debit at the very end":                    {60_000_000, nil, []billing.Debit{at(100_000, 40_000_000)}, 160_000, 100_000, 60_000_000},
		"two debits, the first of which ends it":     {-20_000_000, nil, []billing.Debit{at(90_000, 20_000_000), at(80_000, 100_000_000)}, 160_000, 80_000, 80_000_000},
		"two debits, of which the second ends it":    {-20_000_000, nil, []billing.Debit{at(10_000, 20_000_000), at(80_000, 100_000_000)}, 160_000, 80_000, 80_000_000},
		"two debits after an end that nobody saw":    {-20_000_000, nil, []billing.Debit{at(110_000, 20_000_000), at(120_000, 100_000_000)}, 160_000, 100_000, 60_000_000},
		"a debit before anything ran":                {100_000_000, nil, []billing.Debit{at(-5_000, 900_000_000)}, 160_000, 100_000, 60_000_000},
		"a debit within a millisecond, at its end":   {-50_000_000, nil, []billing.Debit{{At: after(60_000).Add(300 * time.Microsecond), Micros: 150_000_000}}, 160_000, 60_001, 99_999_000},
		"one that is given back is no debit for now": {100_000_000, nil, []billing.Debit{at(10_000, 20_000_000)}, 160_000, 100_000, 60_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			draw := meter
			draw.PostedTo = test.postedTo
			verdict, err := billing.Ladder{}.Judge(billing.Funds{BalanceMicros: test.balance, Debits: test.debits, Draws: []billing.Draw{draw}}, nil, after(test.now))
			if err != nil || !verdict.Depleted || !verdict.ZeroAt.Equal(after(test.zero)) {
				t.Fatalf("it ends at %v (%v), not at %s", verdict.ZeroAt, err, after(test.zero))
			}
			for _, crossing := range verdict.Crossings {
				if crossing.Rung == billing.Depleted && crossing.WrittenOffMicros != test.writtenOff {
					t.Errorf("%d micros are written off, not %d", crossing.WrittenOffMicros, test.writtenOff)
				}
			}
		})
	}
}

func sameInstant(a, b *time.Time) bool { return (a == nil) == (b == nil) && (a == nil || a.Equal(*b)) }

func sameCrossings(got, want []billing.Crossing) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		deadlines := sameInstant(got[i].Deadline, want[i].Deadline)
		g, w := got[i], want[i]
		g.Deadline, w.Deadline = nil, nil
		if !deadlines || !g.At.Equal(w.At) {
			return false
		}
		g.At = w.At
		if g != w {
			return false
		}
	}
	return true
}
