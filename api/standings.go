package api

import (
	"context"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/workflows"
)

// standingPatience bounds the wait for a change of standing; a repeat of the request finds what came of it.
const standingPatience = 10 * time.Second

// changeStanding suspends or restores a tenant or a user: the workflow of its suspension has Postgres keep the change, and
// then tells every allocation of it, however often a worker dies on the way.
func (s *server) changeStanding(ctx context.Context, update string, subject workflows.Subject, reason string) error {
	change := workflows.StandingChange{
		Subject: subject, Actor: middleware.Principal(ctx).Actor(), Reason: reason,
		RequestID: middleware.RequestOf(ctx).ID, CorrelationID: telemetry.Correlation(ctx),
	}
	var reply workflows.StandingReply
	if err := s.order(ctx, standingPatience, orderedWorkflow{
		id: workflows.SuspensionWorkflowID(subject), queue: workflows.AllocationsQueue, kind: workflows.SuspensionType, update: update,
		input: workflows.SuspensionInput{Subject: subject}, asked: change, summary: "Suspension of " + subject.ID(),
	}, &reply); err != nil {
		return err
	}
	if reply.Fault != nil {
		return fromStep(reply.Fault)
	}
	return nil
}
