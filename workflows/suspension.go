package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"
)

// The input, id, updates and steps of Suspension are in suspension_contract.go; what an allocation makes of it is in
// allocation_suspension.go, and the whole is told in docs/flows/suspension.md.

// SuspensionState is everything a run hands to the next one.
type SuspensionState struct {
	Standing Standing `json:"standing"`
	// Change is the one that Standing came by.
	Change StandingChange `json:"change"`
	// Untold says that the subject's allocations have not heard of it yet.
	Untold bool `json:"untold"`
}

type suspensionRun struct {
	SuspensionState
	input SuspensionInput
	// turns makes changes follow each other: what Postgres wrote last is what is told last.
	turns workflow.Mutex
}

// allocationsAtOnce is how many allocations are told before any answer is awaited.
const allocationsAtOnce = 100

// Suspension writes how a subject stands and tells every allocation it holds. It lives while the subject is suspended, so
// that the Temporal UI lists who is.
func Suspension(root workflow.Context, input SuspensionInput) error {
	// A cancellation in Temporal restores nobody; half of the allocations would not hear of it.
	ctx, _ := workflow.NewDisconnectedContext(root)
	s := &suspensionRun{input: input, turns: workflow.NewMutex(ctx)}
	if input.Carried != nil {
		s.SuspensionState = *input.Carried
	}
	if err := errors.Join(s.answer(ctx, SuspendUpdate, StepSuspend), s.answer(ctx, RestoreUpdate, StepRestore)); err != nil {
		return err
	}
	letHandlersStart(ctx)
	return s.run(ctx)
}

func (s *suspensionRun) run(ctx workflow.Context) error {
	for {
		await(ctx, func() bool { return s.Untold || workflow.AllHandlersFinished(ctx) && !s.Standing.Suspended })
		if !s.Untold {
			return nil
		}
		s.tellAllocations(ctx)
		if historyIsLong(ctx, s.input.ContinueAfterEvents) {
			await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
			next := s.input
			next.Carried = &s.SuspensionState
			return workflow.NewContinueAsNewError(ctx, SuspensionType, next)
		}
	}
}

func (s *suspensionRun) answer(ctx workflow.Context, update string, step Step[StandingChange, Standing]) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, update, func(ctx workflow.Context, change StandingChange) (StandingReply, error) {
		return s.change(ctx, step, change)
	}, workflow.UpdateHandlerOptions{Validator: s.mayChange, Description: "An operator's word; Postgres keeps it, with its audit row."})
}

func (s *suspensionRun) mayChange(_ workflow.Context, change StandingChange) error {
	if change.Subject != s.input.Subject {
		return fmt.Errorf("the change is of %s and this workflow holds %s", change.Subject.ID(), s.input.Subject.ID())
	}
	return nil
}

// change has Postgres decide and remembers how the subject stands then. A refusal changes nothing.
func (s *suspensionRun) change(ctx workflow.Context, step Step[StandingChange, Standing], change StandingChange) (StandingReply, error) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if err := s.turns.Lock(ctx); err != nil {
		return StandingReply{}, err
	}
	defer s.turns.Unlock()
	standing, err := step.Run(ctx, fmt.Sprintf("%s %s: %s", step.Name, change.Subject.ID(), change.Reason), change)
	if refusal := refusalOf(err); refusal != nil {
		return StandingReply{Fault: refusal}, nil
	}
	if err != nil {
		return StandingReply{}, err
	}
	s.Standing, s.Change, s.Untold = standing, change, true
	workflow.SetCurrentDetails(ctx, s.story())
	return StandingReply{Standing: standing}, nil
}

func (s *suspensionRun) story() string {
	who := fmt.Sprintf("`%s` is in good standing again", s.input.Subject.ID())
	if s.Standing.Suspended {
		who = fmt.Sprintf("`%s` is suspended since %s; what it holds is released at %s", s.input.Subject.ID(),
			s.Standing.At.Format(time.RFC3339), s.Standing.ReleaseAt.Format(time.RFC3339))
	}
	return fmt.Sprintf("%s\n\n- by %s `%s`: %s\n", who, s.Change.Actor.Role, s.Change.Actor.ID, s.Change.Reason)
}

// tellAllocations signals everything that the subject holds. A change that arrives meanwhile is told afterwards.
func (s *suspensionRun) tellAllocations(ctx workflow.Context) {
	s.Untold = false
	change := SuspensionChange{
		Suspended: s.Standing.Suspended,
		Hold: Hold{
			Subject: s.input.Subject.ID(), At: s.Standing.At, ReleaseAt: s.Standing.ReleaseAt,
			Actor: s.Change.Actor, Reason: s.Change.Reason, CorrelationID: s.Change.CorrelationID,
		},
	}
	in := AllocationsUnderIn{Subject: s.input.Subject, Limit: allocationsAtOnce}
	for {
		page, err := StepAllocationsUnder.Run(ctx, "List what "+in.Subject.ID()+" holds", in)
		if err != nil {
			workflow.GetLogger(ctx).Error("what a subject holds could not be listed and is asked for again", "subject", in.Subject.ID(), "error", err)
			pause(ctx, "Wait to list again", insistInitial, never)
			continue
		}
		messages := make([]told, len(page.Allocations))
		for i, allocationID := range page.Allocations {
			messages[i] = told{
				summary: SuspensionSignal + " to " + string(allocationID),
				future:  workflow.SignalExternalWorkflow(ctx, AllocationWorkflowID(allocationID), "", SuspensionSignal, change),
			}
		}
		for _, message := range messages {
			message.outcome(ctx) // one that has just ended hears nothing and needs nothing
		}
		if len(page.Allocations) < in.Limit {
			return
		}
		in.After = page.Allocations[len(page.Allocations)-1]
	}
}
