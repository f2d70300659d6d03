package billing

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
)

// Rung is a step of the ladder that an account climbs down as its money runs out.
type Rung string

const (
	// LowBalance: no more than the threshold is left.
	LowBalance Rung = "low_balance"
	// AutoReleasePending: what is left lasts no longer than the grace; its deadline is the instant at which nothing is.
	AutoReleasePending Rung = "auto_release_pending"
	// Depleted: nothing is left.
	Depleted Rung = "balance_depleted"
)

// Rungs lists the rungs from the top.
func Rungs() []Rung { return []Rung{LowBalance, AutoReleasePending, Depleted} }

// Standing is how an account stands on a rung. Crossing counts how often it came down to it; Stands says that it has not
// come up again since. Deadline is set on AutoReleasePending.
type Standing struct {
	Crossing int64
	Stands   bool
	At       time.Time
	Deadline *time.Time
}

// Crossing is a change of how an account stands: a rung reached, or left again.
type Crossing struct {
	Rung    Rung
	Number  int64
	Reached bool
	// At is the exact instant of the rule for a rung that was reached, and when it was found for one that was left.
	At time.Time
	// Deadline is set on AutoReleasePending that was reached.
	Deadline *time.Time
	// Late is how long after At it was found, and WrittenOffMicros what the account's meters cost in between; both are set on
	// Depleted, whose releases count from At.
	Late             time.Duration
	WrittenOffMicros money.Micros
}

// Ladder is where the rungs are.
type Ladder struct {
	ThresholdMicros money.Micros
	Grace           time.Duration
}

// Verdict is what an account's funds mean at an instant.
type Verdict struct {
	AvailableMicros money.Micros
	// LowAt, PendingAt and ZeroAt are when the rungs are reached, in the past for those passed; nil for never.
	LowAt, PendingAt, ZeroAt *time.Time
	// Crossings are the changes that are due now, in order.
	Crossings []Crossing
	// Depleted says that nothing is left: what costs money ends as of ZeroAt.
	Depleted bool
	// Next is when the funds must be looked at again if nothing changes; nil for never.
	Next *time.Time
}

// Judge says which rungs are reached and left at now. A rung is reached once until it is left. A warning whose deadline has
// moved forward is left and reached again, since whoever was told the later one must be told.
func (l Ladder) Judge(funds Funds, standing map[Rung]Standing, now time.Time) (Verdict, error) {
	available, err := funds.Available(now)
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{AvailableMicros: available}
	v.LowAt = instant(funds.Reaches(l.ThresholdMicros))
	if v.ZeroAt = instant(funds.Reaches(0)); v.ZeroAt != nil {
		pending := v.ZeroAt.Add(-l.Grace)
		v.PendingAt = &pending
		v.Depleted = !now.Before(*v.ZeroAt)
	}
	if err := v.judgeLow(funds, l.ThresholdMicros, standing[LowBalance], now); err != nil {
		return Verdict{}, err
	}
	v.judgePending(standing[AutoReleasePending], now)
	if err := v.judgeDepleted(funds, standing[Depleted], now); err != nil {
		return Verdict{}, err
	}
	for _, at := range []*time.Time{v.LowAt, v.PendingAt, v.ZeroAt} {
		if at != nil && at.After(now) && (v.Next == nil || at.Before(*v.Next)) {
			v.Next = at
		}
	}
	return v, nil
}

func instant(at time.Time, ever bool) *time.Time {
	if !ever {
		return nil
	}
	return &at
}

// wasLeft says that more than a rung allows is there now, or was since the rung was reached: money may have come and be used up again before
// anybody looked.
func (v *Verdict) wasLeft(funds Funds, allows money.Micros, standing Standing) (bool, error) {
	if !standing.Stands || v.AvailableMicros > allows || !funds.CreditedAt.After(standing.At) {
		return standing.Stands && v.AvailableMicros > allows, nil
	}
	then, err := funds.Available(funds.CreditedAt)
	return then > allows, err
}

func (v *Verdict) judgeLow(funds Funds, threshold money.Micros, standing Standing, now time.Time) error {
	left, err := v.wasLeft(funds, threshold, standing)
	if err != nil {
		return err
	}
	if left {
		v.leave(LowBalance, standing, now)
	}
	if (left || !standing.Stands) && v.LowAt != nil && !now.Before(*v.LowAt) {
		v.reach(Crossing{Rung: LowBalance, Number: standing.Crossing + 1, At: *v.LowAt})
	}
	return nil
}

// judgePending warns only ahead of the end: a deadline that has passed unseen is no warning any more. One that has passed and ended nothing,
// since money came, is no deadline any more either: the next one is announced.
func (v *Verdict) judgePending(standing Standing, now time.Time) {
	due := v.PendingAt != nil && !now.Before(*v.PendingAt)
	moved := standing.Stands && due && standing.Deadline != nil && !v.Depleted && (v.ZeroAt.Before(*standing.Deadline) || !now.Before(*standing.Deadline))
	if standing.Stands && (moved || v.AvailableMicros > 0 && !due) {
		v.leave(AutoReleasePending, standing, now)
		standing.Stands = false
	}
	if !standing.Stands && due && !v.Depleted {
		at := *v.PendingAt
		if moved {
			at = now
		}
		v.reach(Crossing{Rung: AutoReleasePending, Number: standing.Crossing + 1, At: at, Deadline: v.ZeroAt})
	}
}

func (v *Verdict) judgeDepleted(funds Funds, standing Standing, now time.Time) error {
	left, err := v.wasLeft(funds, 0, standing)
	if err != nil {
		return err
	}
	if left {
		v.leave(Depleted, standing, now)
	}
	if standing.Stands && !left || !v.Depleted {
		return nil
	}
	remains, err := funds.Available(*v.ZeroAt)
	if err != nil {
		return err
	}
	v.reach(Crossing{
		Rung: Depleted, Number: standing.Crossing + 1, At: *v.ZeroAt, Late: now.Sub(*v.ZeroAt), WrittenOffMicros: remains - v.AvailableMicros,
	})
	return nil
}

func (v *Verdict) reach(crossing Crossing) {
	crossing.Reached = true
	v.Crossings = append(v.Crossings, crossing)
}

func (v *Verdict) leave(rung Rung, standing Standing, now time.Time) {
	v.Crossings = append(v.Crossings, Crossing{Rung: rung, Number: standing.Crossing, At: now})
}
