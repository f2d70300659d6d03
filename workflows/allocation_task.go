package workflows

import (
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// nodeTrouble is why one attempt at work on a node did not succeed.
type nodeTrouble struct {
	code    fault.Code
	message string
	// silent: the node did not take the task up. hopeless: another attempt would get the same answer.
	// distrusted: the machine itself is at fault.
	silent, hopeless, distrusted bool
}

func (t *nodeTrouble) Error() string { return t.message }

// judge reads an attempt's error: what a timeout means, and which of the agent's answers are final.
func judge(err error, step string, otherwise fault.Code) *nodeTrouble {
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		silent := timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START
		message := fmt.Sprintf("%s was not finished in time (%s)", step, timeout.TimeoutType())
		if silent {
			message = fmt.Sprintf("the node did not take up %s in time", step)
		}
		return &nodeTrouble{code: fault.NodeUnresponsive, message: message, silent: silent}
	}
	trouble := &nodeTrouble{code: otherwise, message: fmt.Sprintf("%s: %s", step, reason(err))}
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		trouble.hopeless = application.NonRetryable()
		switch application.Type() {
		case node.ErrStaleGeneration:
			trouble.code, trouble.hopeless = fault.NodeGenerationStale, true
		case node.ErrGPUUnhealthy:
			trouble.code, trouble.hopeless, trouble.distrusted = fault.GPUUnhealthy, true, true
		case node.ErrScrubIncomplete:
			// The next attempt scrubs again, so this is never the last word.
			trouble.code, trouble.hopeless = fault.ScrubUnverified, false
		case node.ErrTaskExpired, node.ErrTaskFailed:
			trouble.hopeless = false
		}
	}
	return trouble
}

// taskQueue is where the tasks of a lease run: on the node itself, or in the worker that answers for it in noop mode.
func (a *allocationRun) taskQueue(nodeID id.Node) string {
	if a.Terms.RuntimeMode == RuntimeNoop {
		return ProvisioningQueue
	}
	return NodeQueue(nodeID)
}

// patience is how long a node may take to take a task up. In noop mode nobody but a worker of ours can be late, and that
// is no fault of the node: there is no bound.
func (a *allocationRun) patience(scheduleToStartSeconds int64) time.Duration {
	if a.Terms.RuntimeMode == RuntimeNoop {
		return 0
	}
	return seconds(scheduleToStartSeconds)
}

// task is the head of a node task: its journal key and the instant after which nobody waits for it.
func task(ctx workflow.Context, lease node.Lease, step string, attempt int, patience time.Duration) node.Task {
	return node.Task{
		AllocationID: lease.AllocationID, NodeID: lease.NodeID, Generation: lease.Generation,
		Step: step, Attempt: attempt, Deadline: milliseconds(workflow.Now(ctx).Add(patience)),
	}
}

// unlessAsked starts a step and waits for it, unless release is asked for.
func unlessAsked[Out any](ctx workflow.Context, a *allocationRun, start func(workflow.Context) workflow.Future) (Out, error) {
	if a.askPending() {
		var none Out
		return none, errReleaseAsked
	}
	stepCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	return outcomeUnlessAsked[Out](ctx, a, start(stepCtx), cancel)
}

// outcomeUnlessAsked waits for a step. A release asked for meanwhile cancels the step; a step on a node is then waited
// for until it has ended, because undoing a thing while it is still being done leaves half of it behind.
func outcomeUnlessAsked[Out any](ctx workflow.Context, a *allocationRun, step workflow.Future, cancel workflow.CancelFunc) (Out, error) {
	var out Out
	await(ctx, func() bool { return step.IsReady() || a.askPending() })
	if step.IsReady() {
		err := step.Get(ctx, &out)
		return out, err
	}
	a.doing(doing{sentence: "ends the step in hand, because release was asked for", step: a.now.step, attempt: a.now.attempt})
	cancel()
	await(ctx, step.IsReady)
	return out, errReleaseAsked
}

// tryOnNode repeats one piece of provisioning work within the policy's attempts. It ends early when release is asked
// for, when the node does not take the work up, and when another attempt would get the same answer.
// An attempt ends by itself within bound.
func tryOnNode[Out any](ctx workflow.Context, a *allocationRun, policy RuntimePolicy, step string, bound time.Duration, otherwise fault.Code,
	start func(ctx workflow.Context, attempt int) workflow.Future,
) (Out, error) {
	for attempt := 1; ; attempt++ {
		a.doing(doing{
			sentence: fmt.Sprintf("runs %s on %s", step, a.LastNode), step: step, attempt: attempt, waitingFor: "the node",
			deadline: within(ctx, bound),
		})
		out, err := unlessAsked[Out](ctx, a, func(ctx workflow.Context) workflow.Future { return start(ctx, attempt) })
		if err == nil || errors.Is(err, errReleaseAsked) {
			return out, err
		}
		trouble := judge(err, step, otherwise)
		a.trouble(ctx, step, err)
		if trouble.silent || trouble.hopeless || attempt >= policy.TaskMaxAttempts {
			return out, trouble
		}
		backoff := seconds(policy.TaskBackoffSeconds)
		if a.waitFor(ctx, fmt.Sprintf("Back off before attempt %d of %s", attempt+1, step), backoff, a.askPending) {
			return out, errReleaseAsked
		}
	}
}

// provisionTask runs one typed task of provisioning on the node of the lease.
func provisionTask[In, Out any](ctx workflow.Context, a *allocationRun, policy RuntimePolicy, contract Step[In, Out], step string,
	in func(node.Task) In,
) (Out, error) {
	lease := *a.Lease
	wait, run := a.patience(policy.TaskScheduleToStartSeconds), seconds(policy.TaskStartToCloseSeconds)
	contract = contract.On(a.taskQueue(lease.NodeID)).Within(wait, run)
	return tryOnNode[Out](ctx, a, policy, contract.Name, wait+run, fault.NodeTaskFailed, func(ctx workflow.Context, attempt int) workflow.Future {
		return contract.Start(ctx, taskSummary(node.TaskKind(contract.Name).Sentence(), lease, attempt), in(task(ctx, lease, step, attempt, wait+run)))
	})
}

// wipeTask runs one attempt of one task of the wipe. Only an order to abandon the node ends it early, and then nobody
// waits for it: the node stays quarantined.
func wipeTask[In, Out any](ctx workflow.Context, a *allocationRun, policy RuntimePolicy, contract Step[In, Out], step string,
	in func(node.Task) In,
) (Out, error) {
	var out Out
	lease := *a.Lease
	wait, run := a.patience(policy.ReleaseScheduleToStartSeconds), seconds(policy.ReleaseStartToCloseSeconds)
	a.doing(doing{
		sentence: fmt.Sprintf("wipes %s: %s", lease.NodeID, contract.Name), step: contract.Name, attempt: a.wipes(), waitingFor: "the node",
		deadline: within(ctx, wait+run),
	})
	taskCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	future := contract.On(a.taskQueue(lease.NodeID)).Within(wait, run).
		Start(taskCtx, taskSummary(node.TaskKind(contract.Name).Sentence(), lease, a.WipeAttempts), in(task(ctx, lease, step, a.WipeAttempts, wait+run)))
	for !future.IsReady() {
		await(ctx, func() bool { return future.IsReady() || a.askPending() })
		a.drain(ctx)
		if a.Abandon != nil {
			return out, errAbandoned
		}
	}
	if err := future.Get(ctx, &out); err != nil {
		return out, judge(err, contract.Name, fault.NodeTaskFailed)
	}
	return out, nil
}

// taskSummary is a piece of node work as the Temporal UI tells it.
func taskSummary(what string, lease node.Lease, attempt int) string {
	return fmt.Sprintf("%s on %s, generation %d, attempt %d", what, lease.NodeID, lease.Generation, attempt)
}

// told is a message to another workflow on its way.
type told struct {
	summary string
	future  workflow.Future
}

// tell signals the Node workflow and goes on; before the run closes, outcome is read.
func (a *allocationRun) tell(ctx workflow.Context, nodeID id.Node, signal string, payload any) {
	future := workflow.SignalExternalWorkflow(ctx, NodeWorkflowID(nodeID), "", signal, payload)
	a.told = append(a.told, told{summary: signal + " to " + string(nodeID), future: future})
}

// outcome waits until the message was delivered. A workflow that is not there is tolerated: a node's custody is a row in
// Postgres, which a Node workflow reads when it starts, and an allocation that has ended has nothing to hear.
func (t told) outcome(ctx workflow.Context) {
	if err := t.future.Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("a workflow could not be told", "message", t.summary, "error", err)
	}
}

// within is the instant that lies this far ahead of the workflow's clock.
func within(ctx workflow.Context, bound time.Duration) *time.Time {
	deadline := workflow.Now(ctx).Add(bound)
	return &deadline
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
