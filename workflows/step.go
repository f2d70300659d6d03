package workflows

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Step is the typed contract of one activity. The workflow that needs it owns it; an activity binds to it,
// so that a wrong signature does not compile.
type Step[In, Out any] struct {
	// Name is the activity's registered name, "noun.verb".
	Name string
	// Queue is where it runs; empty means the workflow's own queue.
	Queue string
	// StartToClose bounds one attempt; ScheduleToClose, if set, all of them; Heartbeat, if set, the silence of one.
	StartToClose    time.Duration
	ScheduleToStart time.Duration
	ScheduleToClose time.Duration
	Heartbeat       time.Duration
	// Retry is the server's policy; nil retries for ever with back-off, for faults of ours heal and faults of
	// the domain are non-retryable application errors.
	Retry *temporal.RetryPolicy
}

// On is the same step on another queue.
func (s Step[In, Out]) On(queue string) Step[In, Out] {
	s.Queue = queue
	return s
}

// Within is the same step with other bounds for waiting and for one attempt.
func (s Step[In, Out]) Within(scheduleToStart, startToClose time.Duration) Step[In, Out] {
	s.ScheduleToStart, s.StartToClose = scheduleToStart, startToClose
	return s
}

// Run schedules the step and waits for its outcome. The summary is one line that an operator reads in the Temporal UI.
func (s Step[In, Out]) Run(ctx workflow.Context, summary string, in In) (Out, error) {
	var out Out
	err := s.Start(ctx, summary, in).Get(ctx, &out)
	return out, err
}

// Start schedules the step and returns its future.
func (s Step[In, Out]) Start(ctx workflow.Context, summary string, in In) workflow.Future {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              s.Queue,
		ScheduleToStartTimeout: s.ScheduleToStart,
		StartToCloseTimeout:    s.StartToClose,
		ScheduleToCloseTimeout: s.ScheduleToClose,
		HeartbeatTimeout:       s.Heartbeat,
		RetryPolicy:            s.Retry,
		// A step that heartbeats is work on a machine: whoever cancels it must know that it ended before undoing it.
		WaitForCancellation: s.Heartbeat > 0,
		Summary:             summary,
	})
	return workflow.ExecuteActivity(ctx, s.Name, in)
}

// RunLocal runs the step in the worker of the workflow, which costs 6 history events instead of 11 a window.
// Signals wait while it retries, so scheduleToClose is short; the caller falls back to Run.
func (s Step[In, Out]) RunLocal(ctx workflow.Context, summary string, scheduleToClose time.Duration, in In) (Out, error) {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: scheduleToClose,
		RetryPolicy:            s.Retry,
		Summary:                summary,
	})
	var out Out
	err := workflow.ExecuteLocalActivity(ctx, s.Name, in).Get(ctx, &out)
	return out, err
}

// Bind registers the function that does the step on a worker.
func (s Step[In, Out]) Bind(registry worker.ActivityRegistry, do func(context.Context, In) (Out, error)) {
	registry.RegisterActivityWithOptions(do, activity.RegisterOptions{Name: s.Name})
}
