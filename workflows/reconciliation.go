package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/reconciliation"
)

type reconciliationRun struct {
	input ReconciliationInput
	ReconciliationCarried
	now string
}

// Reconciliation compares the ledger, allocations, workflows, nodes and the payment provider with each other, a check after the other, and
// writes what does not fit. A check that cannot be made is said to be so and keeps nobody from the others; nothing is repaired.
func Reconciliation(ctx workflow.Context, in ReconciliationInput) (ReconciliationResult, error) {
	r := &reconciliationRun{input: in}
	if in.Carried == nil {
		r.Terms = insist(ctx, r, StepBeginReconciliation, "Write down that a reconciliation begins", BeginReconciliation{
			RunID: in.RunID, Key: workflow.GetInfo(ctx).WorkflowExecution.RunID, Whole: in.Whole, AskedBy: in.AskedBy,
		})
	} else {
		r.ReconciliationCarried = *in.Carried
	}
	for _, check := range reconciliation.Checks()[len(r.Made):] {
		for done := false; !done; {
			if historyIsLong(ctx, in.ContinueAfterEvents) {
				in.Carried = &r.ReconciliationCarried
				return ReconciliationResult{}, workflow.NewContinueAsNewError(ctx, ReconciliationType, in)
			}
			r.now = "Looking at " + string(check)
			r.show(ctx)
			done = r.stretch(ctx, check)
		}
	}
	r.now = "Writing down what was found"
	r.show(ctx)
	result := insist(ctx, r, StepFinishReconciliation, "Write down what the reconciliation came to", FinishReconciliation{Terms: r.Terms, Made: r.Made})
	r.now = fmt.Sprintf("**%s**: %d findings opened, %d resolved", result.State, result.Opened, result.Resolved)
	r.show(ctx)
	return result, nil
}

// stretch makes a part of a check and says whether the check has ended.
func (r *reconciliationRun) stretch(ctx workflow.Context, check reconciliation.Check) bool {
	step := StepCheck
	if check == reconciliation.Provider {
		step = StepCheckProvider
	}
	summary := fmt.Sprintf("Check %s", check)
	if r.Cursor.After != "" {
		summary += " behind " + r.Cursor.After
	}
	out, err := step.Run(ctx, summary, CheckIn{Terms: r.Terms, Check: check, Cursor: r.Cursor})
	made := CheckMade{Check: check, Examined: out.Cursor.Examined, Found: out.Cursor.Found}
	if err != nil {
		r.trouble(ctx, step.Name, err)
		made.Examined, made.Found, made.Reason = r.Cursor.Examined, r.Cursor.Found, reason(err)
	}
	r.Cursor = out.Cursor
	if err == nil && !out.Done {
		return false
	}
	r.Made, r.Cursor = append(r.Made, made), CheckCursor{}
	return true
}

// show tells an operator how far the run is.
func (r *reconciliationRun) show(ctx workflow.Context) {
	var story strings.Builder
	fmt.Fprintf(&story, "`%s` · %s\n\n", r.Terms.RunID, r.now)
	for _, made := range r.Made {
		fmt.Fprintf(&story, "- %s: %d examined, %d found", made.Check, made.Examined, made.Found)
		if made.Reason != "" {
			fmt.Fprintf(&story, ", **not to its end**: %s", made.Reason)
		}
		story.WriteString("\n")
	}
	workflow.SetCurrentDetails(ctx, story.String())
}

func (r *reconciliationRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a reconciliation had trouble", "step", step, "run_id", r.Terms.RunID, "error", err)
}

func (r *reconciliationRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
