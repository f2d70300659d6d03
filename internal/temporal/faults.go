package temporal

import (
	"context"
	"errors"
	"log/slog"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/secret"
)

// healsByItself lists the faults that the server may retry: they are ours or a dependency's, and pass. Every other
// fault is an answer of the domain, which a repeat would only give again.
var healsByItself = map[fault.Code]bool{
	fault.InternalError:      true,
	fault.UpstreamError:      true,
	fault.ServiceUnavailable: true,
}

// ToApplicationError is a fault as it leaves an activity: its code is the type, its details are the details, and it is
// non-retryable unless it heals by itself. An error that carries no fault is returned as it is, and retried.
func ToApplicationError(err error) error {
	var application *temporal.ApplicationError
	var found *fault.Error
	if err == nil || errors.As(err, &application) || !errors.As(err, &found) {
		return err
	}
	options := temporal.ApplicationErrorOptions{NonRetryable: !healsByItself[found.Code], Cause: found.Unwrap()}
	if len(found.Details) > 0 {
		options.Details = []any{secret.Details(found.Details)}
	}
	return temporal.NewApplicationErrorWithOptions(found.Message, string(found.Code), options)
}

// fromService says which fault a failed call of the cluster is.
var fromService = []struct {
	matches func(error) bool
	code    fault.Code
}{
	{is[*serviceerror.Unavailable], fault.ServiceUnavailable},
	{is[*serviceerror.DeadlineExceeded], fault.ServiceUnavailable},
	{is[*serviceerror.ResourceExhausted], fault.ServiceUnavailable},
	{is[*serviceerror.NamespaceNotFound], fault.ServiceUnavailable},
	{func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }, fault.ServiceUnavailable},
	{is[*temporal.TimeoutError], fault.ServiceUnavailable},
	{is[*serviceerror.InvalidArgument], fault.InternalError},
	{is[*serviceerror.Internal], fault.UpstreamError},
	{is[*serviceerror.PermissionDenied], fault.UpstreamError},
}

func is[Kind error](err error) bool {
	var kind Kind
	return errors.As(err, &kind)
}

// FromError is the fault behind an error that came out of Temporal: the one an activity or a workflow ended with, or
// the kind of failure of the cluster. What is not known is fault.InternalError; nil stays nil.
func FromError(err error) *fault.Error {
	if err == nil {
		return nil
	}
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		if _, known := fault.Lookup(fault.Code(application.Type())); known {
			found := fault.Wrap(err, fault.Code(application.Type()), application.Message())
			var details map[string]any
			if application.HasDetails() && application.Details(&details) == nil {
				found = found.With(details)
			}
			return found
		}
	}
	for _, kind := range fromService {
		if kind.matches(err) {
			return fault.Wrap(err, kind.code, "")
		}
	}
	return fault.From(err)
}

// Interceptor converts the faults that activities end with, and logs what an attempt ended with beside its
// correlation id. It is set in the options of every worker.
func Interceptor(log *slog.Logger) interceptor.WorkerInterceptor {
	return &workerInterceptor{log: log}
}

type workerInterceptor struct {
	interceptor.WorkerInterceptorBase
	log *slog.Logger
}

func (w *workerInterceptor) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	inbound := &activityInterceptor{log: w.log}
	inbound.Next = next
	return inbound
}

type activityInterceptor struct {
	interceptor.ActivityInboundInterceptorBase
	log *slog.Logger
}

func (a *activityInterceptor) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	out, err := a.Next.ExecuteActivity(ctx, in)
	if err == nil || errors.Is(err, activity.ErrResultPending) {
		return out, err
	}
	info := activity.GetInfo(ctx)
	a.log.WarnContext(ctx, "a step ended with an error", "step", info.ActivityType.Name, "attempt", info.Attempt,
		"workflow_id", info.WorkflowExecution.ID, "run_id", info.WorkflowExecution.RunID, "error", err.Error())
	return out, ToApplicationError(err)
}
