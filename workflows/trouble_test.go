package workflows_test

import (
	"context"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/gpuaas/gpuaas/domain/fault"
)

func always(trouble func() error) func(context.Context, int) error {
	return func(context.Context, int) error { return trouble() }
}

func failingOnceWith(trouble func() error) func(context.Context, int) error {
	return func(_ context.Context, call int) error {
		if call == 1 {
			return trouble()
		}
		return nil
	}
}

func heartbeatLost() error { return temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_HEARTBEAT, nil) }

func tooSlow() error { return temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil) }

func conflict() error {
	return temporal.NewNonRetryableApplicationError("the version moved", string(fault.AllocationStateConflict), nil)
}

func rejected(got *reply) *testsuite.TestUpdateCallback {
	return &testsuite.TestUpdateCallback{
		OnAccept: func() {}, OnReject: func(err error) { got.err = err }, OnComplete: func(any, error) {},
	}
}
