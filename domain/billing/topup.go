package billing

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
)

// TopUp is when an account is to be topped up by itself.
type TopUp struct {
	// LevelMicros is the balance that is not to be reached; Lead is how long before that the money is fetched.
	LevelMicros money.Micros
	Lead        time.Duration
	// NotBefore is the earliest instant; the zero time for none.
	NotBefore time.Time
}

// Due is the instant at which the account is to be topped up, in the past where it should have been; nil for never at these rates. What
// does not cost anything any more needs no money, and where nothing is left what runs ends and is not paid for any more.
func (t TopUp) Due(funds Funds, now time.Time) (*time.Time, error) {
	rate, err := funds.RateMicrosPerHour(now)
	if err != nil || rate == 0 {
		return nil, err
	}
	left, err := funds.Available(now)
	if err != nil || left <= 0 {
		return nil, err
	}
	at, ever := funds.Reaches(t.LevelMicros)
	if !ever {
		return nil, nil
	}
	if at = at.Add(-t.Lead); at.Before(t.NotBefore) {
		at = t.NotBefore
	}
	return &at, nil
}
