//go:build integration

package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

func code(err error) codes.Code { return serviceerror.ToStatus(err).Code() }

// poll takes one task of the node's queue by hand.
func (w *world) poll(through client.Client, nodeID id.Node) *workflowservice.PollActivityTaskQueueResponse {
	w.t.Helper()
	task, err := through.WorkflowService().PollActivityTaskQueue(w.ctx(), &workflowservice.PollActivityTaskQueueRequest{
		Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(nodeID)}, Identity: "somebody else", WorkerInstanceKey: "key",
	})
	if err != nil || len(task.GetTaskToken()) == 0 {
		w.t.Fatalf("no task for %s: %v", nodeID, err)
	}
	return task
}

func TestANodesTasksComeAndGoThroughTheGateway(t *testing.T) {
	w := newWorld(t)
	w.giver()
	n := w.enrolled("gpu-1")
	agent := w.work(w.dial(n), n.NodeID())
	defer agent.Stop()

	var out string
	if err := w.give(nodeTask{Node: n.NodeID(), Kind: node.GPUHealth}).Get(w.ctx(), &out); err != nil || out != "done input" {
		t.Fatalf("%q, %v", out, err)
	}
	err := w.give(nodeTask{Node: n.NodeID(), Kind: node.ScrubVerify}).Get(w.ctx(), nil)
	var failed *temporal.ApplicationError
	left := 0
	if !errors.As(err, &failed) || failed.Type() != node.ErrScrubIncomplete || !failed.NonRetryable() || failed.Details(&left) != nil || left != 2 {
		t.Fatalf("the failure came as %v with %d", err, left)
	}
	if !strings.Contains(fmt.Sprint(errors.Unwrap(failed)), "deadline") {
		t.Fatalf("the cause did not pass: %v", errors.Unwrap(failed))
	}
	// Cancellation reaches the node by its heartbeat and the answer comes back.
	run := w.give(nodeTask{Node: n.NodeID(), Kind: node.ScrubRun, Wait: time.Minute})
	temporaltest.Eventually(t, patience, func() error {
		if len(w.forwarded.requests(workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName)) == 0 {
			return errors.New("no heartbeat of the task yet")
		}
		return nil
	})
	if err := w.temporal.CancelWorkflow(w.ctx(), run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	var cancelled *temporal.CanceledError
	if err := run.Get(w.ctx(), nil); !errors.As(err, &cancelled) {
		t.Fatalf("the cancelled task ended as %v", err)
	}
}

func TestANodeReachesNothingButItsOwnTasks(t *testing.T) {
	w := newWorld(t)
	w.giver()
	a, b := w.enrolled("gpu-a"), w.enrolled("gpu-b")
	throughA, throughB := w.dial(a), w.dial(b)
	run := w.give(nodeTask{Node: b.NodeID(), Kind: node.GPUHealth})
	task := w.poll(throughB, b.NodeID())
	forged := keysOf(t, oldKey).Seal(a.NodeID(), task.GetTaskToken()[1+3+macBytes:])
	bare := task.GetTaskToken()[1+3+macBytes:]
	ctx, service := w.ctx(), throughA.WorkflowService()
	execution := &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()}

	attacks := map[string]struct {
		want codes.Code
		try  func() error
	}{
		"poll another node's queue": {codes.PermissionDenied, func() error {
			_, err := service.PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(b.NodeID())}})
			return err
		}},
		"poll a queue of the platform": {codes.PermissionDenied, func() error {
			_, err := service.PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.AllocationsQueue}})
			return err
		}},
		"poll another namespace": {codes.PermissionDenied, func() error {
			_, err := service.PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{Namespace: "temporal-system", TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(a.NodeID())}})
			return err
		}},
		"poll workflow tasks": {codes.Unimplemented, func() error {
			_, err := service.PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(a.NodeID())}})
			return err
		}},
		"complete another node's task with its copied token": {codes.PermissionDenied, func() error {
			_, err := service.RespondActivityTaskCompleted(ctx, &workflowservice.RespondActivityTaskCompletedRequest{Namespace: w.namespace, TaskToken: task.GetTaskToken()})
			return err
		}},
		"complete it with the token inside": {codes.PermissionDenied, func() error {
			_, err := service.RespondActivityTaskCompleted(ctx, &workflowservice.RespondActivityTaskCompletedRequest{Namespace: w.namespace, TaskToken: bare})
			return err
		}},
		"complete it with a token sealed by another key": {codes.PermissionDenied, func() error {
			_, err := service.RespondActivityTaskCompleted(ctx, &workflowservice.RespondActivityTaskCompletedRequest{Namespace: w.namespace, TaskToken: forged})
			return err
		}},
		"fail it with its copied token": {codes.PermissionDenied, func() error {
			_, err := service.RespondActivityTaskFailed(ctx, &workflowservice.RespondActivityTaskFailedRequest{Namespace: w.namespace, TaskToken: task.GetTaskToken(), Failure: &failurepb.Failure{Message: "x"}})
			return err
		}},
		"cancel it with its copied token": {codes.PermissionDenied, func() error {
			_, err := service.RespondActivityTaskCanceled(ctx, &workflowservice.RespondActivityTaskCanceledRequest{Namespace: w.namespace, TaskToken: task.GetTaskToken()})
			return err
		}},
		"beat for it with its copied token": {codes.PermissionDenied, func() error {
			_, err := service.RecordActivityTaskHeartbeat(ctx, &workflowservice.RecordActivityTaskHeartbeatRequest{Namespace: w.namespace, TaskToken: task.GetTaskToken()})
			return err
		}},
		"complete it by id": {codes.Unimplemented, func() error {
			return throughA.CompleteActivityByID(ctx, w.namespace, run.GetID(), run.GetRunID(), task.GetActivityId(), "forged", nil)
		}},
		"start a workflow": {codes.Unimplemented, func() error {
			_, err := throughA.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: workflows.AllocationsQueue}, "Allocation")
			return err
		}},
		"signal a workflow": {codes.Unimplemented, func() error { return throughA.SignalWorkflow(ctx, run.GetID(), "", "release", nil) }},
		"signal with start": {codes.Unimplemented, func() error {
			_, err := throughA.SignalWithStartWorkflow(ctx, "node/x", "reachability", nil, client.StartWorkflowOptions{TaskQueue: taskQueue}, "Node")
			return err
		}},
		"cancel a workflow":    {codes.Unimplemented, func() error { return throughA.CancelWorkflow(ctx, run.GetID(), "") }},
		"terminate a workflow": {codes.Unimplemented, func() error { return throughA.TerminateWorkflow(ctx, run.GetID(), "", "because") }},
		"list workflows": {codes.Unimplemented, func() error {
			_, err := throughA.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{})
			return err
		}},
		"describe a workflow": {codes.Unimplemented, func() error {
			_, err := throughA.DescribeWorkflowExecution(ctx, run.GetID(), "")
			return err
		}},
		"read a history": {codes.Unimplemented, func() error {
			_, err := service.GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: w.namespace, Execution: execution})
			return err
		}},
		"query a workflow": {codes.Unimplemented, func() error {
			_, err := service.QueryWorkflow(ctx, &workflowservice.QueryWorkflowRequest{Namespace: w.namespace, Execution: execution, Query: &querypb.WorkflowQuery{QueryType: "explain"}})
			return err
		}},
		"describe a task queue": {codes.Unimplemented, func() error {
			_, err := throughA.DescribeTaskQueue(ctx, workflows.NodeQueue(b.NodeID()), enumspb.TASK_QUEUE_TYPE_ACTIVITY)
			return err
		}},
		"unload a queue": {codes.PermissionDenied, func() error {
			_, err := service.ShutdownWorker(ctx, &workflowservice.ShutdownWorkerRequest{Namespace: w.namespace, StickyTaskQueue: workflows.AllocationsQueue})
			return err
		}},
		"list namespaces": {codes.Unimplemented, func() error {
			_, err := service.ListNamespaces(ctx, &workflowservice.ListNamespacesRequest{})
			return err
		}},
		"describe another namespace": {codes.PermissionDenied, func() error {
			_, err := service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "temporal-system"})
			return err
		}},
	}
	before := len(flatten(w.forwarded.all()))
	for name, attack := range attacks {
		if err := attack.try(); code(err) != attack.want {
			t.Errorf("%s: %v, want %s", name, err, attack.want)
		}
	}
	if after := len(flatten(w.forwarded.all())); after != before {
		t.Errorf("%d of the attacks reached Temporal", after-before)
	}
	// Naming another node's queue in ShutdownWorker touches one's own alone.
	if _, err := service.ShutdownWorker(ctx, &workflowservice.ShutdownWorkerRequest{Namespace: w.namespace, TaskQueue: workflows.NodeQueue(b.NodeID()), WorkerInstanceKey: "key"}); err != nil {
		t.Fatal(err)
	}
	for _, request := range w.forwarded.requests(workflowservice.WorkflowService_ShutdownWorker_FullMethodName) {
		shutdown := request.(*workflowservice.ShutdownWorkerRequest)
		if shutdown.GetTaskQueue() != workflows.NodeQueue(a.NodeID()) || shutdown.GetStickyTaskQueue() != "" || shutdown.GetWorkerInstanceKey() != string(a.NodeID())+"/key" {
			t.Errorf("forwarded %v", shutdown)
		}
	}
	// After all that the task is still its node's to complete.
	if _, err := throughB.WorkflowService().RespondActivityTaskCompleted(ctx, &workflowservice.RespondActivityTaskCompletedRequest{Namespace: w.namespace, TaskToken: task.GetTaskToken()}); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotOnTheListDoesNotPass(t *testing.T) {
	w := newWorld(t)
	w.giver()
	n := w.enrolled("gpu-1")
	through := w.dial(n)
	run := w.give(nodeTask{Node: n.NodeID(), Kind: node.GPUHealth})
	unknown := protowire.AppendString(protowire.AppendTag(nil, 50_000, protowire.BytesType), "smuggled")
	smuggle := func(message proto.Message) { message.ProtoReflect().SetUnknown(unknown) }

	payload := &commonpb.Payload{
		Data: []byte(`"x"`), Metadata: map[string][]byte{"encoding": []byte("json/plain"), "smuggled": []byte("x")},
		ExternalPayloads: []*commonpb.Payload_ExternalPayloadDetails{{SizeBytes: 1}},
	}
	smuggle(payload)
	list := &commonpb.Payloads{Payloads: []*commonpb.Payload{payload}}
	smuggle(list)
	inner := &failurepb.Failure{Message: "cause", FailureInfo: &failurepb.Failure_ServerFailureInfo{ServerFailureInfo: &failurepb.ServerFailureInfo{NonRetryable: true}}}
	smuggle(inner)
	info := &failurepb.ApplicationFailureInfo{Type: "t", Details: list}
	smuggle(info)
	outer := &failurepb.Failure{Message: "m", Cause: inner, EncodedAttributes: payload, FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: info}}
	smuggle(outer)

	queue := &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(n.NodeID()), Kind: enumspb.TASK_QUEUE_KIND_STICKY, NormalName: workflows.AllocationsQueue}
	smuggle(queue)
	poll := &workflowservice.PollActivityTaskQueueRequest{Namespace: w.namespace, TaskQueue: queue, Identity: "root", WorkerControlTaskQueue: "control", PollerGroupId: "group"}
	smuggle(poll)
	task, err := through.WorkflowService().PollActivityTaskQueue(w.ctx(), poll)
	if err != nil || len(task.GetTaskToken()) == 0 {
		t.Fatalf("no task: %v", err)
	}
	beat := &workflowservice.RecordActivityTaskHeartbeatRequest{Namespace: "other", TaskToken: task.GetTaskToken(), Details: list, Identity: "root", ResourceId: "workflow:x"}
	smuggle(beat)
	if _, err := through.WorkflowService().RecordActivityTaskHeartbeat(w.ctx(), beat); err != nil {
		t.Fatal(err)
	}
	failed := &workflowservice.RespondActivityTaskFailedRequest{Namespace: "other", TaskToken: task.GetTaskToken(), Failure: outer, Identity: "root", LastHeartbeatDetails: list}
	smuggle(failed)
	if _, err := through.WorkflowService().RespondActivityTaskFailed(w.ctx(), failed); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(w.ctx(), nil); err == nil {
		t.Fatal("the failed task succeeded")
	}
	again := w.give(nodeTask{Node: n.NodeID(), Kind: node.GPUHealth})
	completed := &workflowservice.RespondActivityTaskCompletedRequest{Namespace: "other", TaskToken: w.poll(through, n.NodeID()).GetTaskToken(), Result: list, Identity: "root"}
	smuggle(completed)
	if _, err := through.WorkflowService().RespondActivityTaskCompleted(w.ctx(), completed); err != nil {
		t.Fatal(err)
	}
	if err := again.Get(w.ctx(), nil); err != nil {
		t.Fatal(err)
	}
	third := w.give(nodeTask{Node: n.NodeID(), Kind: node.GPUHealth})
	cancelled := &workflowservice.RespondActivityTaskCanceledRequest{Namespace: "other", TaskToken: w.poll(through, n.NodeID()).GetTaskToken(), Details: list, Identity: "root"}
	smuggle(cancelled)
	// Nobody asked for a cancellation, so Temporal refuses it; what matters is what was sent.
	_, _ = through.WorkflowService().RespondActivityTaskCanceled(w.ctx(), cancelled)
	_ = third

	// The list itself passed through intact on the way in: the recorder in front of the gateway saw what was smuggled.
	if smuggled := unknownIn(flatten(w.fromNodes.all())); smuggled < 10 {
		t.Fatalf("only %d unknown fields reached the gateway: the test proves nothing", smuggled)
	}
	forwarded := w.forwarded.all()
	if len(forwarded) != 5 {
		t.Fatalf("calls of %d kinds were forwarded, not 5", len(forwarded))
	}
	if smuggled := unknownIn(flatten(forwarded)); smuggled != 0 {
		t.Errorf("%d unknown fields passed", smuggled)
	}
	for method, requests := range forwarded {
		for _, request := range requests {
			text := fmt.Sprint(request)
			for _, never := range []string{"smuggled", "root", "other", "control", "group", "STICKY", workflows.AllocationsQueue, "server_failure_info", "external", "workflow:x"} {
				if strings.Contains(text, never) {
					t.Errorf("%s carried %q: %s", method, never, text)
				}
			}
			if !strings.Contains(text, w.namespace) || !strings.Contains(text, string(n.NodeID())) {
				t.Errorf("%s carries no namespace or identity: %s", method, text)
			}
		}
	}
}

func TestADeniedNodeIsCutOffAtOnce(t *testing.T) {
	w := newWorld(t)
	w.giver()
	n := w.enrolled("gpu-1")
	through := w.dial(n)
	run := w.give(nodeTask{Node: n.NodeID(), Kind: node.GPUHealth, Wait: time.Minute})
	held := w.poll(through, n.NodeID())
	_ = run
	parked := make(chan error, 1)
	go func() {
		_, err := through.WorkflowService().PollActivityTaskQueue(w.ctx(), &workflowservice.PollActivityTaskQueueRequest{
			Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(n.NodeID())},
		})
		parked <- err
	}()
	temporaltest.Eventually(t, patience, func() error {
		if len(w.forwarded.requests(workflowservice.WorkflowService_PollActivityTaskQueue_FullMethodName)) < 2 {
			return errors.New("the poll is not parked yet")
		}
		return nil
	})
	w.deny(n.NodeID())
	denied := time.Now()
	select {
	case err := <-parked:
		if code(err) != codes.PermissionDenied {
			t.Errorf("the parked poll ended with %v", err)
		}
		t.Logf("the parked poll was cut off after %s", time.Since(denied).Round(time.Millisecond))
	case <-time.After(5 * time.Second):
		t.Fatal("a denied node's poll is still parked after 5 s")
	}
	ctx := w.ctx()
	for name, try := range map[string]func() error{
		"complete a task it holds": func() error {
			_, err := through.WorkflowService().RespondActivityTaskCompleted(ctx, &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: held.GetTaskToken()})
			return err
		},
		"poll": func() error {
			_, err := through.WorkflowService().PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(n.NodeID())}})
			return err
		},
		"open a new connection": func() error {
			_, err := n.TemporalClient(ctx, w.namespace)
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.Heartbeat(ctx, gateway.HeartbeatRequest{}); err == nil {
		t.Error("a denied node's heartbeat is taken")
	}
	if err := n.Renew(ctx); err == nil {
		t.Error("a denied node renewed its certificate")
	}
}

func TestAParkedPollBoundAndTheRateBound(t *testing.T) {
	const burst = 5 * defaultPolls
	w := newWorld(t, func(config *Config) { config.RequestsPerSecond, config.Burst = 1, burst })
	n := w.enrolled("gpu-1")
	through := w.dial(n)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 4*defaultPolls)
	for range cap(ended) {
		go func() {
			_, err := through.WorkflowService().PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(n.NodeID())}})
			ended <- err
		}()
	}
	for range cap(ended) - defaultPolls {
		select {
		case err := <-ended:
			if code(err) != codes.ResourceExhausted {
				t.Fatalf("a poll too many ended with %v", err)
			}
		case <-time.After(patience):
			t.Fatal("polls beyond the bound are parked")
		}
	}
	limited := 0
	for range 2 * burst {
		if _, err := n.Heartbeat(w.ctx(), gateway.HeartbeatRequest{}); err != nil {
			limited++
		}
	}
	if limited == 0 {
		t.Error("no request was refused beyond the rate")
	}
}

func flatten(all map[string][]proto.Message) []proto.Message {
	var list []proto.Message
	for _, requests := range all {
		list = append(list, requests...)
	}
	return list
}

// unknownIn counts messages with fields that this build does not know, nested ones too.
func unknownIn(list []proto.Message) int {
	count := 0
	for _, message := range list {
		walk(message.ProtoReflect(), func(m protoreflect.Message) {
			if len(m.GetUnknown()) > 0 {
				count++
			}
		})
	}
	return count
}

func walk(m protoreflect.Message, visit func(protoreflect.Message)) {
	visit(m)
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, one protoreflect.Value) bool { walk(one.Message(), visit); return true })
			}
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				walk(value.List().Get(i).Message(), visit)
			}
		case field.Message() != nil:
			walk(value.Message(), visit)
		}
		return true
	})
}
