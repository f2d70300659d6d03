package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/workflows"
)

const someDelivery = "dlv_a"

// addressee is an endpoint with the log that PostgreSQL keeps of it: an attempt that was written down is not made again.
type addressee struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment
	// refusals is how many attempts are refused before one is taken.
	refusals int
	retry    webhook.Retry
	ended    webhook.State
	log      map[int]workflows.DeliveryStanding
	at       []time.Time
	// fail and lose are how often the step is away, and how often its answer is lost.
	fail, lose int
}

func newAddressee(t *testing.T, refusals int) *addressee {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	a := &addressee{t: t, env: suite.NewTestWorkflowEnvironment(), refusals: refusals, log: map[int]workflows.DeliveryStanding{},
		retry: webhook.Retry{Attempts: 15, Initial: 5 * time.Second, Maximum: 6 * time.Hour, Window: 72 * time.Hour}}
	a.env.SetStartTime(start)
	workflows.StepAttemptDelivery.Bind(a.env, func(_ context.Context, in workflows.DeliveryAttempt) (workflows.DeliveryStanding, error) {
		require.Equal(t, workflows.DeliveryAttempt{DeliveryID: someDelivery, Round: 2, Number: in.Number}, in)
		if a.fail--; a.fail >= 0 {
			return workflows.DeliveryStanding{}, errors.New("the database is away")
		}
		standing := a.attempt(in.Number)
		if a.lose--; a.lose >= 0 {
			return workflows.DeliveryStanding{}, errors.New("the answer was lost")
		}
		return standing, nil
	})
	return a
}

func (a *addressee) attempt(number int) workflows.DeliveryStanding {
	if a.ended != "" {
		return workflows.DeliveryStanding{State: a.ended}
	}
	if made, was := a.log[number]; was {
		return made
	}
	a.at = append(a.at, a.env.Now())
	standing := workflows.DeliveryStanding{State: webhook.Delivered, Outcome: webhook.Accepted, StatusCode: 204}
	if number <= a.refusals {
		standing = workflows.DeliveryStanding{State: webhook.Failed, Outcome: webhook.Unreachable}
		if pause, again := a.retry.Next(int64(number), a.env.Now().Sub(start), 0); again {
			standing.State, standing.RetryAfterMs = webhook.Pending, pause.Milliseconds()
		}
	}
	a.log[number] = standing
	return standing
}

func (a *addressee) deliver() {
	a.t.Helper()
	a.env.ExecuteWorkflow(workflows.WebhookDelivery, workflows.WebhookDeliveryInput{DeliveryID: someDelivery, Round: 2, EventType: event.ProvisioningActive})
	require.True(a.t, a.env.IsWorkflowCompleted())
	require.NoError(a.t, a.env.GetWorkflowError())
}

func TestADeliveryIsAttemptedUntilItIsTaken(t *testing.T) {
	a := newAddressee(t, 4)
	a.deliver()
	require.Equal(t, webhook.Delivered, a.log[5].State)
	require.Len(t, a.log, 5)
	for number, pause := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
		require.Equal(t, pause, a.at[number+1].Sub(a.at[number]), "before attempt %d", number+2)
	}
}

// Fifteen attempts take most of the three days, as policy has it.
func TestADeliveryThatNobodyTakesEnds(t *testing.T) {
	a := newAddressee(t, 1000)
	a.deliver()
	require.Len(t, a.log, 15)
	require.Equal(t, webhook.Failed, a.log[15].State)
	require.Greater(t, a.env.Now().Sub(start), 11*time.Hour)
	a = newAddressee(t, 1000)
	a.retry.Attempts = 1000
	a.deliver()
	require.LessOrEqual(t, a.env.Now().Sub(start), 72*time.Hour)
	require.Greater(t, a.env.Now().Sub(start), 60*time.Hour)
}

// Whatever goes wrong with the step, an attempt that was written down is not made twice.
func TestAnAttemptWhoseAnswerIsLostIsNotMadeAgain(t *testing.T) {
	for name, mishap := range map[string]func(*addressee){
		"it is away once": func(a *addressee) { a.fail = 1 }, "it is away for long": func(a *addressee) { a.fail = 30 },
		"its answer is lost": func(a *addressee) { a.lose = 1 }, "three answers are lost": func(a *addressee) { a.lose = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAddressee(t, 2)
			mishap(a)
			a.deliver()
			require.Len(t, a.at, 3)
			require.Equal(t, webhook.Delivered, a.log[3].State)
		})
	}
}

// Somebody disables the endpoint, or deletes it, while the delivery waits.
func TestADeliveryEndsWithItsEndpoint(t *testing.T) {
	a := newAddressee(t, 1000)
	a.env.RegisterDelayedCallback(func() { a.ended = webhook.Skipped }, time.Hour)
	a.deliver()
	require.Less(t, a.env.Now().Sub(start), 4*time.Hour)
	require.Less(t, len(a.log), 12)

	gone := newAddressee(t, 1000)
	gone.env.RegisterDelayedCallback(func() { gone.env.CancelWorkflow() }, time.Minute)
	gone.deliver()
	require.Len(t, gone.log, 15, "a cancellation in Temporal leaves no delivery pending")
}
