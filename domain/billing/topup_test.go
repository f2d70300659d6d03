package billing_test

import (
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
)

func TestATopUpIsDueAheadOfItsLevel(t *testing.T) {
	anchor := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const rate money.Micros = 3_600_000_000 // a million a second
	draw := billing.Draw{Meter: billing.Meter{RateMicrosPerHour: rate, Anchor: anchor}}
	over := draw
	end := anchor.Add(time.Second)
	over.End = &end
	for name, c := range map[string]struct {
		balance money.Micros
		draws   []billing.Draw
		rule    billing.TopUp
		now     time.Duration
		want    time.Duration // since the anchor; negative for never
	}{
		"ahead":                          {100_000_000, []billing.Draw{draw}, billing.TopUp{LevelMicros: 40_000_000, Lead: 10 * time.Second}, 0, 50 * time.Second},
		"without a lead":                 {100_000_000, []billing.Draw{draw}, billing.TopUp{LevelMicros: 40_000_000}, 0, 60 * time.Second},
		"later than it was":              {100_000_000, []billing.Draw{draw}, billing.TopUp{LevelMicros: 40_000_000, Lead: 10 * time.Second}, 70 * time.Second, 50 * time.Second},
		"not before it may":              {100_000_000, []billing.Draw{draw}, billing.TopUp{LevelMicros: 40_000_000, NotBefore: anchor.Add(80 * time.Second)}, 70 * time.Second, 80 * time.Second},
		"twice as fast":                  {100_000_000, []billing.Draw{draw, draw}, billing.TopUp{LevelMicros: 40_000_000}, 0, 30 * time.Second},
		"nothing runs":                   {100_000_000, nil, billing.TopUp{LevelMicros: 400_000_000}, 0, -1},
		"nothing runs any more":          {100_000_000, []billing.Draw{over}, billing.TopUp{LevelMicros: 400_000_000}, 2 * time.Second, -1},
		"nothing is left to be saved":    {100_000_000, []billing.Draw{draw}, billing.TopUp{LevelMicros: 40_000_000}, 100 * time.Second, -1},
		"a moment before nothing is":     {100_000_000, []billing.Draw{draw}, billing.TopUp{LevelMicros: 40_000_000}, 99_999 * time.Millisecond, 60 * time.Second},
		"below the level from the start": {30_000_000, []billing.Draw{draw}, billing.TopUp{LevelMicros: 40_000_000}, 0, 0},
	} {
		due, err := c.rule.Due(billing.Funds{BalanceMicros: c.balance, Draws: c.draws}, anchor.Add(c.now))
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want < 0:
			if due != nil {
				t.Errorf("%s: due at %s", name, due)
			}
		case due == nil || !due.Equal(anchor.Add(c.want)):
			t.Errorf("%s: due at %v and not after %s", name, due, c.want)
		}
	}
}
