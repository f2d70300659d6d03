package workflows_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

// topping is an automatic top-up in memory: what is wanted, and each charge that the review recorded.
type topping struct {
	rule   billing.TopUp
	amount money.Micros
	most   int // how many charges the month's cap allows
	// takes is how long a charge is under way; declined ones come to nothing.
	takes    time.Duration
	declined bool
	flying   id.Payment
	charges  int
	// recorded is when each was.
	recorded []time.Time
}

// judgeTopUp is the part of the review that records a charge, by the same rule.
func (f *treasury) judgeTopUp(review *workflows.FundsReview, funds billing.Funds) {
	if f.topping == nil {
		return
	}
	if f.topping.flying == "" {
		due, err := f.topping.rule.Due(funds, f.now())
		require.NoError(f.t, err)
		if due == nil || f.topping.charges == f.topping.most {
			return
		}
		if due.After(f.now()) {
			if review.Next == nil || due.Before(*review.Next) {
				review.Next = due
			}
			return
		}
		f.topping.charges++
		f.topping.flying = id.Payment(fmt.Sprintf("pay_%d", f.topping.charges))
		f.topping.recorded = append(f.topping.recorded, f.now())
	}
	review.TopUp = f.topping.flying
}

// charge is the payment's workflow: it takes its time, and comes to what the test says.
func (f *treasury) charge(ctx workflow.Context, in workflows.PaymentInput) error {
	if err := workflow.Sleep(ctx, f.topping.takes); err != nil {
		return err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	return workflow.ExecuteActivity(ctx, chargeEnds, in).Get(ctx, nil)
}

// chargeEnds is the activity in which a charge comes to what the test says.
const chargeEnds = "test.charge_ends"

func (f *treasury) endCharge(_ context.Context, in workflows.PaymentInput) error {
	require.True(f.t, in.Charge)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Equal(f.t, f.topping.flying, in.PaymentID, "one at a time")
	if f.topping.flying = ""; f.topping.declined {
		f.topping.rule.NotBefore = f.now().Add(time.Minute)
	} else {
		f.deposit(f.topping.amount)
	}
	f.env.RegisterDelayedCallback(f.tell, time.Millisecond)
	return nil
}

// A card that is charged in time keeps an account off every rung of the ladder; when the cap is reached the ladder takes over.
func TestATopUpKeepsAnAccountOffTheLadder(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly) // a million a second: the low-balance rung is reached after 700 s
	f.topping = &topping{rule: billing.TopUp{LevelMicros: 400_000_000, Lead: 60 * time.Second}, amount: 500_000_000, most: 3, takes: 5 * time.Second}
	f.run()
	require.Equal(t, 3, f.topping.charges)
	from := start.Truncate(time.Millisecond)
	require.Equal(t, []time.Duration{540 * time.Second, 1040 * time.Second, 1540 * time.Second}, []time.Duration{
		f.topping.recorded[0].Sub(from), f.topping.recorded[1].Sub(from), f.topping.recorded[2].Sub(from)})
	require.Equal(t, []time.Duration{2200 * time.Second}, f.reached(billing.LowBalance))
	require.Equal(t, []time.Duration{2500 * time.Second}, f.reached(billing.Depleted))
	f.requireUsedUp()
}

// A card that is declined is charged again only when it may be, and what runs ends when nothing is left.
func TestADeclinedTopUpIsNoTightLoop(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	f.topping = &topping{rule: billing.TopUp{LevelMicros: 400_000_000, Lead: 0}, amount: 500_000_000, most: 1 << 30, takes: time.Second, declined: true}
	f.run()
	// From 600 s to the end at 1000 s, a minute and a second apart.
	require.Equal(t, 7, f.topping.charges)
	require.Less(t, f.reviews, 40)
	require.Equal(t, []time.Duration{1000 * time.Second}, f.reached(billing.Depleted))
	f.requireUsedUp()
}

// Reviews that are told of changes while a charge is under way, or that lose their answers, start nothing twice, and a continuation neither.
func TestAChargeUnderWayIsStartedOnce(t *testing.T) {
	f := newTreasury(t, 1_000_000_000, hourly)
	f.topping = &topping{rule: billing.TopUp{LevelMicros: 400_000_000}, amount: 2_000_000_000, most: 1, takes: 90 * time.Second} // over before the rung at 700 s
	f.twice = true
	for second := range 20 {
		f.at(time.Duration(601+second)*time.Second, func() {})
	}
	f.run()
	require.Equal(t, 1, f.topping.charges)
	require.Equal(t, []time.Duration{2700 * time.Second}, f.reached(billing.LowBalance)) // 3 000 less 300 at a million a second
}
