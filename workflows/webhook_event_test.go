package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/workflows"
)

const someEvent = "evt_a"

// convert reads the input that a continuation begins with.
func convert(again *workflow.ContinueAsNewError, input any) error {
	return converter.GetDefaultDataConverter().FromPayloads(again.Input, input)
}

// postman is Postgres and the cluster for the events of the payment provider: where each goes, who was told, what was written of it, and
// what a sweep finds.
type postman struct {
	*till
	route workflows.EventRoute
	told  []workflows.EventRoute
	noted map[string]string
	// since is from when on each sweep asked.
	since []time.Time
	now   func() time.Time
	again int64
}

func newPostman(t *testing.T, route workflows.EventRoute) *postman {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	p := emptyPostman(t, route)
	p.env = suite.NewTestWorkflowEnvironment()
	p.env.SetStartTime(start)
	p.now = p.env.Now
	p.bind(p.env)
	return p
}

func emptyPostman(t *testing.T, route workflows.EventRoute) *postman {
	route.EventID = someEvent
	return &postman{till: emptyTill(t), route: route, noted: map[string]string{}, now: time.Now, again: 300}
}

// bind registers every step that the postman answers.
func (p *postman) bind(registry worker.ActivityRegistry) {
	bindTill(p.till, registry, workflows.StepRouteEvent, func(in workflows.WebhookEventInput) (workflows.EventRoute, error) {
		require.Equal(p.t, someEvent, in.EventID)
		return p.route, nil
	})
	bindTill(p.till, registry, workflows.StepTellEvent, func(in workflows.EventRoute) (workflows.Nothing, error) {
		require.Empty(p.t, p.noted, "an event is written down once it was told, so that a crash between the two tells it again")
		p.told = append(p.told, in)
		return workflows.Nothing{}, nil
	})
	bindTill(p.till, registry, workflows.StepNoteEvent, func(in workflows.EventRoute) (workflows.Nothing, error) {
		if _, before := p.noted[in.EventID]; !before { // the first word stands
			p.noted[in.EventID] = in.Outcome
		}
		return workflows.Nothing{}, nil
	})
	bindTill(p.till, registry, workflows.StepSweep, func(in workflows.SweepIn) (workflows.SweepOut, error) {
		p.since = append(p.since, in.Since)
		return workflows.SweepOut{Next: p.now().Add(-10 * time.Minute), Asked: 2, Begun: 2, LookAgainSeconds: p.again}, nil
	})
}

// Whatever goes wrong with whichever step, whoever an event is for is told of it, and what became of it is written down once.
func TestAnEventIsToldAndWrittenDown(t *testing.T) {
	routes := map[string]workflows.EventRoute{
		"a payment": {PaymentID: somePayment, About: somePayment, Outcome: "told"},
		"a refund":  {RefundID: someRefund, About: someRefund, Outcome: "told"},
		"a dispute": {DisputeID: someDispute, StripeDisputeID: "dp_a", About: someDispute, Outcome: "told"},
		"a card":    {CardID: someCard, About: someCard, Outcome: "told"},
	}
	for about, route := range routes {
		for _, step := range []string{workflows.StepRouteEvent.Name, workflows.StepTellEvent.Name, workflows.StepNoteEvent.Name} {
			for mishap, cause := range mishaps {
				t.Run(about+", "+step+": "+mishap, func(t *testing.T) {
					p := newPostman(t, route)
					cause(p.till, step)
					p.run(workflows.WebhookEvent, workflows.WebhookEventInput{EventID: someEvent})
					require.NotEmpty(t, p.told)
					for _, told := range p.told {
						require.Equal(t, p.route, told)
					}
					require.Equal(t, map[string]string{someEvent: "told"}, p.noted)
				})
			}
		}
	}
}

func TestAnEventThatIsForNobodyIsOnlyWrittenDown(t *testing.T) {
	for _, outcome := range []string{"unmatched", "ignored"} {
		p := newPostman(t, workflows.EventRoute{Outcome: outcome})
		p.run(workflows.WebhookEvent, workflows.WebhookEventInput{EventID: someEvent})
		require.Empty(t, p.told)
		require.Equal(t, map[string]string{someEvent: outcome}, p.noted)
	}
}

// A sweep that fails is made again from the same instant on, and each begins where the one before says: nothing lies between two of them,
// through every continuation.
func TestSweepsLeaveNothingOut(t *testing.T) {
	for mishap, cause := range mishaps {
		t.Run(mishap, func(t *testing.T) {
			p := newPostman(t, workflows.EventRoute{})
			cause(p.till, workflows.StepSweep.Name)
			p.env.RegisterWorkflow(workflows.StripeSweep)
			p.env.ExecuteWorkflow(workflows.StripeSweep, workflows.StripeSweepInput{Sweeps: 3})
			var again *workflow.ContinueAsNewError
			require.ErrorAs(t, p.env.GetWorkflowError(), &again)
			var next workflows.StripeSweepInput
			require.NoError(t, convert(again, &next))
			require.Zero(t, p.since[0], "the first one begins with what is known")
			begun := map[time.Time]bool{}
			for i, since := range p.since {
				if i > 0 && !since.Equal(p.since[i-1]) {
					require.True(t, since.After(p.since[i-1]))
				}
				begun[since.UTC()] = true
			}
			require.Len(t, begun, 3)
			require.Equal(t, 3, next.Sweeps)
			require.True(t, next.Since.After(p.since[len(p.since)-1]))
			require.GreaterOrEqual(t, p.env.Now().Sub(start), 15*time.Minute)

			p = newPostman(t, workflows.EventRoute{})
			p.env.RegisterWorkflow(workflows.StripeSweep)
			p.env.ExecuteWorkflow(workflows.StripeSweep, next)
			require.True(t, p.since[0].Equal(next.Since))
		})
	}
}

// A provider that is away for a day is asked ever more seldom, and again when it is back.
func TestASweepOutlastsAnOutage(t *testing.T) {
	p := newPostman(t, workflows.EventRoute{})
	attempts := 0
	workflows.StepSweep.Bind(p.env, func(context.Context, workflows.SweepIn) (workflows.SweepOut, error) {
		if attempts++; p.env.Now().Sub(start) < 24*time.Hour {
			return workflows.SweepOut{}, errors.New("it is away")
		}
		return workflows.SweepOut{Next: p.env.Now(), LookAgainSeconds: 300}, nil
	})
	p.env.RegisterWorkflow(workflows.StripeSweep)
	p.env.ExecuteWorkflow(workflows.StripeSweep, workflows.StripeSweepInput{Sweeps: 1})
	require.True(t, workflow.IsContinueAsNewError(p.env.GetWorkflowError()))
	require.Less(t, attempts, 2*24*60, "not more than twice a minute")
	require.Less(t, p.env.Now().Sub(start), 24*time.Hour+10*time.Minute)
}
