package billing

import (
	"math"
	"sort"
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
)

// Draw is a meter as the end of money sees it: what it costs in all, and how far that is in the ledger.
type Draw struct {
	Meter
	// PostedTo is the end of the last entry in the ledger, nil when there is none.
	PostedTo *time.Time
	// Free are stretches that the ledger gave back; they do not overlap.
	Free []Period
}

// Cost is the bill if the meter ended at t, in micros. It never falls as t rises.
func (d Draw) Cost(t time.Time) (money.Micros, error) {
	if d.End != nil && d.End.Before(t) {
		t = *d.End
	}
	return d.bill(t)
}

// Posted is the part of the bill that is in the ledger. Beyond the meter's end it is more than the meter costs, until the
// settlement gives the rest back.
func (d Draw) Posted() (money.Micros, error) {
	if d.PostedTo == nil {
		return 0, nil
	}
	return d.bill(*d.PostedTo)
}

func (d Draw) bill(t time.Time) (money.Micros, error) {
	if !t.After(d.Anchor) {
		return 0, nil
	}
	bill, err := Charge(d.RateMicrosPerHour, t.Sub(d.Anchor))
	if err != nil {
		return 0, err
	}
	for _, free := range d.Free {
		if free.End.After(t) {
			free.End = t
		}
		if !free.End.After(free.Start) {
			continue
		}
		given, err := free.Amount(d.RateMicrosPerHour, d.Anchor)
		if err != nil {
			return 0, err
		}
		bill -= given
	}
	return bill, nil
}

// Within is the last millisecond at which the bill is no more than most, if the meter goes on; false when it never is more. The
// bill of a meter that ends then never exceeds it.
func (d Draw) Within(most money.Micros) (last time.Time, exceeds bool) {
	d.End, d.PostedTo = nil, nil
	return Funds{BalanceMicros: most, Draws: []Draw{d}}.Exceeds()
}

// Runs says that the meter costs something at t.
func (d Draw) Runs(t time.Time) bool {
	return d.RateMicrosPerHour > 0 && (d.End == nil || d.End.After(t))
}

// Funds is money and what draws on it: an account with its meters, or a budget with those of its project.
type Funds struct {
	// BalanceMicros is the ledger's, with what is posted of the draws taken out.
	BalanceMicros money.Micros
	// Since is the first instant that an answer may name; zero for any.
	Since time.Time
	// Debits are what somebody else took out since, in any order: it is missing from then on, and was there for what was used before.
	Debits []Debit
	// CreditedAt is when money last came, usage that was given back aside; zero for never.
	CreditedAt time.Time
	Draws      []Draw
}

// Debit is money that was taken out for something else than usage.
type Debit struct {
	At     time.Time
	Micros money.Micros
}

// Available is what is left at t, in micros: the balance less what the draws have cost by then and the ledger does not show.
func (f Funds) Available(t time.Time) (money.Micros, error) {
	left := f.BalanceMicros
	for _, draw := range f.Draws {
		cost, err := draw.Cost(t)
		if err != nil {
			return 0, err
		}
		posted, err := draw.Posted()
		if err != nil {
			return 0, err
		}
		accrued := cost - posted // both lie within [0, 2^63)
		if (accrued > 0 && left < math.MinInt64+accrued) || (accrued < 0 && left > math.MaxInt64+accrued) {
			return 0, money.ErrOverflow
		}
		left -= accrued
	}
	return left, nil
}

// lasting is what was left at t of what is there now and what was taken out since. It never rises with t, as a debit is missing once it is made.
// One within a millisecond belongs to its end: before it the money was there.
func (f Funds) lasting(t time.Time) (money.Micros, error) {
	left, err := f.Available(t)
	for _, debit := range f.Debits {
		if err != nil || !t.Before(debit.At) {
			continue
		}
		if left > math.MaxInt64-debit.Micros {
			return 0, money.ErrOverflow
		}
		left += debit.Micros
	}
	return left, err
}

// horizon is how far ahead an instant is looked for: beyond it is never, and within it every duration fits.
const horizon = 100 * 365 * 24 * time.Hour

// Reaches is the first millisecond, none before Since or before the first meter began, at which no more than level is left, or was before a
// debit took more; false when that is never the case. It asks the charge rule itself, so a release at that instant leaves exactly level of
// what was there, less at most what the draws cost in one millisecond, and less the debits.
func (f Funds) Reaches(level money.Micros) (at time.Time, ever bool) {
	from, draws := f.from()
	if !draws {
		return time.Time{}, false
	}
	reached := func(ms int) bool {
		left, err := f.lasting(from.Add(time.Duration(ms) * time.Millisecond))
		return err != nil || left <= level // an amount that fits no ledger is more than anybody has
	}
	last := int(horizon / time.Millisecond)
	if !reached(last) {
		return time.Time{}, false
	}
	return from.Add(time.Duration(sort.Search(last, reached)) * time.Millisecond), true
}

// Exceeds is the last millisecond at which no more is used than there is, none before Since or before the first meter began; false
// when there always is enough.
func (f Funds) Exceeds() (last time.Time, ever bool) {
	over, ever := f.Reaches(-1)
	if !ever {
		return time.Time{}, false
	}
	if from, _ := f.from(); !over.After(from) {
		return from, true
	}
	return over.Add(-time.Millisecond), true
}

// from is the first instant that an answer may name.
func (f Funds) from() (time.Time, bool) {
	var from time.Time
	for i, draw := range f.Draws {
		if i == 0 || draw.Anchor.Before(from) {
			from = draw.Anchor
		}
	}
	if f.Since.After(from) {
		from = f.Since
	}
	// An instant within a millisecond belongs to its end.
	if cut := from.Truncate(time.Millisecond); !cut.Equal(from) {
		from = cut.Add(time.Millisecond)
	}
	return from.UTC(), len(f.Draws) > 0
}

// RateMicrosPerHour is what the draws cost together at t; ErrOverflow when that fits no ledger.
func (f Funds) RateMicrosPerHour(t time.Time) (money.Micros, error) {
	var rate money.Micros
	for _, draw := range f.Draws {
		if !draw.Runs(t) {
			continue
		}
		if rate > math.MaxInt64-draw.RateMicrosPerHour {
			return 0, money.ErrOverflow
		}
		rate += draw.RateMicrosPerHour
	}
	return rate, nil
}
