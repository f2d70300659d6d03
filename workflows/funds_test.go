package workflows_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

type instants = []time.Duration

// One allocation at a million micros a second and a thousand seconds of money: the warning at 700 s, the announcement 100 s before the
// end, the end at 1000 s, each to the millisecond and once.
func TestFundsOneAllocation(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	f.run()
	require.Equal(t, instants{700 * time.Second}, f.reached(billing.LowBalance))
	require.Equal(t, instants{900 * time.Second}, f.reached(billing.AutoReleasePending))
	require.Equal(t, instants{1000 * time.Second}, f.reached(billing.Depleted))
	require.Equal(t, start.Truncate(time.Millisecond).Add(1000*time.Second), *f.meters[0].end)
	require.Equal(t, allocation.CauseFunds, f.meters[0].cause)
	require.Zero(t, f.balance)
	require.Len(t, f.written, 3)
	require.LessOrEqual(t, f.reviews, 6, "it sleeps in between")
}

func TestFundsTwentyAllocationsAtDifferentRates(t *testing.T) {
	f := newTreasury(t, 10_000_000_000, hourly)
	for i := range 19 {
		rate := money.Micros(123_456_789*(i+1) + 7)
		f.at(time.Duration(i*13+1)*time.Second+time.Duration(i*7)*time.Millisecond, func() { f.begin(rate, f.now()) })
	}
	f.run()
	require.Len(t, f.written, 3)
	end := f.reached(billing.Depleted)[0]
	for _, m := range f.meters {
		require.Equal(t, end, m.end.Sub(start.Truncate(time.Millisecond)), "all end at the same millisecond")
		require.Equal(t, 1, f.heard[m.id])
	}
	f.requireUsedUp()
}

func TestFundsTopUpAtEveryRung(t *testing.T) {
	const step = 500_000_000
	for name, test := range map[string]struct {
		at                     time.Duration
		low, pending, depleted instants
	}{
		"before the warning":           {600 * time.Second, instants{1200 * time.Second}, instants{1400 * time.Second}, instants{1500 * time.Second}},
		"after the warning":            {800 * time.Second, instants{700 * time.Second, 1200 * time.Second}, instants{1400 * time.Second}, instants{1500 * time.Second}},
		"after the announcement":       {950 * time.Second, instants{700 * time.Second, 1200 * time.Second}, instants{900 * time.Second, 1400 * time.Second}, instants{1500 * time.Second}},
		"a millisecond before the end": {1000*time.Second - time.Millisecond, instants{700 * time.Second, 1200 * time.Second}, instants{900 * time.Second, 1400 * time.Second}, instants{1500 * time.Second}},
		"a millisecond after the end":  {1000*time.Second + time.Millisecond, instants{700 * time.Second}, instants{900 * time.Second}, instants{1000 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTreasury(t, 1_000_000_000, hourly)
			f.at(test.at, func() { f.deposit(step) })
			f.run()
			require.Equal(t, test.low, f.reached(billing.LowBalance))
			require.Equal(t, test.pending, f.reached(billing.AutoReleasePending))
			require.Equal(t, test.depleted, f.reached(billing.Depleted))
			require.Equal(t, test.depleted[0], f.meters[0].end.Sub(start.Truncate(time.Millisecond)))
		})
	}
}

// Too little to leave the rung of the warning: the release is announced again, with its new deadline.
func TestFundsTopUpThatOnlyMovesTheDeadline(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	f.at(950*time.Second, func() { f.deposit(100_000_000) })
	f.run()
	require.Equal(t, instants{700 * time.Second}, f.reached(billing.LowBalance), "it is low all the time")
	require.Equal(t, instants{900 * time.Second, 1000 * time.Second}, f.reached(billing.AutoReleasePending))
	require.Equal(t, instants{1100 * time.Second}, f.reached(billing.Depleted))
	require.Zero(t, f.balance)
}

func TestFundsPolicyChange(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	f.at(100*time.Second, func() { f.ladder = billing.Ladder{ThresholdMicros: 950_000_000, Grace: 600 * time.Second} })
	f.at(200*time.Second, func() { f.ladder.ThresholdMicros = 500_000_000 })
	f.run()
	require.Equal(t, instants{50 * time.Second, 500 * time.Second}, f.reached(billing.LowBalance), "at once, since its instant has passed; and again when the threshold went down")
	require.Equal(t, instants{400 * time.Second}, f.reached(billing.AutoReleasePending))
	require.Equal(t, instants{1000 * time.Second}, f.reached(billing.Depleted))
	require.Zero(t, f.balance)
}

// Two deposits race the end: one is committed before the account is looked at, the other right after the end was written. The end
// happens once or not at all, and every micro that was paid in is there.
func TestFundsTwoRacingTopUps(t *testing.T) {
	for name, enough := range map[string]money.Micros{"the first is enough": 200_000_000, "the first is not": 0} {
		t.Run(name, func(t *testing.T) {
			f := newTreasury(t, 1_000_000_000, hourly)
			raced := false
			f.before = func(int) error {
				if !raced && f.now().Sub(start.Truncate(time.Millisecond)) >= 1000*time.Second {
					f.deposit(enough)
				}
				return nil
			}
			f.after = func(int) error {
				if !raced && f.now().Sub(start.Truncate(time.Millisecond)) >= 1000*time.Second {
					raced = true
					f.deposit(300_000_000)
				}
				return nil
			}
			f.run()
			require.True(t, raced)
			if enough > 0 {
				require.Equal(t, instants{1500 * time.Second}, f.reached(billing.Depleted))
				require.Zero(t, f.balance)
				return
			}
			require.Equal(t, instants{1000 * time.Second}, f.reached(billing.Depleted))
			require.Equal(t, money.Micros(300_000_000), f.balance, "what came too late is there for the next allocation")
		})
	}
}

// Postgres is away from before the announcement to long after the end: the meters end as of the exact instant, nobody is charged for
// the time since, and what that is is written down.
func TestFundsOutageAcrossTheDeadline(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly, 2*hourly)
	f.before = func(int) error {
		if at := f.now().Sub(start.Truncate(time.Millisecond)); at > 250*time.Second && at < 2000*time.Second {
			return errors.New("the database is away")
		}
		return nil
	}
	f.at(260*time.Second, func() {})
	f.run()
	depleted := f.reached(billing.Depleted)
	require.Equal(t, instants{333_334 * time.Millisecond}, depleted)
	require.Empty(t, f.reached(billing.AutoReleasePending)[1:], "it was announced in time, once")
	last := f.written[len(f.written)-1]
	require.Greater(t, last.Late, 1600*time.Second)
	require.Equal(t, last.Late.Milliseconds()*3000, int64(last.WrittenOffMicros))
	f.requireUsedUp()
}

func TestFundsEachStepFailingAndRepeated(t *testing.T) {
	for name, trouble := range map[string]func(f *treasury){
		"every look fails once":           func(f *treasury) { f.before = odd },
		"every answer is lost once":       func(f *treasury) { f.after = odd },
		"every look is carried out twice": func(f *treasury) { f.twice = true },
	} {
		t.Run(name, func(t *testing.T) {
			f := newTreasury(t, 1_000_000_000, hourly)
			trouble(f)
			f.at(950*time.Second, func() { f.deposit(500_000_000) })
			f.run()
			require.Equal(t, instants{700 * time.Second, 1200 * time.Second}, f.reached(billing.LowBalance))
			require.Equal(t, instants{900 * time.Second, 1400 * time.Second}, f.reached(billing.AutoReleasePending))
			require.Equal(t, instants{1500 * time.Second}, f.reached(billing.Depleted))
			require.Zero(t, f.balance)
		})
	}
}

func odd(call int) error {
	if call%2 == 1 {
		return errors.New("told to fail")
	}
	return nil
}

// An allocation whose workflow cannot be reached is told again, and its meter still ends as of the instant.
func TestFundsOrdersAgainWhatDidNotHear(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly, hourly)
	f.deaf[f.meters[1].id] = 3
	f.run()
	require.Equal(t, 1, f.heard[f.meters[0].id])
	require.Equal(t, 4, f.heard[f.meters[1].id])
	require.Equal(t, 500*time.Second, f.meters[1].end.Sub(start.Truncate(time.Millisecond)))
	require.Zero(t, f.balance)
}

func TestFundsBelowZeroBeforeTheFirstAllocation(t *testing.T) {
	f := newTreasury(t, -5_000_000, hourly)
	f.run()
	require.Equal(t, f.meters[0].anchor, *f.meters[0].end, "nothing is charged")
	require.Equal(t, money.Micros(-5_000_000), f.balance)
	require.Len(t, f.reached(billing.Depleted), 1)
	require.Empty(t, f.reached(billing.AutoReleasePending), "there is nothing left to announce")
}

func TestFundsLeavesAloneWhatCostsNothing(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly, 0)
	suspended := f.begin(hourly, start)
	at := suspended.anchor
	suspended.suspended, suspended.end = true, &at
	preparing := f.begin(hourly, time.Time{})
	f.run2(func() { f.meters[1].stop(f.now(), f.now(), allocation.CauseTenant) })
	require.NotNil(t, preparing.end, "what is being prepared ends with the money")
	require.Zero(t, f.heard[f.meters[1].id]+f.heard[suspended.id])
	require.Zero(t, f.balance)
}

// run2 runs the watch, and then does something before the books are checked.
func (f *treasury) run2(then func()) {
	f.env.ExecuteWorkflow(workflows.Funds, workflows.FundsInput{AccountID: theAccount, TenantID: someTenant})
	require.NoError(f.t, f.env.GetWorkflowError())
	then()
	f.requireRight()
}

func TestFundsEndsWhenNothingCostsAnything(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	f.at(10*time.Second, func() { f.meters[0].stop(f.now(), f.now(), allocation.CauseTenant) })
	f.run()
	require.Equal(t, 10*time.Second, f.env.Now().Sub(start.Truncate(time.Millisecond)).Truncate(time.Second))
	require.Empty(t, f.written)
}

// Three thousand changes are told, in bursts and across continuations: none changes what is found, and Postgres is asked once a burst.
func TestFundsContinuesAsNewUnderThousandsOfChanges(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	input := workflows.FundsInput{AccountID: theAccount, TenantID: someTenant}
	for range 6 {
		for i := range 20 {
			f.env.RegisterDelayedCallback(func() {
				for range 24 {
					f.env.SignalWorkflowSkippingWorkflowTask(workflows.FundsChangedSignal, workflows.FundsChange{Because: "noise"})
				}
				f.tell()
			}, time.Duration(i+1)*time.Second)
		}
		f.env.RegisterDelayedCallback(func() { f.env.SetContinueAsNewSuggested(true) }, 20*time.Second+500*time.Millisecond)
		f.env.RegisterDelayedCallback(f.tell, 21*time.Second)
		input = f.continued(input)
	}
	require.LessOrEqual(t, f.reviews, 6*24, "one look a burst")
	f.runFrom(input)
	require.Equal(t, 7, f.runs)
	require.Equal(t, instants{700 * time.Second}, f.reached(billing.LowBalance))
	require.Equal(t, instants{1000 * time.Second}, f.reached(billing.Depleted))
	require.Zero(t, f.balance)
}

func TestFundsExplainsItself(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	var told workflows.FundsExplanation
	f.env.RegisterDelayedCallback(func() {
		value, err := f.env.QueryWorkflow(workflows.ExplainQuery)
		require.NoError(t, err)
		require.NoError(t, value.Get(&told))
	}, 800*time.Second)
	f.run()
	begin := start.Truncate(time.Millisecond)
	require.Equal(t, begin.Add(700*time.Second), told.Review.LowAt.UTC())
	require.Equal(t, begin.Add(900*time.Second), told.Review.PendingAt.UTC())
	require.Equal(t, begin.Add(1000*time.Second), told.Review.ZeroAt.UTC())
	require.Equal(t, begin.Add(900*time.Second), told.NextDeadline.UTC())
	require.Len(t, told.Review.Standing, 1)
	require.Equal(t, billing.LowBalance, told.Review.Standing[0].Rung)
}
