package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	// scheduleLook is how often the schedule itself is compared, and policyLook how often what policy wants of it.
	scheduleLook  = time.Minute
	policyLook    = 3 * time.Second
	scheduleRetry = 5 * time.Second
	// scheduleCatchUp is how late a run may begin after an outage; the next one sees the same.
	scheduleCatchUp = time.Minute
)

// keepSchedule keeps the one schedule of the reconciliation as policy wants it, until ctx ends: it is made where there is none, and compared
// with what it should be whenever policy changes, and now and then. Several workers may do so at once; whether it is paused is an operator's
// word and stays.
func keepSchedule(ctx context.Context, cluster client.Client, policies activities.IntPolicy, log *slog.Logger) error {
	var (
		kept     time.Duration
		compared time.Time
	)
	for {
		pause := policyLook
		seconds, err := policies.Int(ctx, policy.ReconciliationIntervalSeconds)
		wanted := time.Duration(seconds) * time.Second
		if err == nil && (wanted != kept || time.Since(compared) >= scheduleLook) {
			if err = schedule(ctx, cluster, wanted, log); err == nil {
				kept, compared = wanted, time.Now()
			}
		}
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "the schedule of the reconciliation could not be looked at and will be again", "error", err.Error())
			pause = scheduleRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// schedule makes the schedule, or brings the one there is to what it should be.
func schedule(ctx context.Context, cluster client.Client, interval time.Duration, log *slog.Logger) error {
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: interval}}}
	action := &client.ScheduleWorkflowAction{
		ID: workflows.ReconciliationScheduleID, Workflow: workflows.ReconciliationType, TaskQueue: workflows.AllocationsQueue,
		Args: []any{workflows.ReconciliationInput{}}, StaticSummary: "Compare the books with everything else",
	}
	_, err := cluster.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: workflows.ReconciliationScheduleID, Spec: spec, Action: action, Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: scheduleCatchUp,
	})
	if err == nil {
		log.InfoContext(ctx, "the reconciliation is scheduled", "every", interval.String())
		return nil
	}
	if !errors.Is(err, sdk.ErrScheduleAlreadyRunning) {
		return fmt.Errorf("make the schedule: %w", err)
	}
	standing := cluster.ScheduleClient().GetHandle(ctx, workflows.ReconciliationScheduleID)
	found, err := standing.Describe(ctx)
	if err != nil {
		return fmt.Errorf("read the schedule: %w", err)
	}
	if asScheduled(found.Schedule, interval) {
		return nil
	}
	log.WarnContext(ctx, "the schedule of the reconciliation is not what it should be and is changed", "every", interval.String())
	if err := standing.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		changed := in.Description.Schedule
		changed.Spec, changed.Action = &spec, action
		if changed.Policy == nil {
			changed.Policy = &client.SchedulePolicies{}
		}
		changed.Policy.Overlap, changed.Policy.CatchupWindow = enums.SCHEDULE_OVERLAP_POLICY_SKIP, scheduleCatchUp
		return &client.ScheduleUpdate{Schedule: &changed}, nil
	}}); err != nil {
		return fmt.Errorf("change the schedule: %w", err)
	}
	return nil
}

// asScheduled says whether a schedule does what it should.
func asScheduled(found client.Schedule, interval time.Duration) bool {
	action, starts := found.Action.(*client.ScheduleWorkflowAction)
	return starts && action.Workflow == workflows.ReconciliationType && action.TaskQueue == workflows.AllocationsQueue &&
		found.Policy != nil && found.Policy.Overlap == enums.SCHEDULE_OVERLAP_POLICY_SKIP && found.Policy.CatchupWindow == scheduleCatchUp &&
		found.Spec != nil && len(found.Spec.Intervals) == 1 && found.Spec.Intervals[0].Every == interval &&
		len(found.Spec.Calendars) == 0 && len(found.Spec.CronExpressions) == 0
}
