package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/id"
)

type correctionRun struct {
	id id.Correction
}

// Correction posts a proposed repair of the books when somebody approves it, at most once: Postgres decides who may, and whose entry stands.
func Correction(root workflow.Context, in CorrectionInput) error {
	// What was posted is told to Funds, whoever cancels this.
	ctx, _ := workflow.NewDisconnectedContext(root)
	c := &correctionRun{id: in.CorrectionID}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, ApproveUpdate, c.approve, workflow.UpdateHandlerOptions{
		Validator: c.mayApprove, Description: "An operator's word that a correction is to be posted; above the limit of policy, a second operator's.",
	}); err != nil {
		return err
	}
	letHandlersStart(ctx)
	await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	return nil
}

func (c *correctionRun) mayApprove(_ workflow.Context, asked ApproveCorrection) error {
	if asked.CorrectionID != c.id {
		return fmt.Errorf("the approval is of %s and this workflow holds %s", asked.CorrectionID, c.id)
	}
	return nil
}

func (c *correctionRun) approve(ctx workflow.Context, asked ApproveCorrection) (CorrectionReply, error) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	posted, err := StepCorrect.Run(ctx, fmt.Sprintf("Post %s, approved by %s", c.id, asked.Actor.ID), asked)
	if refusal := refusalOf(err); refusal != nil {
		posted.Fault, err = refusal, nil
	}
	if err != nil {
		return CorrectionReply{}, err
	}
	if posted.Fault != nil {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("`%s` was **refused**: %s", c.id, posted.Fault.Message))
		return CorrectionReply{Fault: posted.Fault}, nil
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("`%s` is entry **%d**", c.id, posted.EntryID))
	tellMoved(ctx, c, posted.AccountID, "a correction was posted", asked.CorrelationID)
	return CorrectionReply{EntryID: posted.EntryID}, nil
}

func (c *correctionRun) trouble(ctx workflow.Context, step string, err error) {
	workflow.GetLogger(ctx).Warn("a step of a correction had trouble", "step", step, "correction_id", c.id, "error", err)
}

func (c *correctionRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	return pause(ctx, summary, patience, condition)
}
