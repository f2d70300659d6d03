package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// watched is something of money that a workflow of its own has to be at work on.
type watched struct {
	missing  reconciliation.Kind
	workflow string
	// sentence says of a row, by its id and state, that nobody is at work on it.
	sentence string
	read     func(context.Context, queries.DB, queries.Stretch) ([]queries.UnderWay, error)
	// start is what begins it again where it was: a signal that starts the workflow, which an operator has sent by resumeFinding.
	start func(row queries.UnderWay) workflows.Resumption
}

func lookAgain(workflowID, kind string, input any) workflows.Resumption {
	return workflows.Resumption{WorkflowID: workflowID, WorkflowType: kind, TaskQueue: workflows.PaymentsQueue, Signal: workflows.LookSignal, Input: input}
}

func moneyUnderWay() []watched {
	return []watched{
		{
			missing: reconciliation.FundsUnwatched, workflow: workflows.FundsType, read: queries.SpendingAccounts,
			sentence: "%s is %s money, and the workflow that watches when it ends does not run.",
			start: func(row queries.UnderWay) workflows.Resumption {
				account := id.Account(row.ID)
				return workflows.Resumption{
					WorkflowID: workflows.FundsWorkflowID(account), WorkflowType: workflows.FundsType, TaskQueue: workflows.AllocationsQueue, Signal: workflows.FundsChangedSignal,
					Input: workflows.FundsInput{AccountID: account, TenantID: row.TenantID},
				}
			},
		},
		{
			missing: reconciliation.PaymentAbandoned, workflow: workflows.PaymentType, read: queries.OpenPayments,
			sentence: "%s is %s, and its workflow does not run: what is paid may not be credited.",
			start: func(row queries.UnderWay) workflows.Resumption {
				payment := id.Payment(row.ID)
				return lookAgain(workflows.PaymentWorkflowID(payment), workflows.PaymentType, workflows.PaymentInput{PaymentID: payment})
			},
		},
		{
			missing: reconciliation.RefundAbandoned, workflow: workflows.RefundType, read: queries.PendingRefunds,
			sentence: "%s is %s, and its workflow does not run: its amount is out of the balance and not on its way.",
			start: func(row queries.UnderWay) workflows.Resumption {
				refund := id.Refund(row.ID)
				return lookAgain(workflows.RefundWorkflowID(refund), workflows.RefundType, workflows.RefundInput{RefundID: refund})
			},
		},
		{
			missing: reconciliation.DisputeAbandoned, workflow: workflows.DisputeType, read: queries.OpenDisputes,
			sentence: "%s is %s, and its workflow does not run: its decision may not be heard of.",
			start: func(row queries.UnderWay) workflows.Resumption {
				dispute := id.Dispute(row.ID)
				return lookAgain(workflows.DisputeWorkflowID(dispute), workflows.DisputeType, workflows.DisputeInput{DisputeID: dispute, StripeDisputeID: row.StripeID})
			},
		},
	}
}

// moneyWithoutWorkflow holds accounts that spend, and payments, refunds and disputes that have not ended, beside their workflows.
func (r *Reconciliation) moneyWithoutWorkflow(ctx context.Context, cursor *workflows.CheckCursor, before time.Time, all *[]reconciliation.Found) error {
	for _, what := range moneyUnderWay() {
		running, err := r.running(ctx, what.workflow)
		if err != nil {
			return err
		}
		for after := ""; ; {
			rows, err := what.read(ctx, r.Pool, queries.Stretch{Before: before, After: after, Limit: checkRows})
			if err != nil {
				return err
			}
			cursor.Examined += int64(len(rows))
			for _, row := range rows {
				after = row.ID
				if _, listed := running[what.start(row).WorkflowID]; listed {
					continue
				}
				abandoned, err := r.abandoned(ctx, what, row, before)
				if err != nil {
					return err
				}
				if abandoned {
					*all = append(*all, reconciliation.Found{
						Kind: what.missing, Subject: row.ID, Sentence: fmt.Sprintf(what.sentence, row.ID, row.State),
						Detail: map[string]any{"state": row.State, "since": row.Since, "stripe_id": row.StripeID, "start": what.start(row)},
					})
				}
			}
			if len(rows) < checkRows {
				break
			}
		}
	}
	return nil
}

// abandoned says that a workflow does not run although its row, read after that was known, is still as it was.
func (r *Reconciliation) abandoned(ctx context.Context, what watched, row queries.UnderWay, before time.Time) (bool, error) {
	runs, err := r.runs(ctx, what.start(row).WorkflowID)
	if err != nil || runs {
		return false, err
	}
	again, err := what.read(ctx, r.Pool, queries.Stretch{Before: before, Only: row.ID, Limit: 1})
	return len(again) == 1 && again[0].State == row.State && again[0].Since.Equal(row.Since), err
}
