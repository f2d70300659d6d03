package workflows_test

import (
	"context"
	"errors"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/gpuaas/gpuaas/workflows"
)

func adjust(t *testing.T, do func(attempt int, in workflows.AdjustmentInput) (workflows.AdjustmentResult, error)) (workflows.AdjustmentResult, error) {
	t.Helper()
	suite := testsuite.WorkflowTestSuite{}
	environment := suite.NewTestWorkflowEnvironment()
	attempts := 0
	environment.RegisterActivityWithOptions(func(_ context.Context, in workflows.AdjustmentInput) (workflows.AdjustmentResult, error) {
		attempts++
		return do(attempts, in)
	}, activity.RegisterOptions{Name: workflows.StepAdjust.Name})
	told := 0
	workflows.StepTellFunds.Bind(environment, func(_ context.Context, in workflows.TellFundsIn) (workflows.Nothing, error) {
		told++
		if in.AccountID != "acct_a" {
			t.Errorf("Funds is told of %s", in.AccountID)
		}
		if told == 1 {
			return workflows.Nothing{}, errors.New("the cluster is away")
		}
		return workflows.Nothing{}, nil
	})
	environment.ExecuteWorkflow(workflows.Adjustment, workflows.AdjustmentInput{AdjustmentID: "adj_a", AccountID: "acct_a", Currency: "usd", AmountMicros: 5})
	if !environment.IsWorkflowCompleted() {
		t.Fatal("the workflow did not complete")
	}
	var result workflows.AdjustmentResult
	if err := environment.GetWorkflowError(); err != nil {
		return result, err
	}
	err := environment.GetWorkflowResult(&result)
	if posted := err == nil && result.Fault == nil; posted != (told == 2) {
		t.Errorf("Funds was told %d times of %+v", told, result)
	}
	return result, err
}

func TestAdjustmentAnswersTheEntry(t *testing.T) {
	result, err := adjust(t, func(_ int, in workflows.AdjustmentInput) (workflows.AdjustmentResult, error) {
		return workflows.AdjustmentResult{EntryID: 7, BalanceMicros: in.AmountMicros}, nil
	})
	if err != nil || result.EntryID != 7 || result.BalanceMicros != 5 || result.Fault != nil {
		t.Fatalf("result %+v, error %v", result, err)
	}
}

func TestAdjustmentOutlastsADatabaseThatIsAway(t *testing.T) {
	result, err := adjust(t, func(attempt int, _ workflows.AdjustmentInput) (workflows.AdjustmentResult, error) {
		if attempt < 4 {
			return workflows.AdjustmentResult{}, errors.New("the database is away")
		}
		return workflows.AdjustmentResult{EntryID: 8}, nil
	})
	if err != nil || result.EntryID != 8 {
		t.Fatalf("result %+v, error %v", result, err)
	}
}

func TestAdjustmentThatIsRefusedCompletesWithItsFault(t *testing.T) {
	for name, do := range map[string]func(int, workflows.AdjustmentInput) (workflows.AdjustmentResult, error){
		"as a result": func(int, workflows.AdjustmentInput) (workflows.AdjustmentResult, error) {
			return workflows.AdjustmentResult{Fault: &workflows.Fault{Code: "insufficient_balance"}}, nil
		},
		"as an error of the step": func(int, workflows.AdjustmentInput) (workflows.AdjustmentResult, error) {
			return workflows.AdjustmentResult{}, temporal.NewNonRetryableApplicationError("no", "insufficient_balance", nil)
		},
	} {
		result, err := adjust(t, do)
		if err != nil || result.Fault == nil || result.Fault.Code != "insufficient_balance" || result.EntryID != 0 {
			t.Errorf("%s: result %+v, error %v", name, result, err)
		}
	}
}
