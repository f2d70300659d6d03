package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Adjustment makes one correction of a balance, at most once. Its input is AdjustmentInput, its id
// AdjustmentWorkflowID, its only step StepAdjust. A refusal is an outcome: the workflow completes with the fault.
func Adjustment(ctx workflow.Context, in AdjustmentInput) (AdjustmentResult, error) {
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("Adjusts `%s` by %d micros %s: %s", in.AccountID, in.AmountMicros, in.Currency, in.Reason))
	result, err := StepAdjust.Run(ctx, fmt.Sprintf("Post %d micros to %s", in.AmountMicros, in.AccountID), in)
	var refused *temporal.ApplicationError
	if errors.As(err, &refused) && refused.NonRetryable() {
		return AdjustmentResult{Fault: &Fault{Code: refused.Type(), Message: refused.Message()}}, nil
	}
	return result, err
}
