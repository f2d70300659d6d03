package workflows_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

// bill is the charge rule over integers without bounds.
func bill(elapsed time.Duration) int64 {
	total := new(big.Int).Mul(big.NewInt(int64(rate)), big.NewInt(elapsed.Milliseconds()))
	return total.Div(total, big.NewInt(3_600_000)).Int64()
}

// requireWithin checks that the limit was used up to the last millisecond, and not exceeded.
func (w *world) requireWithin(most money.Micros) {
	w.t.Helper()
	used := w.meteredTo.Sub(*w.meteredFrom)
	require.LessOrEqual(w.t, bill(used), int64(most))
	require.Greater(w.t, bill(used+time.Millisecond), int64(most))
	require.LessOrEqual(w.t, w.charged()-w.credits, most)
	require.Equal(w.t, allocation.CauseLimit, w.transitions[2].Cause)
}

func TestSpendingLimitEndsAtTheLastMillisecondItPaysFor(t *testing.T) {
	for name, settlement := range map[string]int64{"a window a settlement": 1, "fifteen": 15} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.terms.WindowsPerSettlement = settlement
			w.terms.MaxSpendMicros = 1_234_567_891
			w.request()
			w.requireRight(w.run())
			w.requireWithin(w.terms.MaxSpendMicros)
			require.Equal(t, wholeLife, w.path)
			require.Zero(t, w.credits, "nothing was posted beyond it")
		})
	}
}

func TestDurationLimitEndsToTheMillisecond(t *testing.T) {
	w := newWorld(t)
	w.terms.WindowsPerSettlement, w.terms.MaxDurationSeconds, w.terms.MaxSpendMicros = 15, 1000, money.MaxSafe
	w.request()
	var told workflows.Explanation
	w.env.RegisterDelayedCallback(func() { told = w.explain() }, 5*time.Minute)
	w.requireRight(w.run())
	require.Equal(t, w.meteredFrom.Add(1000*time.Second), *w.meteredTo)
	require.Equal(t, *w.meteredTo, told.LimitAt.UTC())
	require.Equal(t, allocation.CauseLimit, w.transitions[2].Cause)
}

// An outage across the limit: what is found late is not charged.
func TestSpendingLimitHoldsAcrossAnOutage(t *testing.T) {
	w := newWorld(t)
	w.terms.MaxSpendMicros = 1_234_567_891
	w.before["ledger.post_windows"] = w.awayUntil(start.Add(2 * time.Hour))
	w.request()
	w.requireRight(w.run())
	w.requireWithin(w.terms.MaxSpendMicros)
}

func TestReleaseBeforeTheLimitIsTheTenants(t *testing.T) {
	w := newWorld(t)
	w.terms.MaxDurationSeconds = 600
	w.releaseAfter(5 * time.Minute)
	w.request()
	w.requireRight(w.run())
	require.Equal(t, allocation.CauseTenant, w.transitions[2].Cause)
}

func TestSpendingLimitSurvivesAContinuation(t *testing.T) {
	w := newWorld(t)
	w.terms.MaxSpendMicros = 1_234_567_891
	w.request()
	input := firstInput()
	for range 3 {
		w.env.RegisterDelayedCallback(func() { w.env.SetContinueAsNewSuggested(true) }, 3*time.Minute+20*time.Second)
		input = w.executeUntilContinued(input)
	}
	w.requireRight(w.runFrom(input))
	w.requireWithin(w.terms.MaxSpendMicros)
}

// The time of a suspension costs nothing and so uses up nothing of what may be spent.
func TestSpendingLimitDoesNotCountASuspension(t *testing.T) {
	w := newWorld(t)
	w.terms.MaxSpendMicros = 1_234_567_891
	w.at(10*time.Minute, someTenant, true)
	w.at(20*time.Minute, someTenant, false)
	w.request()
	w.requireRight(w.run())
	free := w.suspensions[0].End.Sub(w.suspensions[0].Start)
	require.Greater(t, free, 9*time.Minute)
	spent := w.charged() - w.credits
	require.LessOrEqual(t, spent, w.terms.MaxSpendMicros)
	require.Greater(t, int64(spent)+int64(rate)/3_600_000+1, int64(w.terms.MaxSpendMicros))
}
