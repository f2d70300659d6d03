package nodeapi

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	// maxPoll is longer than the SDK's own poll (70 s), and bounds a client that sets no deadline.
	maxPoll = 75 * time.Second
	// maxCall bounds every other forwarded call.
	maxCall = 20 * time.Second
	// serverVersion is the oldest Temporal that the platform runs on: all that a node may rely on.
	serverVersion     = "1.26.0"
	maxInstanceKey    = 64
	blobLimitBytes    = maxMessageBytes
	capabilityRefused = "this call is not served to nodes"
)

// activityService is Temporal's WorkflowService reduced to what an activity worker calls for one node's own queue.
// Every other method is the embedded Unimplemented one.
type activityService struct {
	workflowservice.UnimplementedWorkflowServiceServer
	namespace string
	frontend  workflowservice.WorkflowServiceClient
	keys      *TokenKeys
	gate      *gate
	polls     *pollSlots
}

// GetSystemInfo is answered here: nodes never learn about the cluster.
func (s *activityService) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{
		ServerVersion: serverVersion,
		Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{
			SignalAndQueryHeader:            true,
			InternalErrorDifferentiation:    true,
			ActivityFailureIncludeHeartbeat: true,
			EncodedFailureAttributes:        true,
		},
	}, nil
}

// DescribeNamespace is answered here, for the one namespace that a node works in.
func (s *activityService) DescribeNamespace(_ context.Context, request *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	if request.GetNamespace() != s.namespace {
		return nil, status.Error(codes.PermissionDenied, capabilityRefused)
	}
	return &workflowservice.DescribeNamespaceResponse{
		NamespaceInfo: &namespacepb.NamespaceInfo{
			Name: s.namespace, State: enumspb.NAMESPACE_STATE_REGISTERED,
			Capabilities: &namespacepb.NamespaceInfo_Capabilities{},
			Limits:       &namespacepb.NamespaceInfo_Limits{BlobSizeLimitError: blobLimitBytes},
		},
		Config: &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(0)},
	}, nil
}

// PollActivityTaskQueue waits for a task of the node's own queue, whatever queue was asked for. It ends when the
// node is denied; a task that arrives then is not handed out.
func (s *activityService) PollActivityTaskQueue(ctx context.Context, request *workflowservice.PollActivityTaskQueueRequest) (*workflowservice.PollActivityTaskQueueResponse, error) {
	nodeID := nodeFrom(ctx)
	own := workflows.NodeQueue(nodeID)
	// The queue is forced anyway; a poll that names another is refused so that a mistake is seen.
	if request.GetNamespace() != s.namespace || request.GetTaskQueue().GetName() != own {
		return nil, status.Error(codes.PermissionDenied, "a node polls its own task queue only")
	}
	release, free := s.polls.take(nodeID)
	if !free {
		return nil, status.Error(codes.ResourceExhausted, "this node has as many polls waiting as it may")
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, maxPoll)
	defer cancel()
	answer, err := s.frontend.PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{
		Namespace:         s.namespace,
		TaskQueue:         &taskqueuepb.TaskQueue{Name: own, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		Identity:          string(nodeID),
		WorkerInstanceKey: instanceKey(nodeID, request.GetWorkerInstanceKey()),
	})
	if err != nil {
		return nil, told(ctx, err)
	}
	if len(answer.GetTaskToken()) == 0 {
		return &workflowservice.PollActivityTaskQueueResponse{}, nil
	}
	// The node may have been denied while it waited.
	if _, err := s.gate.admit(ctx, nodeID); err != nil {
		return nil, grpcError(err)
	}
	return task(answer, s.keys.Seal(nodeID, answer.GetTaskToken())), nil
}

// RecordActivityTaskHeartbeat forwards progress of a task that this node was given.
func (s *activityService) RecordActivityTaskHeartbeat(ctx context.Context, request *workflowservice.RecordActivityTaskHeartbeatRequest) (*workflowservice.RecordActivityTaskHeartbeatResponse, error) {
	answer, err := forward(ctx, s, request.GetTaskToken(), s.frontend.RecordActivityTaskHeartbeat,
		func(given given) *workflowservice.RecordActivityTaskHeartbeatRequest {
			return &workflowservice.RecordActivityTaskHeartbeatRequest{
				TaskToken: given.token, Identity: given.identity, Namespace: s.namespace, Details: payloads(request.GetDetails()),
			}
		})
	if err != nil {
		return nil, err
	}
	return &workflowservice.RecordActivityTaskHeartbeatResponse{
		CancelRequested: answer.GetCancelRequested(), ActivityPaused: answer.GetActivityPaused(), ActivityReset: answer.GetActivityReset(),
	}, nil
}

// RespondActivityTaskCompleted forwards the result of a task that this node was given.
func (s *activityService) RespondActivityTaskCompleted(ctx context.Context, request *workflowservice.RespondActivityTaskCompletedRequest) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	_, err := forward(ctx, s, request.GetTaskToken(), s.frontend.RespondActivityTaskCompleted,
		func(given given) *workflowservice.RespondActivityTaskCompletedRequest {
			return &workflowservice.RespondActivityTaskCompletedRequest{
				TaskToken: given.token, Identity: given.identity, Namespace: s.namespace, Result: payloads(request.GetResult()),
			}
		})
	return &workflowservice.RespondActivityTaskCompletedResponse{}, err
}

// RespondActivityTaskFailed forwards the failure of a task that this node was given.
func (s *activityService) RespondActivityTaskFailed(ctx context.Context, request *workflowservice.RespondActivityTaskFailedRequest) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	_, err := forward(ctx, s, request.GetTaskToken(), s.frontend.RespondActivityTaskFailed,
		func(given given) *workflowservice.RespondActivityTaskFailedRequest {
			return &workflowservice.RespondActivityTaskFailedRequest{
				TaskToken: given.token, Identity: given.identity, Namespace: s.namespace, Failure: failure(request.GetFailure(), 0),
				LastHeartbeatDetails: payloads(request.GetLastHeartbeatDetails()),
			}
		})
	return &workflowservice.RespondActivityTaskFailedResponse{}, err
}

// RespondActivityTaskCanceled forwards that a task of this node ended because it was asked to.
func (s *activityService) RespondActivityTaskCanceled(ctx context.Context, request *workflowservice.RespondActivityTaskCanceledRequest) (*workflowservice.RespondActivityTaskCanceledResponse, error) {
	_, err := forward(ctx, s, request.GetTaskToken(), s.frontend.RespondActivityTaskCanceled,
		func(given given) *workflowservice.RespondActivityTaskCanceledRequest {
			return &workflowservice.RespondActivityTaskCanceledRequest{
				TaskToken: given.token, Identity: given.identity, Namespace: s.namespace, Details: payloads(request.GetDetails()),
			}
		})
	return &workflowservice.RespondActivityTaskCanceledResponse{}, err
}

// given is what the frontend knows a task by that was given to a node: the opened token, and the node's name.
type given struct {
	token    []byte
	identity string
}

// forward opens the sealed token of a task that the calling node was given, has the frontend's request built anew from it,
// and makes the call within bounds.
func forward[Request, Answer any](ctx context.Context, s *activityService, sealed []byte,
	call func(context.Context, Request, ...grpc.CallOption) (Answer, error), build func(given) Request) (Answer, error) {
	var none Answer
	nodeID := nodeFrom(ctx)
	token, err := s.keys.Open(nodeID, sealed)
	if err != nil {
		return none, status.Error(codes.PermissionDenied, ErrTokenNotSealed.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, maxCall)
	defer cancel()
	answer, err := call(ctx, build(given{token: token, identity: string(nodeID)}))
	if err != nil {
		return none, told(ctx, err)
	}
	return answer, nil
}

// ShutdownWorker ends this worker's polls of its own queue. The sticky queue that a request names is never
// forwarded: the server unloads whatever queue stands there.
func (s *activityService) ShutdownWorker(ctx context.Context, request *workflowservice.ShutdownWorkerRequest) (*workflowservice.ShutdownWorkerResponse, error) {
	nodeID := nodeFrom(ctx)
	if sticky := request.GetStickyTaskQueue(); sticky != "" {
		return nil, status.Error(codes.PermissionDenied, "a node has no sticky task queue")
	}
	ctx, cancel := context.WithTimeout(ctx, maxCall)
	defer cancel()
	_, err := s.frontend.ShutdownWorker(ctx, &workflowservice.ShutdownWorkerRequest{
		Namespace: s.namespace, Identity: string(nodeID), Reason: "the node's worker ends",
		WorkerInstanceKey: instanceKey(nodeID, request.GetWorkerInstanceKey()),
		TaskQueue:         workflows.NodeQueue(nodeID), TaskQueueTypes: []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_ACTIVITY},
	})
	if err != nil {
		return nil, told(ctx, err)
	}
	return &workflowservice.ShutdownWorkerResponse{}, nil
}

// instanceKey keeps one worker's polls together, under the node's name so that nobody's key can be another's.
func instanceKey(nodeID id.Node, given string) string {
	if given == "" {
		return ""
	}
	return string(nodeID) + "/" + given[:min(len(given), maxInstanceKey)]
}

// told keeps of Temporal's error what the SDK decides by, its code, and a sentence that says nothing of the cluster.
func told(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errDenied) {
		return grpcError(cause)
	}
	code := serviceerror.ToStatus(err).Code()
	switch code {
	case codes.NotFound:
		return status.Error(code, "the task is not known any more")
	case codes.InvalidArgument:
		return status.Error(code, "the platform refuses the task's content")
	case codes.ResourceExhausted:
		return status.Error(code, "the platform is busy")
	case codes.Canceled, codes.DeadlineExceeded:
		return status.Error(code, "the call ended before an answer was there")
	case codes.Unavailable:
		return status.Error(code, "the platform cannot be reached at the moment")
	case codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted:
		return status.Error(code, "the task's state does not allow this")
	default:
		// An unknown trouble of ours heals; the SDK tries Unavailable again and gives up on Internal.
		return status.Error(codes.Unavailable, "the platform could not take the call")
	}
}
