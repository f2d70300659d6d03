package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// checkWorkflows holds every open allocation, every node and all money under way beside its workflow, and every running Allocation beside its row. What Temporal
// lists is a hint, because it is eventually consistent: whatever does not fit is asked for by its id, and its row read once more, before it
// counts.
func (r *Reconciliation) checkWorkflows(ctx context.Context, terms workflows.ReconciliationTerms, cursor *workflows.CheckCursor) (all []reconciliation.Found, done bool, err error) {
	before := milliseconds(r.Now()).Add(-terms.Lag())
	running, err := r.running(ctx, workflows.AllocationType)
	if err != nil {
		return nil, false, err
	}
	open, err := r.allocationsWithoutWorkflow(ctx, cursor, running, before, &all)
	if err != nil {
		return nil, false, err
	}
	if err := r.workflowsWithoutAllocation(ctx, cursor, running, open, before, &all); err != nil {
		return nil, false, err
	}
	if err := r.nodesWithoutWorkflow(ctx, cursor, before, &all); err != nil {
		return nil, false, err
	}
	return all, true, r.moneyWithoutWorkflow(ctx, cursor, before, &all)
}

// running lists the running workflows of a type, with when each began.
func (r *Reconciliation) running(ctx context.Context, kind string) (map[string]time.Time, error) {
	const page = 1000
	began := map[string]time.Time{}
	request := &workflowservice.ListWorkflowExecutionsRequest{PageSize: page, Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", kind)}
	for {
		answer, err := r.Cluster.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list running workflows: %w", err)
		}
		for _, execution := range answer.GetExecutions() {
			began[execution.GetExecution().GetWorkflowId()] = execution.GetStartTime().AsTime()
		}
		if request.NextPageToken = answer.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return began, nil
		}
	}
}

// runs asks Temporal itself whether a workflow runs.
func (r *Reconciliation) runs(ctx context.Context, workflowID string) (bool, error) {
	answer, err := r.Cluster.DescribeWorkflowExecution(ctx, workflowID, "")
	var absent *serviceerror.NotFound
	if errors.As(err, &absent) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("describe %s: %w", workflowID, err)
	}
	return answer.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

func (r *Reconciliation) allocationsWithoutWorkflow(ctx context.Context, cursor *workflows.CheckCursor, running map[string]time.Time, before time.Time, all *[]reconciliation.Found) (map[string]bool, error) {
	open := map[string]bool{}
	for after := id.Allocation(""); ; {
		rows, err := queries.OpenAllocations(ctx, r.Pool, after, checkRows)
		if err != nil {
			return nil, err
		}
		cursor.Examined += int64(len(rows))
		for _, row := range rows {
			after = row.ID
			workflowID := workflows.AllocationWorkflowID(row.ID)
			open[workflowID] = true
			if _, listed := running[workflowID]; listed || !row.UpdatedAt.Before(before) {
				continue
			}
			lost, err := r.lost(ctx, row, workflowID)
			if err != nil {
				return nil, err
			}
			if lost {
				*all = append(*all, reconciliation.Found{
					Kind: reconciliation.WorkflowMissing, Subject: string(row.ID), Sentence: fmt.Sprintf("%s is %s, and its workflow does not run.", row.ID, row.State),
					Detail: map[string]any{
						"state": row.State, "updated_at": row.UpdatedAt, "workflow_id": workflowID,
						"start": workflows.Resumption{
							WorkflowID: workflowID, WorkflowType: workflows.AllocationType, TaskQueue: workflows.AllocationsQueue,
							Input: workflows.AllocationInput{AllocationID: row.ID, Recalled: true},
						},
					},
				})
			}
		}
		if len(rows) < checkRows {
			return open, nil
		}
	}
}

// lost says that an allocation's workflow does not run although its row, read after that was known, is still open and as it was.
func (r *Reconciliation) lost(ctx context.Context, row queries.KnownAllocation, workflowID string) (bool, error) {
	runs, err := r.runs(ctx, workflowID)
	if err != nil || runs {
		return false, err
	}
	now, err := queries.KnownAllocations(ctx, r.Pool, []id.Allocation{row.ID})
	if err != nil {
		return false, err
	}
	again, known := now[row.ID]
	return known && again.EndedAt == nil && again.UpdatedAt.Equal(row.UpdatedAt), nil
}

func (r *Reconciliation) workflowsWithoutAllocation(ctx context.Context, cursor *workflows.CheckCursor, running map[string]time.Time, open map[string]bool, before time.Time, all *[]reconciliation.Found) error {
	cursor.Examined += int64(len(running))
	var suspects []id.Allocation
	for workflowID, began := range running {
		if !open[workflowID] && began.Before(before) {
			suspects = append(suspects, id.Allocation(strings.TrimPrefix(workflowID, workflows.AllocationWorkflowID(""))))
		}
	}
	for len(suspects) > 0 {
		part := suspects[:min(len(suspects), checkRows)]
		suspects = suspects[len(part):]
		known, err := queries.KnownAllocations(ctx, r.Pool, part)
		if err != nil {
			return err
		}
		for _, suspect := range part {
			row, exists := known[suspect]
			if exists && (row.EndedAt == nil || !row.EndedAt.Before(before)) {
				continue
			}
			workflowID := workflows.AllocationWorkflowID(suspect)
			if runs, err := r.runs(ctx, workflowID); err != nil || !runs {
				if err != nil {
					return err
				}
				continue
			}
			sentence := fmt.Sprintf("%s runs, and there is no such allocation.", workflowID)
			if exists {
				sentence = fmt.Sprintf("%s runs, and its allocation ended as %s.", workflowID, row.State)
			}
			*all = append(*all, reconciliation.Found{
				Kind: reconciliation.WorkflowOrphaned, Subject: workflowID, Sentence: sentence, Detail: map[string]any{"began_at": running[workflowID], "ended_at": row.EndedAt},
			})
		}
	}
	return nil
}

func (r *Reconciliation) nodesWithoutWorkflow(ctx context.Context, cursor *workflows.CheckCursor, before time.Time, all *[]reconciliation.Found) error {
	running, err := r.running(ctx, workflows.NodeType)
	if err != nil {
		return err
	}
	for after := id.Node(""); ; {
		nodes, err := queries.NodesToCheck(ctx, r.Pool, after, checkRows)
		if err != nil {
			return err
		}
		cursor.Examined += int64(len(nodes))
		for _, node := range nodes {
			after = node.ID
			workflowID := workflows.NodeWorkflowID(node.ID)
			if _, listed := running[workflowID]; listed || !node.EnrolledAt.Before(before) {
				continue
			}
			runs, err := r.runs(ctx, workflowID)
			if err != nil {
				return err
			}
			if !runs {
				*all = append(*all, reconciliation.Found{
					Kind: reconciliation.NodeWorkflowMissing, Subject: string(node.ID), Sentence: fmt.Sprintf("%s is enrolled, and its workflow does not run.", node.ID),
					Detail: map[string]any{"workflow_id": workflowID, "enrolled_at": node.EnrolledAt},
				})
			}
		}
		if len(nodes) < checkRows {
			return nil
		}
	}
}
