//go:build integration

package process_test

import (
	"fmt"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// What an operator sets of the reconciliation holds within seconds, and what an operator did to its schedule alone stays.
func TestTheReconciliationFollowsItsPolicyWithinSeconds(t *testing.T) {
	p := newPlatform(t, 0)
	schedule := p.cluster.ScheduleClient().GetHandle(t.Context(), workflows.ReconciliationScheduleID)
	every := func(wanted time.Duration, within time.Duration) {
		t.Helper()
		temporaltest.Eventually(t, within, func() error {
			found, err := schedule.Describe(t.Context())
			if err != nil {
				return err
			}
			if spec := found.Schedule.Spec; len(spec.Intervals) != 1 || spec.Intervals[0].Every != wanted {
				return fmt.Errorf("it runs at %v, not every %v", spec.Intervals, wanted)
			}
			return nil
		})
	}
	every(time.Hour, 30*time.Second)
	if err := schedule.Pause(t.Context(), client.SchedulePauseOptions{Note: "while we look"}); err != nil {
		t.Fatal(err)
	}
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('reconciliation.interval_seconds', 1, '7200', 'platform')`)
	every(2*time.Hour, 20*time.Second)
	found, err := schedule.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state := found.Schedule.State; !state.Paused || state.Note != "while we look" {
		t.Errorf("it goes on although it was paused: %+v", state)
	}
}
