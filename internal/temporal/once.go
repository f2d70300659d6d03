package temporal

import (
	"context"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
)

type requestIDKey struct{}

// WithRequestID names the request that signals under ctx are sent for: the server takes one signal of a request id in a
// run, however often it is sent. The SDK draws an id for every call and offers no way to give one.
func WithRequestID(ctx context.Context, requestID string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, requestID)
}

// nameRequest gives the signals of a named request its id.
func nameRequest(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if requestID, named := ctx.Value(requestIDKey{}).(string); named && requestID != "" {
		switch signal := request.(type) {
		case *workflowservice.SignalWorkflowExecutionRequest:
			signal.RequestId = requestID
		case *workflowservice.SignalWithStartWorkflowExecutionRequest:
			signal.RequestId = requestID
		}
	}
	return invoke(ctx, method, request, reply, conn, options...)
}
