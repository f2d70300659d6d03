package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/workflows"
)

// standings is Postgres for one subject: whether it is suspended, and what it holds.
type standings struct {
	t         *testing.T
	mu        sync.Mutex
	env       *testsuite.TestWorkflowEnvironment
	suspended bool
	held      []id.Allocation
	told      map[string][]bool // what each allocation heard, in order
	replies   []workflows.StandingReply
	fail      map[string]int // how often a step fails first
}

func newStandings(t *testing.T, held int) *standings {
	s := &standings{t: t, told: map[string][]bool{}, fail: map[string]int{}}
	for i := range held {
		s.held = append(s.held, id.Allocation(fmt.Sprintf("alloc_%026d", i)))
	}
	s.newRun()
	return s
}

func (s *standings) newRun() {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(start)
	env.RegisterWorkflow(workflows.Suspension)
	s.env = env
	workflows.StepSuspend.Bind(env, func(_ context.Context, in workflows.StandingChange) (workflows.Standing, error) {
		return s.write(workflows.StepSuspend.Name, true)
	})
	workflows.StepRestore.Bind(env, func(_ context.Context, in workflows.StandingChange) (workflows.Standing, error) {
		return s.write(workflows.StepRestore.Name, false)
	})
	workflows.StepAllocationsUnder.Bind(env, func(_ context.Context, in workflows.AllocationsUnderIn) (workflows.AllocationsUnderOut, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.fails(workflows.StepAllocationsUnder.Name) {
			return workflows.AllocationsUnderOut{}, temporal.NewNonRetryableApplicationError("away", "away", nil)
		}
		var page workflows.AllocationsUnderOut
		for _, held := range s.held {
			if held > in.After && len(page.Allocations) < in.Limit {
				page.Allocations = append(page.Allocations, held)
			}
		}
		return page, nil
	})
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, workflows.SuspensionSignal, mock.Anything).Return(
		func(_, workflowID, _, _ string, payload any) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			change, is := payload.(workflows.SuspensionChange)
			require.True(s.t, is)
			require.Equal(s.t, someTenant, change.Subject)
			s.told[workflowID] = append(s.told[workflowID], change.Suspended)
			if workflowID == "allocation/"+string(s.held[0]) {
				return errors.New("it has ended")
			}
			return nil
		})
}

func (s *standings) fails(step string) bool {
	if s.fail[step] > 0 {
		s.fail[step]--
		return true
	}
	return false
}

func (s *standings) write(step string, suspend bool) (workflows.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fails(step):
		return workflows.Standing{}, temporal.NewApplicationError("the database is away", "away")
	case s.suspended == suspend:
		return workflows.Standing{}, temporal.NewApplicationErrorWithOptions("it is so already", string(fault.TenantStateConflict),
			temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{map[string]any{"status": "x"}}})
	}
	s.suspended = suspend
	if !suspend {
		return workflows.Standing{}, nil
	}
	return workflows.Standing{Suspended: true, At: s.env.Now(), ReleaseAt: s.env.Now().Add(time.Hour)}, nil
}

func (s *standings) ask(after time.Duration, update string) {
	s.env.RegisterDelayedCallback(func() {
		s.env.UpdateWorkflow(update, fmt.Sprintf("%s-%s", update, after), &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { s.t.Errorf("rejected: %v", err) },
			OnComplete: func(value any, err error) {
				require.NoError(s.t, err)
				raw, err := json.Marshal(value)
				require.NoError(s.t, err)
				var reply workflows.StandingReply
				require.NoError(s.t, json.Unmarshal(raw, &reply))
				s.replies = append(s.replies, reply)
			},
		}, workflows.StandingChange{
			Subject: workflows.Subject{TenantID: someTenant}, Actor: identity.Actor{ID: "user_operator", Role: identity.RoleAdmin},
			Reason: "unpaid bill", RequestID: "r", CorrelationID: "c",
		})
	}, after)
}

func (s *standings) run(input workflows.SuspensionInput) {
	s.t.Helper()
	s.env.ExecuteWorkflow(workflows.Suspension, input)
	require.True(s.t, s.env.IsWorkflowCompleted())
	require.NoError(s.t, s.env.GetWorkflowError())
}

func theSubject() workflows.SuspensionInput {
	return workflows.SuspensionInput{Subject: workflows.Subject{TenantID: someTenant}}
}

func (s *standings) requireTold(want ...bool) {
	s.t.Helper()
	require.Len(s.t, s.told, len(s.held))
	for allocation, heard := range s.told {
		require.Equal(s.t, want, heard, allocation)
	}
}

func TestASuspensionIsToldToEveryAllocationAndLivesUntilItsEnd(t *testing.T) {
	for _, held := range []int{1, 100, 250} {
		s := newStandings(t, held)
		s.ask(0, workflows.SuspendUpdate)
		s.ask(48*time.Hour, workflows.RestoreUpdate)
		s.run(theSubject())
		s.requireTold(true, false)
		require.Len(t, s.replies, 2)
		require.True(t, s.replies[0].Suspended)
		require.Equal(t, time.Hour, s.replies[0].ReleaseAt.Sub(s.replies[0].At))
		require.False(t, s.replies[1].Suspended)
		require.False(t, s.env.Now().Before(start.Add(48*time.Hour)), "it ended before its subject was restored")
	}
}

func TestARefusedChangeIsAnsweredAndToldToNobody(t *testing.T) {
	s := newStandings(t, 3)
	s.ask(0, workflows.RestoreUpdate)
	s.run(theSubject())
	require.Len(t, s.replies, 1)
	require.Equal(t, string(fault.TenantStateConflict), s.replies[0].Fault.Code)
	require.JSONEq(t, `{"status":"x"}`, string(s.replies[0].Fault.Details))
	require.Empty(t, s.told)
}

func TestEachStepOfAStandingMayFail(t *testing.T) {
	for _, step := range []string{workflows.StepSuspend.Name, workflows.StepRestore.Name, workflows.StepAllocationsUnder.Name} {
		t.Run(step, func(t *testing.T) {
			s := newStandings(t, 5)
			s.fail[step] = 4
			s.ask(0, workflows.SuspendUpdate)
			s.ask(time.Hour, workflows.RestoreUpdate)
			s.run(theSubject())
			s.requireTold(true, false)
		})
	}
}

func TestChangesInOneBreathAreToldInTheirOrder(t *testing.T) {
	s := newStandings(t, 5)
	for i, update := range []string{workflows.SuspendUpdate, workflows.RestoreUpdate, workflows.SuspendUpdate, workflows.RestoreUpdate} {
		s.ask(time.Duration(i)*time.Nanosecond, update)
	}
	s.ask(time.Hour, workflows.RestoreUpdate) // refused where the last of the four restored it
	s.run(theSubject())
	require.GreaterOrEqual(t, len(s.replies), 4, "the last is not asked where the run has ended by then")
	for allocation, heard := range s.told {
		require.NotEmpty(t, heard, allocation)
		require.False(t, heard[len(heard)-1], "%s heard %v", allocation, heard)
	}
	require.Len(t, s.told, 5)
}

func TestAContinuedSuspensionGoesOn(t *testing.T) {
	s := newStandings(t, 5)
	s.ask(0, workflows.SuspendUpdate)
	s.env.RegisterDelayedCallback(func() { s.env.SetContinueAsNewSuggested(true) }, 0)
	s.env.ExecuteWorkflow(workflows.Suspension, theSubject())
	var again *workflow.ContinueAsNewError
	require.True(t, errors.As(s.env.GetWorkflowError(), &again), "%v", s.env.GetWorkflowError())
	var next workflows.SuspensionInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.True(t, next.Carried.Standing.Suspended)
	s.newRun()
	s.ask(time.Hour, workflows.RestoreUpdate)
	s.run(next)
	s.requireTold(true, false)
}
