package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/workflows"
)

const someMail = "mail_a"

// postOffice is an SMTP server with the log that PostgreSQL keeps of it: an attempt that was written down is not made again.
type postOffice struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment
	// answers are how the mail stands after its attempts; the last one stays.
	answers []workflows.EmailStanding
	log     map[int]workflows.EmailStanding
	at      []time.Time
	// fail and lose are how often the step is away, and how often its answer is lost.
	fail, lose int
}

func newPostOffice(t *testing.T, answers ...workflows.EmailStanding) *postOffice {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	p := &postOffice{t: t, env: suite.NewTestWorkflowEnvironment(), answers: answers, log: map[int]workflows.EmailStanding{}}
	p.env.SetStartTime(start)
	workflows.StepAttemptEmail.Bind(p.env, func(_ context.Context, in workflows.EmailAttempt) (workflows.EmailStanding, error) {
		require.Equal(t, workflows.EmailAttempt{MessageID: someMail, Number: in.Number}, in)
		if p.fail--; p.fail >= 0 {
			return workflows.EmailStanding{}, errors.New("the database is away")
		}
		standing, was := p.log[in.Number]
		if !was {
			standing = p.answers[min(in.Number, len(p.answers))-1]
			p.at, p.log[in.Number] = append(p.at, p.env.Now()), standing
		}
		if p.lose--; p.lose >= 0 {
			return workflows.EmailStanding{}, errors.New("the answer was lost")
		}
		return standing, nil
	})
	return p
}

func (p *postOffice) deliver() {
	p.t.Helper()
	p.env.ExecuteWorkflow(workflows.EmailDelivery, workflows.EmailDeliveryInput{MessageID: someMail, Kind: "billing.low_balance_warning"})
	require.True(p.t, p.env.IsWorkflowCompleted())
	require.NoError(p.t, p.env.GetWorkflowError())
}

func postponedFor(pause time.Duration) workflows.EmailStanding {
	return workflows.EmailStanding{State: email.Pending, Code: 451, RetryAfterMs: pause.Milliseconds()}
}

func TestAMailIsAttemptedUntilItIsTaken(t *testing.T) {
	p := newPostOffice(t, postponedFor(30*time.Second), postponedFor(time.Minute), postponedFor(0), workflows.EmailStanding{State: email.Sent, Code: 250})
	p.deliver()
	require.Len(t, p.at, 4)
	// A pause that is already over is a second long, so that nobody turns in circles.
	for number, pause := range []time.Duration{30 * time.Second, time.Minute, time.Second} {
		require.Equal(t, pause, p.at[number+1].Sub(p.at[number]), "before attempt %d", number+2)
	}
}

func TestAMailEndsWithItsFirstFinalState(t *testing.T) {
	for _, state := range []email.State{email.Sent, email.Refused, email.GivenUp, email.Suppressed, ""} {
		p := newPostOffice(t, workflows.EmailStanding{State: state})
		p.deliver()
		require.Len(t, p.at, 1, "after %q", state)
	}
}

// Whatever goes wrong with the step, an attempt that was written down is not made twice.
func TestAMailWhoseAnswerIsLostIsNotAttemptedAgain(t *testing.T) {
	for name, mishap := range map[string]func(*postOffice){
		"it is away once": func(p *postOffice) { p.fail = 1 }, "it is away for long": func(p *postOffice) { p.fail = 30 },
		"its answer is lost": func(p *postOffice) { p.lose = 1 }, "three answers are lost": func(p *postOffice) { p.lose = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPostOffice(t, postponedFor(30*time.Second), workflows.EmailStanding{State: email.Sent})
			mishap(p)
			p.deliver()
			require.Len(t, p.at, 2)
		})
	}
}

func TestACancellationLeavesNoMailPending(t *testing.T) {
	p := newPostOffice(t, postponedFor(time.Hour), postponedFor(time.Hour), workflows.EmailStanding{State: email.Sent})
	p.env.RegisterDelayedCallback(func() { p.env.CancelWorkflow() }, time.Minute)
	p.deliver()
	require.Len(t, p.at, 3)
}
