package billing

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
)

// Meter is a price and the time it runs for: from Anchor until End, or still running while End is nil.
type Meter struct {
	RateMicrosPerHour money.Micros
	Anchor            time.Time
	End               *time.Time
}

// Accrued is what the meter has cost between postedTo, the end of the last entry in the ledger, and now, in
// micros: what a balance does not show yet. A nil postedTo means that nothing was posted. It is never negative:
// what was posted beyond the meter's end is given back by the settlement and counts only then.
func (m Meter) Accrued(postedTo *time.Time, now time.Time) (money.Micros, error) {
	from, to := m.Anchor, now
	if postedTo != nil && postedTo.After(from) {
		from = *postedTo
	}
	if m.End != nil && m.End.Before(to) {
		to = *m.End
	}
	if !to.After(from) {
		return 0, nil
	}
	return Period{Start: from, End: to}.Amount(m.RateMicrosPerHour, m.Anchor)
}
