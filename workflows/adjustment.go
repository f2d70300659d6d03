package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"
)

// Adjustment makes one correction of a balance, at most once. Its input is AdjustmentInput, its id
// AdjustmentWorkflowID; StepAdjust posts it and StepTellFunds has the account looked at. A refusal is an outcome: the workflow completes with the fault.
func Adjustment(ctx workflow.Context, in AdjustmentInput) (AdjustmentResult, error) {
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("Adjusts `%s` by %s: %s", in.AccountID, in.AmountMicros.Exact(in.Currency), in.Reason))
	result, err := StepAdjust.Run(ctx, fmt.Sprintf("Post %s to %s", in.AmountMicros.Exact(in.Currency), in.AccountID), in)
	if refusal := refusalOf(err); refusal != nil {
		return AdjustmentResult{Fault: refusal}, nil
	}
	if err == nil && result.Fault == nil {
		err = tellFunds(ctx, "told-of-adjustments", TellFundsIn{AccountID: in.AccountID, Because: "an adjustment was posted", CorrelationID: in.CorrelationID})
	}
	return result, err
}

// tellFunds tells Funds what a workflow did to a balance. A run that began before it was told of such things goes on without.
func tellFunds(ctx workflow.Context, change string, in TellFundsIn) error {
	if workflow.GetVersion(ctx, change, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	_, err := StepTellFunds.Run(ctx, "Tell Funds: "+in.Because, in)
	return err
}
