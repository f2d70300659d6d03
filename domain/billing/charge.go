// Package billing says what time costs: the charge rule and the cutting of a metered time into
// windows. Pure functions over UTC milliseconds; it imports the standard library and domain leaves.
package billing

import (
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
)

const millisecondsPerHour = 3_600_000

// Charge is C(t) = floor(rate_micros_per_hour × elapsed_ms / 3 600 000) with a 128-bit product.
// Elapsed time is truncated to milliseconds. Any split of a time into consecutive pieces adds up to
// the same total, to the micro, because each piece charges C(end) − C(start).
func Charge(rateMicrosPerHour money.Micros, elapsed time.Duration) (money.Micros, error) {
	amount, err := money.MulDivFloor(int64(rateMicrosPerHour), elapsed.Milliseconds(), millisecondsPerHour)
	if err != nil {
		return 0, fmt.Errorf("charge of %d micros an hour over %s: %w", rateMicrosPerHour, elapsed, err)
	}
	return money.Micros(amount), nil
}

// Period is a half-open stretch of metered time [Start, End), in UTC milliseconds.
type Period struct{ Start, End time.Time }

// Amount is what the period costs within a meter that started at anchor: C(end) − C(start).
func (p Period) Amount(rateMicrosPerHour money.Micros, anchor time.Time) (money.Micros, error) {
	before, err := Charge(rateMicrosPerHour, p.Start.Sub(anchor))
	if err != nil {
		return 0, err
	}
	after, err := Charge(rateMicrosPerHour, p.End.Sub(anchor))
	if err != nil {
		return 0, err
	}
	return after - before, nil
}

// Boundary is the absolute end of window n (counted from zero) of a meter anchored at anchor. Windows hang on
// the anchor and never on each other, so that no delay ever shifts a later one.
func Boundary(anchor time.Time, window time.Duration, n int64) time.Time {
	return anchor.Add(time.Duration(n+1) * window)
}

// Windows cuts [from, to) at the window boundaries of the meter; the last piece may be partial. At most
// limit periods are returned; none when window is not positive or from lies before anchor, because no window
// contains such an instant.
func Windows(anchor, from, to time.Time, window time.Duration, limit int) []Period {
	var periods []Period
	if window <= 0 || from.Before(anchor) {
		return nil
	}
	for from.Before(to) && len(periods) < limit {
		n := int64(from.Sub(anchor) / window)
		end := Boundary(anchor, window, n)
		if end.After(to) {
			end = to
		}
		periods = append(periods, Period{Start: from, End: end})
		from = end
	}
	return periods
}
