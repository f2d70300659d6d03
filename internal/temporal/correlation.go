package temporal

import (
	"context"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// correlationHeader is the header under which the id travels to workflows, activities and child calls.
const correlationHeader = "gpuaas-correlation-id"

type workflowCorrelationKey struct{}

// CorrelationPropagator carries the correlation id from a caller's context through workflow and activity headers.
type CorrelationPropagator struct{}

var _ workflow.ContextPropagator = CorrelationPropagator{}

// Inject writes the id of a caller, or of an activity, into the header of what it calls.
func (CorrelationPropagator) Inject(ctx context.Context, writer workflow.HeaderWriter) error {
	return write(writer, telemetry.Correlation(ctx))
}

// InjectFromWorkflow writes the id that a workflow carries into the headers of its steps.
func (CorrelationPropagator) InjectFromWorkflow(ctx workflow.Context, writer workflow.HeaderWriter) error {
	correlationID, _ := ctx.Value(workflowCorrelationKey{}).(string)
	return write(writer, correlationID)
}

// Extract gives an activity the id of the workflow that scheduled it.
func (CorrelationPropagator) Extract(ctx context.Context, reader workflow.HeaderReader) (context.Context, error) {
	correlationID, err := read(reader)
	if err != nil || correlationID == "" {
		return ctx, err
	}
	return telemetry.WithCorrelation(ctx, correlationID), nil
}

// ExtractToWorkflow gives a workflow the id of whoever started it.
func (CorrelationPropagator) ExtractToWorkflow(ctx workflow.Context, reader workflow.HeaderReader) (workflow.Context, error) {
	correlationID, err := read(reader)
	if err != nil || correlationID == "" {
		return ctx, err
	}
	return workflow.WithValue(ctx, workflowCorrelationKey{}, correlationID), nil
}

func write(writer workflow.HeaderWriter, correlationID string) error {
	if correlationID == "" {
		return nil
	}
	payload, err := converter.GetDefaultDataConverter().ToPayload(correlationID)
	if err != nil {
		return err
	}
	writer.Set(correlationHeader, payload)
	return nil
}

func read(reader workflow.HeaderReader) (correlationID string, err error) {
	payload, present := reader.Get(correlationHeader)
	if !present {
		return "", nil
	}
	err = converter.GetDefaultDataConverter().FromPayload(payload, &correlationID)
	return correlationID, err
}
