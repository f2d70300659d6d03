package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/gpuaas/gpuaas/workflows"
)

const closureNotice = 30 * 24 * time.Hour

// closures is Postgres for one tenant: whether it is closed, until when, and whether it was erased.
type closures struct {
	t        *testing.T
	env      *testsuite.TestWorkflowEnvironment
	standing workflows.Closure
	erased   time.Time
	replies  []workflows.ClosureReply
	fail     map[string]int // how often a step fails first
}

func newClosures(t *testing.T) *closures {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	c := &closures{t: t, env: suite.NewTestWorkflowEnvironment(), fail: map[string]int{}}
	c.env.SetStartTime(start)
	c.env.RegisterWorkflow(workflows.TenantClosure)
	workflows.StepCloseTenant.Bind(c.env, func(context.Context, workflows.ClosureChange) (workflows.Closure, error) {
		return c.write(workflows.StepCloseTenant.Name, true)
	})
	workflows.StepReopenTenant.Bind(c.env, func(context.Context, workflows.ClosureChange) (workflows.Closure, error) {
		return c.write(workflows.StepReopenTenant.Name, false)
	})
	workflows.StepEraseTenant.Bind(c.env, func(_ context.Context, in workflows.EraseTenantIn) (workflows.Closure, error) {
		if c.fails(workflows.StepEraseTenant.Name) {
			return workflows.Closure{}, errors.New("the database is away")
		}
		require.True(t, c.standing.Closed)
		c.erased, c.standing = c.env.Now(), workflows.Closure{}
		return c.standing, nil
	})
	return c
}

func (c *closures) fails(step string) bool {
	c.fail[step]--
	return c.fail[step] >= 0
}

func (c *closures) write(step string, closed bool) (workflows.Closure, error) {
	switch {
	case c.fails(step):
		return workflows.Closure{}, errors.New("the database is away")
	case c.standing.Closed == closed:
		return workflows.Closure{}, temporal.NewNonRetryableApplicationError("it is so already", "tenant_state_conflict", nil)
	}
	c.standing = workflows.Closure{Closed: closed}
	if closed {
		c.standing.EraseAt = c.env.Now().Add(closureNotice)
	}
	return c.standing, nil
}

func (c *closures) ask(after time.Duration, update string) {
	c.env.RegisterDelayedCallback(func() {
		c.env.UpdateWorkflow(update, fmt.Sprintf("%s-%s", update, after), &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { c.t.Errorf("rejected: %v", err) },
			OnComplete: func(reply any, err error) {
				require.NoError(c.t, err)
				c.replies = append(c.replies, reply.(workflows.ClosureReply))
			},
		}, workflows.ClosureChange{TenantID: someTenant, RequestID: update})
	}, after)
}

func (c *closures) run() {
	c.env.ExecuteWorkflow(workflows.TenantClosure, workflows.TenantClosureInput{TenantID: someTenant})
	require.True(c.t, c.env.IsWorkflowCompleted())
	require.NoError(c.t, c.env.GetWorkflowError())
}

func TestATenantIsErasedWhenItsNoticeHasPassed(t *testing.T) {
	c := newClosures(t)
	c.ask(0, workflows.CloseUpdate)
	c.run()
	require.Equal(t, start.Add(closureNotice).UTC().Truncate(time.Second), c.erased.UTC().Truncate(time.Second))
	require.Len(t, c.replies, 1)
	require.True(t, c.replies[0].Closed)
}

func TestATenantThatIsOpenedAgainIsNotErased(t *testing.T) {
	c := newClosures(t)
	c.ask(0, workflows.CloseUpdate)
	c.ask(closureNotice-time.Hour, workflows.ReopenUpdate)
	c.run()
	require.Zero(t, c.erased)
	require.False(t, c.replies[1].Closed)
}

func TestARefusedClosingEndsWithItsFault(t *testing.T) {
	c := newClosures(t)
	c.ask(0, workflows.ReopenUpdate)
	c.run()
	require.Equal(t, "tenant_state_conflict", c.replies[0].Fault.Code)
	require.Zero(t, c.erased)
}

func TestARefusalLeavesTheNoticeAsItIs(t *testing.T) {
	c := newClosures(t)
	c.ask(0, workflows.CloseUpdate)
	c.ask(time.Hour, workflows.CloseUpdate)
	c.run()
	require.NotNil(t, c.replies[1].Fault)
	require.Equal(t, start.Add(closureNotice).UTC().Truncate(time.Second), c.erased.UTC().Truncate(time.Second))
}

func TestEveryStepOfAClosureIsRepeatedUntilItSucceeds(t *testing.T) {
	for _, step := range []string{workflows.StepCloseTenant.Name, workflows.StepReopenTenant.Name, workflows.StepEraseTenant.Name} {
		t.Run(step, func(t *testing.T) {
			c := newClosures(t)
			c.fail[step] = 3
			c.ask(0, workflows.CloseUpdate)
			reopens := step == workflows.StepReopenTenant.Name
			if reopens {
				c.ask(time.Hour, workflows.ReopenUpdate)
			}
			c.run()
			require.Negative(t, c.fail[step])
			require.Equal(t, reopens, c.erased.IsZero())
		})
	}
}
