package temporal

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/fault"
)

func TestOnlyAnUpdateThatTheClusterLostIsAskedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		again bool
	}{
		"a workflow task that failed":       {fmt.Errorf("failed workflow update: %w", serviceerror.NewWorkflowNotReady("no")), true},
		"a run that closed":                 {serviceerror.NewNotFound("workflow execution already completed"), true},
		"a run that closed once more":       {serviceerror.NewAborted("workflow update was aborted by closing workflow"), true},
		"a namespace that does not exist":   {serviceerror.NewNamespaceNotFound("x"), false},
		"our mistake":                       {serviceerror.NewInvalidArgument("no"), false},
		"what the domain answers":           {temporal.NewApplicationError("Held.", string(fault.NodeInUse)), false},
		"a cluster that is away":            {serviceerror.NewUnavailable("no"), false}, // the SDK asked again, as long as ctx let it
		"what nobody knows what to do with": {errors.New("a pipe broke"), false},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			err := AskUntilAnswered(t.Context(), func(context.Context) error {
				if asked++; asked == 1 {
					return test.err
				}
				return nil
			})
			if again := asked == 2; again != test.again || (err == nil) != test.again {
				t.Errorf("asked %d times, and ended with %v", asked, err)
			}
			if !test.again && !errors.Is(err, test.err) {
				t.Errorf("%v became %v", test.err, err)
			}
		})
	}
}

func TestWhoStopsWaitingIsToldWhatWentWrongLast(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	trouble := serviceerror.NewWorkflowNotReady("no")
	err := AskUntilAnswered(ctx, func(context.Context) error {
		leave()
		return trouble
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, trouble) {
		t.Errorf("ended with %v", err)
	}
}
