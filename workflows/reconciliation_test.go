package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/workflows"
)

// auditor is Postgres and Stripe for one run: each check takes so many stretches. Every step may fail first, or lose its answer.
type auditor struct {
	t          *testing.T
	env        *testsuite.TestWorkflowEnvironment
	registry   worker.ActivityRegistry
	stretches  map[reconciliation.Check]int
	refuse     map[reconciliation.Check]error
	fail, lose map[string]int
	asked      []reconciliation.Check
	finished   []workflows.FinishReconciliation
	posted     map[string]int64
	told       int
}

func newAuditor(t *testing.T) *auditor {
	suite := testsuite.WorkflowTestSuite{}
	suite.SetLogger(quiet{})
	a := &auditor{t: t, env: suite.NewTestWorkflowEnvironment(), stretches: map[reconciliation.Check]int{}, refuse: map[reconciliation.Check]error{},
		fail: map[string]int{}, lose: map[string]int{}, posted: map[string]int64{}}
	a.env.SetStartTime(start)
	a.registry = a.env
	a.bind()
	return a
}

// bind answers every step of Reconciliation and Correction.
func (a *auditor) bind() {
	t := a.t
	bindAudit(a, workflows.StepBeginReconciliation, func(in workflows.BeginReconciliation) (workflows.ReconciliationTerms, error) {
		require.NotEmpty(t, in.Key)
		return workflows.ReconciliationTerms{RunID: "recon_a", StartedAt: start, LagSeconds: 300}, nil
	})
	bindAudit(a, workflows.StepCheck, a.check)
	bindAudit(a, workflows.StepCheckProvider, a.check)
	bindAudit(a, workflows.StepFinishReconciliation, func(in workflows.FinishReconciliation) (workflows.ReconciliationResult, error) {
		a.finished = append(a.finished, in)
		return workflows.ReconciliationResult{RunID: in.Terms.RunID, State: "completed", Checks: in.Made}, nil
	})
	bindAudit(a, workflows.StepCorrect, func(in workflows.ApproveCorrection) (workflows.CorrectionPosted, error) {
		if in.Actor.ID == "user_proposer" {
			return workflows.CorrectionPosted{Fault: &workflows.Fault{Code: "second_approver_required", Message: "no"}}, nil
		}
		if a.posted[string(in.CorrectionID)] == 0 {
			a.posted[string(in.CorrectionID)] = 41 + int64(len(a.posted))
		}
		return workflows.CorrectionPosted{EntryID: a.posted[string(in.CorrectionID)], AccountID: someAccount}, nil
	})
	bindAudit(a, workflows.StepTellFunds, func(in workflows.TellFundsIn) (workflows.Nothing, error) {
		require.EqualValues(t, someAccount, in.AccountID)
		a.told++
		return workflows.Nothing{}, nil
	})
}

// check makes a stretch of ten objects.
func (a *auditor) check(in workflows.CheckIn) (workflows.CheckOut, error) {
	a.asked = append(a.asked, in.Check)
	if err := a.refuse[in.Check]; err != nil {
		return workflows.CheckOut{}, err
	}
	out := workflows.CheckOut{Cursor: in.Cursor}
	out.Cursor.Examined += 10
	out.Cursor.After += "x"
	out.Done = len(out.Cursor.After) > a.stretches[in.Check]
	return out, nil
}

func bindAudit[In, Out any](a *auditor, step workflows.Step[In, Out], do func(In) (Out, error)) {
	step.Bind(a.registry, func(_ context.Context, in In) (Out, error) {
		var none Out
		if a.fail[step.Name]--; a.fail[step.Name] >= 0 {
			return none, errors.New("it is away")
		}
		out, err := do(in)
		if a.lose[step.Name]--; err == nil && a.lose[step.Name] >= 0 {
			return none, errors.New("the answer was lost")
		}
		return out, err
	})
}

func (a *auditor) run() workflows.ReconciliationResult {
	a.t.Helper()
	a.env.ExecuteWorkflow(workflows.Reconciliation, workflows.ReconciliationInput{})
	require.True(a.t, a.env.IsWorkflowCompleted())
	require.NoError(a.t, a.env.GetWorkflowError())
	var result workflows.ReconciliationResult
	require.NoError(a.t, a.env.GetWorkflowResult(&result))
	return result
}

func TestAReconciliationMakesEveryCheckToItsEnd(t *testing.T) {
	a := newAuditor(t)
	a.stretches[reconciliation.Entries] = 3
	result := a.run()
	require.Len(t, result.Checks, len(reconciliation.Checks()))
	for i, check := range reconciliation.Checks() {
		made := workflows.CheckMade{Check: check, Examined: 10}
		if check == reconciliation.Entries {
			made.Examined = 40
		}
		require.Equal(t, made, result.Checks[i])
	}
}

// A step that fails, or whose answer is lost, is repeated; the run comes to the same.
func TestAReconciliationOutlastsEveryMishapOfAStep(t *testing.T) {
	for _, step := range []string{workflows.StepBeginReconciliation.Name, workflows.StepCheck.Name, workflows.StepCheckProvider.Name, workflows.StepFinishReconciliation.Name} {
		for name, cause := range map[string]func(*auditor){
			"fails":           func(a *auditor) { a.fail[step] = 3 },
			"loses an answer": func(a *auditor) { a.lose[step] = 1 },
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				a := newAuditor(t)
				cause(a)
				result := a.run()
				for _, made := range result.Checks {
					require.EqualValues(t, 10, made.Examined, made.Check)
					require.Empty(t, made.Reason)
				}
			})
		}
	}
}

// A check that cannot be made says why, and keeps nobody from the others.
func TestACheckThatCannotBeMadeIsSaidToBeSo(t *testing.T) {
	for name, refusal := range map[string]error{
		"for good": temporal.NewNonRetryableApplicationError("Stripe does not take this key.", "upstream_error", nil),
		"again":    errors.New("Stripe is away"),
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuditor(t)
			a.refuse[reconciliation.Provider] = refusal
			result := a.run()
			for _, made := range result.Checks {
				if made.Check == reconciliation.Provider {
					require.Contains(t, made.Reason, "Stripe")
				} else {
					require.Empty(t, made.Reason)
				}
			}
			require.Len(t, a.finished, 1)
			require.Less(t, a.env.Now().Sub(start), 10*time.Minute)
		})
	}
}

func TestALongReconciliationContinuesWhereItIs(t *testing.T) {
	a := newAuditor(t)
	a.env.SetContinueAsNewSuggested(true)
	carried := &workflows.ReconciliationCarried{Terms: workflows.ReconciliationTerms{RunID: "recon_a"}, Made: []workflows.CheckMade{{Check: reconciliation.Windows, Examined: 7}},
		Cursor: workflows.CheckCursor{After: "xx", Examined: 20}}
	a.env.ExecuteWorkflow(workflows.Reconciliation, workflows.ReconciliationInput{Carried: carried})
	require.True(t, workflow.IsContinueAsNewError(a.env.GetWorkflowError()))

	a = newAuditor(t)
	a.env.ExecuteWorkflow(workflows.Reconciliation, workflows.ReconciliationInput{Carried: carried})
	require.NoError(t, a.env.GetWorkflowError())
	require.Equal(t, reconciliation.Checks()[1:], a.asked)
	require.EqualValues(t, []workflows.CheckMade{{Check: reconciliation.Windows, Examined: 7}, {Check: reconciliation.Entries, Examined: 30}}, a.finished[0].Made[:2])
}

// approval is the reply to somebody's word.
type approval struct {
	rejected error
	reply    workflows.CorrectionReply
	err      error
}

func (a *approval) Accept()          {}
func (a *approval) Reject(err error) { a.rejected = err }
func (a *approval) Complete(reply any, err error) {
	a.err = err
	if given, is := reply.(workflows.CorrectionReply); is {
		a.reply = given
	}
}

func (a *auditor) approve(approvals ...workflows.ApproveCorrection) []*approval {
	a.t.Helper()
	replies := make([]*approval, len(approvals))
	a.env.RegisterDelayedCallback(func() {
		for i, asked := range approvals {
			replies[i] = &approval{}
			a.env.UpdateWorkflow(workflows.ApproveUpdate, asked.RequestID, replies[i], asked)
		}
	}, 0)
	a.env.ExecuteWorkflow(workflows.Correction, workflows.CorrectionInput{CorrectionID: "corr_a"})
	require.True(a.t, a.env.IsWorkflowCompleted())
	require.NoError(a.t, a.env.GetWorkflowError())
	return replies
}

func approvalBy(user, request string) workflows.ApproveCorrection {
	return workflows.ApproveCorrection{CorrectionID: "corr_a", Actor: identity.Actor{ID: user}, RequestID: request}
}

func TestACorrectionIsPostedOnceWhateverHappensToItsSteps(t *testing.T) {
	for name, cause := range map[string]func(*auditor){
		"nothing":                       func(*auditor) {},
		"posting fails":                 func(a *auditor) { a.fail[workflows.StepCorrect.Name] = 3 },
		"the answer of posting is lost": func(a *auditor) { a.lose[workflows.StepCorrect.Name] = 1 },
		"Funds is away":                 func(a *auditor) { a.fail[workflows.StepTellFunds.Name] = 3 },
		"the answer of telling is lost": func(a *auditor) { a.lose[workflows.StepTellFunds.Name] = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuditor(t)
			cause(a)
			replies := a.approve(approvalBy("user_other", "r1"))
			require.NoError(t, replies[0].err)
			require.EqualValues(t, 41, replies[0].reply.EntryID)
			require.Len(t, a.posted, 1)
			require.GreaterOrEqual(t, a.told, 1)
		})
	}
}

func TestACorrectionThatIsRefusedSaysSoAndTellsNobody(t *testing.T) {
	a := newAuditor(t)
	replies := a.approve(approvalBy("user_proposer", "r1"))
	require.Equal(t, "second_approver_required", replies[0].reply.Fault.Code)
	require.Zero(t, a.told)
	require.Empty(t, a.posted)
}

func TestAnApprovalOfAnotherCorrectionIsNotTaken(t *testing.T) {
	a := newAuditor(t)
	other := approvalBy("user_other", "r1")
	other.CorrectionID = "corr_b"
	require.ErrorContains(t, a.approve(other)[0].rejected, "corr_b")
	require.Empty(t, a.posted)
}
