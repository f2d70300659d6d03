package billing

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
)

// BudgetPeriod is what a budget counts over.
type BudgetPeriod string

const (
	// BudgetMonth is a calendar month in UTC; a new month begins with nothing spent.
	BudgetMonth BudgetPeriod = "month"
	// BudgetTotal is all the time of the project.
	BudgetTotal BudgetPeriod = "total"
)

// At is the period that an instant lies in; without bounds for BudgetTotal.
func (p BudgetPeriod) At(now time.Time) Period {
	if p != BudgetMonth {
		return Period{}
	}
	now = now.UTC()
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Period{Start: start, End: start.AddDate(0, 1, 0)}
}

// Budget is what a project may spend in a period. Since is when it was set: a smaller budget ends nothing before that.
type Budget struct {
	AmountMicros   money.Micros
	WarningPercent int64
	Since          time.Time
	Period         Period
}

// BudgetVerdict is what a budget means at an instant.
type BudgetVerdict struct {
	SpentMicros money.Micros
	// WarningAt is when the warning's share is spent, ExhaustedAt the last millisecond that the budget pays for; both nil for not in
	// this period.
	WarningAt, ExhaustedAt *time.Time
	Warned, Exhausted      bool
	// Next is when to look again if nothing changes; nil for never.
	Next *time.Time
}

// Judge says what the meters of a project have spent of its budget, and when it is used up. Every meter that ran within the period
// belongs to draws, whether it has ended or not.
func (b Budget) Judge(draws []Draw, now time.Time) (BudgetVerdict, error) {
	funds := Funds{BalanceMicros: b.AmountMicros, Since: b.Since, Draws: make([]Draw, len(draws))}
	if b.Period.Start.After(funds.Since) {
		funds.Since = b.Period.Start
	}
	for i, draw := range draws {
		draw.PostedTo = nil
		if !b.Period.Start.IsZero() {
			draw.PostedTo = &b.Period.Start // what was used before belongs to another period
		}
		funds.Draws[i] = draw
	}
	left, err := funds.Available(now)
	if err != nil {
		return BudgetVerdict{}, err
	}
	share, err := money.MulDivFloor(int64(b.AmountMicros), b.WarningPercent, 100)
	if err != nil {
		return BudgetVerdict{}, err
	}
	v := BudgetVerdict{SpentMicros: b.AmountMicros - left}
	v.WarningAt = b.within(funds.Reaches(b.AmountMicros - money.Micros(share)))
	v.ExhaustedAt = b.within(funds.Exceeds())
	v.Warned = v.WarningAt != nil && !now.Before(*v.WarningAt)
	v.Exhausted = v.ExhaustedAt != nil && !now.Before(*v.ExhaustedAt)
	turns := instant(b.Period.End, !b.Period.End.IsZero())
	for _, at := range []*time.Time{v.WarningAt, v.ExhaustedAt, turns} {
		if at != nil && at.After(now) && (v.Next == nil || at.Before(*v.Next)) {
			v.Next = at
		}
	}
	return v, nil
}

// within drops an instant that the period ends before.
func (b Budget) within(at time.Time, ever bool) *time.Time {
	if !ever || !b.Period.End.IsZero() && !at.Before(b.Period.End) {
		return nil
	}
	return &at
}
