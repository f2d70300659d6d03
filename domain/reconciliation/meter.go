package reconciliation

import (
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Forgiven is metered time that an outage or a suspension gave back, and what was given for it.
type Forgiven struct {
	Period billing.Period
	Micros money.Micros
}

// Billed is an allocation's meter, and what the ledger holds of it. Times are UTC milliseconds.
type Billed struct {
	RateMicrosPerHour money.Micros
	Window            time.Duration
	// WindowsPerSettlement is how many windows are posted together.
	WindowsPerSettlement int64
	Anchor               time.Time
	// End is metered_to; nil while the meter runs.
	End *time.Time
	// SuspendedAt is since when the meter stands still.
	SuspendedAt *time.Time
	// Settled is where the ledger closed the meter; nil while it is open.
	Settled *time.Time
	// ChangedAt is when the allocation last changed: a settlement may take its time from then on.
	ChangedAt time.Time

	// Windows, FirstStart, LastEnd, GapMS, OverlapMS and UsageMicros are of the usage that was posted.
	Windows             int64
	FirstStart, LastEnd *time.Time
	GapMS, OverlapMS    int64
	UsageMicros         money.Micros
	// CreditMicros is what the settlement gave back of usage beyond the end.
	CreditMicros money.Micros
	Forgiven     []Forgiven
	// CorrectedMicros is what corrections gave the account (positive) or took from it.
	CorrectedMicros money.Micros
}

// Judgement is what is wrong with a bill. OwedMicros is what the account is owed: positive was charged too much, negative too little.
type Judgement struct {
	OwedMicros money.Micros
	// MissingMS is metered time without usage, SurplusMS usage without metered time.
	MissingMS, SurplusMS int64
	// SettlementDiffers says that the ledger closed the meter elsewhere than the allocation, or not at all.
	SettlementDiffers bool
}

// Judge compares a bill with the charge rule as of now. A running meter is due up to the lag that policy tolerates, and one that has just
// ended is not yet held to its end.
func (b Billed) Judge(now time.Time, lag time.Duration) (Judgement, error) {
	var j Judgement
	posted := b.Anchor
	if b.LastEnd != nil {
		posted = *b.LastEnd
	}
	due := b.due(posted, now, lag)
	j.MissingMS = b.GapMS + max(0, due.Sub(posted).Milliseconds())
	j.SurplusMS = b.OverlapMS
	if b.FirstStart != nil {
		j.MissingMS += max(0, b.FirstStart.Sub(b.Anchor).Milliseconds())
		j.SurplusMS += max(0, b.Anchor.Sub(*b.FirstStart).Milliseconds())
	}
	expected, err := b.expected(due)
	if err != nil {
		return j, err
	}
	charged := b.UsageMicros - b.CreditMicros
	for _, given := range b.Forgiven {
		charged -= given.Micros
	}
	j.OwedMicros = charged - expected - b.CorrectedMicros
	if beyond := posted.Sub(due).Milliseconds(); beyond > 0 && j.OwedMicros > 0 {
		j.SurplusMS += beyond
	}
	if b.CorrectedMicros != 0 && j.OwedMicros == 0 { // corrections made it right; the windows stay as they are
		j.MissingMS, j.SurplusMS = 0, 0
	}
	late := now.Sub(b.ChangedAt) >= lag
	j.SettlementDiffers = b.Settled != nil && (b.End == nil && late || b.End != nil && !b.Settled.Equal(*b.End)) || b.Settled == nil && b.End != nil && late
	return j, nil
}

// due is up to where the meter must have been billed, and no further.
func (b Billed) due(posted, now time.Time, lag time.Duration) time.Time {
	if b.End != nil {
		if b.Settled == nil && now.Sub(b.ChangedAt) < lag {
			return posted // its settlement is under way
		}
		return *b.End
	}
	span := b.Window * time.Duration(max(b.WindowsPerSettlement, 1))
	until := now.Add(-lag - span)
	if b.SuspendedAt != nil && b.SuspendedAt.Before(until) {
		until = *b.SuspendedAt
	}
	// Settlements hang on the anchor, and one that is due is posted within the lag.
	settled := b.Anchor
	if span > 0 && until.After(b.Anchor) {
		settled = b.Anchor.Add(until.Sub(b.Anchor).Truncate(span))
	}
	switch {
	case posted.Before(settled):
		return settled
	case posted.After(now.Add(lag)):
		return now // time that has not passed yet
	default:
		return posted
	}
}

// expected is what the charge rule makes of the meter up to due, less what was to be forgiven of it.
func (b Billed) expected(due time.Time) (money.Micros, error) {
	total, err := billing.Charge(b.RateMicrosPerHour, due.Sub(b.Anchor))
	if err != nil {
		return 0, err
	}
	for _, given := range b.Forgiven {
		period := given.Period
		if period.End.After(due) {
			period.End = due
		}
		if !period.End.After(period.Start) {
			continue
		}
		part, err := period.Amount(b.RateMicrosPerHour, b.Anchor)
		if err != nil {
			return 0, fmt.Errorf("time that was forgiven: %w", err)
		}
		total -= part
	}
	return total, nil
}
