//go:build integration

package workflows_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// recordVariable names the environment variable that makes these tests write the histories they lived through to
// testdata/histories, where the replay test of every later version of the workflows finds them.
const recordVariable = "GPUAAS_RECORD_HISTORIES"

// served is the world behind real workers on a real Temporal server.
type served struct {
	*world
	client client.Client
	// machine, when set, answers the steps of Node.
	machine *machine
}

// serve starts workers for the queues of the platform and of these nodes; a node left out does not answer.
func serve(t *testing.T, answering ...id.Node) *served {
	t.Helper()
	return serveNode(t, nil, answering...)
}

func serveNode(t *testing.T, record *workflows.NodeRecord, answering ...id.Node) *served {
	t.Helper()
	config := temporaltest.New(t, workflows.SearchAttributes()...)
	dialled, err := client.Dial(client.Options{HostPort: config.Address, Namespace: config.Namespace, Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(dialled.Close)
	s := &served{world: newWorld(t), client: dialled}
	s.now = time.Now
	s.terms.WindowSeconds = 1
	s.policy = workflows.RuntimePolicy{
		MaxNodeAttempts: 3, TaskMaxAttempts: 3, TaskScheduleToStartSeconds: 2, TaskStartToCloseSeconds: 20, TaskBackoffSeconds: 1,
		LoginProbeTimeoutSeconds: 10, ReleaseMaxAttempts: 2, ReleaseScheduleToStartSeconds: 2, ReleaseStartToCloseSeconds: 20,
		ReleaseBackoffInitialSeconds: 1, ReleaseBackoffMaximumSeconds: 1,
	}
	if record != nil {
		s.machine = &machine{world: s.world, record: *record}
	}
	queues := []string{workflows.AllocationsQueue, workflows.ProvisioningQueue}
	for _, nodeID := range answering {
		queues = append(queues, workflows.NodeQueue(nodeID))
	}
	for _, queue := range queues {
		polling := worker.New(dialled, queue, worker.Options{MaxHeartbeatThrottleInterval: 500 * time.Millisecond})
		polling.RegisterWorkflow(workflows.Allocation)
		polling.RegisterWorkflow(workflows.Node)
		polling.RegisterWorkflow(workflows.Suspension)
		s.registry = polling
		s.bindSteps()
		if s.machine != nil {
			s.machine.bindNode()
		}
		require.NoError(t, polling.Start())
		t.Cleanup(polling.Stop)
	}
	return s
}

// admitted starts the allocation as the API does, in one update-with-start.
func (s *served) admitted(ctx context.Context, continueAfter int) workflows.AdmitReply {
	s.t.Helper()
	start := s.client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: workflows.AllocationWorkflowID(theAllocation), TaskQueue: workflows.AllocationsQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}, workflows.Allocation, workflows.AllocationInput{
		AllocationID: theAllocation, AdmitBefore: time.Now().Add(time.Minute), ContinueAfterEvents: continueAfter,
	})
	handle, err := s.client.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: "request-1", UpdateName: workflows.AdmitUpdate, Args: []any{admitRequest()},
			WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	require.NoError(s.t, err)
	var answer workflows.AdmitReply
	require.NoError(s.t, handle.Get(ctx, &answer))
	return answer
}

func (s *served) releaseNow() workflows.ReleaseRequest {
	return workflows.ReleaseRequest{
		AskedAt: time.Now(), Actor: identity.Actor{ID: "user_aaaaaaaaaaaaaaaaaaaaaaaaaa", Role: identity.RoleUser},
		Cause: allocation.CauseTenant, Reason: "done", CorrelationID: "corr-release",
	}
}

func (s *served) signal(ctx context.Context, name string, payload any) {
	s.t.Helper()
	require.NoError(s.t, s.client.SignalWorkflow(ctx, workflows.AllocationWorkflowID(theAllocation), "", name, payload))
}

// reaches waits until the row is in this state and meets the condition.
func (s *served) reaches(state allocation.State, condition func() bool) {
	s.t.Helper()
	temporaltest.Eventually(s.t, time.Minute, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.state != state || !condition() {
			return fmt.Errorf("the allocation is %s after %v", s.state, s.path)
		}
		return nil
	})
}

func anything() bool { return true }

// ended waits for the last run of the chain and checks what must hold of every closed allocation.
func (s *served) ended(ctx context.Context) {
	s.t.Helper()
	var outcome workflows.AllocationOutcome
	require.NoError(s.t, s.client.GetWorkflow(ctx, workflows.AllocationWorkflowID(theAllocation), "").Get(ctx, &outcome))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requireRight(outcome)
}

// record writes the history of a run for the replay test, when asked to.
func (s *served) record(ctx context.Context, workflowID, runID, name string) int {
	s.t.Helper()
	history := &historypb.History{}
	events := s.client.GetWorkflowHistory(ctx, workflowID, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(s.t, err)
		history.Events = append(history.Events, event)
	}
	if os.Getenv(recordVariable) != "" {
		text, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(history)
		require.NoError(s.t, err)
		require.NoError(s.t, os.WriteFile(filepath.Join("testdata", "histories", name+".json"), append(text, '\n'), 0o600))
	}
	return len(history.Events)
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestServerWholeLife(t *testing.T) {
	ctx, s := deadline(t), serve(t, firstNode)
	require.True(t, s.admitted(ctx, 0).Admitted)
	s.reaches(allocation.Active, func() bool { return len(s.usage) >= 3 })
	s.signal(ctx, workflows.ReleaseSignal, s.releaseNow())
	s.ended(ctx)
	require.Equal(t, wholeLife, s.path)
	t.Logf("%d events with %d windows", s.record(ctx, workflows.AllocationWorkflowID(theAllocation), "", "allocation-whole-life"), len(s.usage))
}

func TestServerReplacesANodeThatDoesNotAnswer(t *testing.T) {
	ctx, s := deadline(t), serve(t, secondNode)
	s.admitted(ctx, 0)
	s.reaches(allocation.Active, anything)
	require.True(t, s.leases[0].givenUp)
	s.signal(ctx, workflows.ReleaseSignal, s.releaseNow())
	s.ended(ctx)
	s.record(ctx, workflows.AllocationWorkflowID(theAllocation), "", "allocation-node-replaced")
}

func TestServerReleaseCancelsTheRunningTask(t *testing.T) {
	ctx, s := deadline(t), serve(t, firstNode)
	running, ended := make(chan struct{}), false
	s.before["gpu.health"] = func(ctx context.Context, _ int) error {
		close(running)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				activity.RecordHeartbeat(ctx)
			case <-ctx.Done():
				s.mu.Lock()
				defer s.mu.Unlock()
				ended = true
				return ctx.Err()
			}
		}
	}
	s.before["user.revoke"] = func(context.Context, int) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !ended {
			t.Error("the node is wiped while a task is still at work on it")
		}
		return nil
	}
	s.admitted(ctx, 0)
	<-running
	s.signal(ctx, workflows.ReleaseSignal, s.releaseNow())
	s.ended(ctx)
	require.Nil(t, s.meteredFrom)
	s.record(ctx, workflows.AllocationWorkflowID(theAllocation), "", "allocation-released-while-provisioning")
}

func TestServerReleaseFailedAndAbandoned(t *testing.T) {
	ctx, s := deadline(t), serve(t, firstNode)
	s.before["scrub.verify"] = failing(node.ErrScrubIncomplete)
	s.admitted(ctx, 0)
	s.reaches(allocation.Active, anything)
	s.signal(ctx, workflows.ReleaseSignal, s.releaseNow())
	s.reaches(allocation.ReleaseFailed, anything)
	asked := s.releaseNow()
	s.signal(ctx, workflows.ForceReleaseSignal, workflows.ForceReleaseRequest{
		AskedAt: asked.AskedAt, Actor: asked.Actor, Reason: "the disk is dead", AbandonNode: true, CorrelationID: "corr-force",
	})
	s.ended(ctx)
	require.False(t, s.row.Certificate.Wiped)
	s.record(ctx, workflows.AllocationWorkflowID(theAllocation), "", "allocation-abandoned")
}

func TestServerContinuesAsNewUnderAStreamOfSignalsAndUpdates(t *testing.T) {
	const bursts = 150
	ctx, s := deadline(t), serve(t, firstNode)
	s.policy.ReleaseMaxAttempts = 1_000_000
	s.before["scrub.verify"] = failing(node.ErrScrubIncomplete)
	s.admitted(ctx, 90)
	s.reaches(allocation.Active, anything)
	s.signal(ctx, workflows.ReleaseSignal, s.releaseNow())
	answers := make(chan error, bursts/5)
	sent := 1
	for i := range bursts {
		asked := s.releaseNow()
		s.signal(ctx, workflows.ReleaseSignal, asked)
		s.signal(ctx, workflows.ForceReleaseSignal, workflows.ForceReleaseRequest{
			AskedAt: asked.AskedAt, Actor: asked.Actor, Reason: "again", CorrelationID: "corr-force",
		})
		sent += 2
		if i%5 == 0 {
			go func() { answers <- s.admitAgain(ctx, fmt.Sprintf("again-%d", i)) }()
		}
	}
	for range cap(answers) {
		require.NoError(t, <-answers, "every update was answered")
	}
	s.mu.Lock()
	s.before["scrub.verify"] = nil
	s.mu.Unlock()
	s.ended(ctx)
	require.Equal(t, sent, s.explained(ctx).ReleaseAsks, "signals heard against signals sent")
	described, err := s.client.DescribeWorkflowExecution(ctx, workflows.AllocationWorkflowID(theAllocation), "")
	require.NoError(t, err)
	info := described.WorkflowExecutionInfo
	require.NotEqual(t, info.FirstRunId, info.Execution.RunId, "it did continue as new")
	s.record(ctx, workflows.AllocationWorkflowID(theAllocation), info.FirstRunId, "allocation-continued")
	s.record(ctx, workflows.AllocationWorkflowID(theAllocation), "", "allocation-continued-last")
}

func TestServerSuspensionIsToldAndEnds(t *testing.T) {
	ctx, s := deadline(t), serve(t, firstNode)
	s.admitted(ctx, 0)
	s.reaches(allocation.Active, func() bool { return len(s.usage) >= 2 })
	subject := workflows.Subject{TenantID: someTenant}
	change := func(update string) {
		start := s.client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: workflows.SuspensionWorkflowID(subject), TaskQueue: workflows.AllocationsQueue,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, workflows.Suspension, workflows.SuspensionInput{Subject: subject})
		handle, err := s.client.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: start,
			UpdateOptions: client.UpdateWorkflowOptions{
				UpdateID: update, UpdateName: update, WaitForStage: client.WorkflowUpdateStageCompleted,
				Args: []any{workflows.StandingChange{
					Subject: subject, Actor: identity.Actor{ID: "user_operator", Role: identity.RoleAdmin}, Reason: "unpaid", RequestID: update, CorrelationID: "corr",
				}},
			},
		})
		require.NoError(t, err)
		var reply workflows.StandingReply
		require.NoError(t, handle.Get(ctx, &reply))
		require.Equal(t, update == workflows.SuspendUpdate, reply.Suspended)
	}
	change(workflows.SuspendUpdate)
	s.reaches(allocation.Active, func() bool { return s.locked["gpu7"] })
	change(workflows.RestoreUpdate)
	s.reaches(allocation.Active, func() bool { return len(s.suspensions) == 1 && !s.locked["gpu7"] && s.suspendedAt == nil })
	require.NoError(t, s.client.GetWorkflow(ctx, workflows.SuspensionWorkflowID(subject), "").Get(ctx, nil))
	s.signal(ctx, workflows.ReleaseSignal, s.releaseNow())
	s.ended(ctx)
	s.record(ctx, workflows.AllocationWorkflowID(theAllocation), "", "allocation-suspended")
	s.record(ctx, workflows.SuspensionWorkflowID(subject), "", "suspension-told-and-ended")
}

func TestServerNodeIsReclaimedAndDrained(t *testing.T) {
	ctx, s := deadline(t), serveNode(t, &workflows.NodeRecord{
		Version: 1, Reachability: node.Online, Scheduling: node.Quarantined, Lease: &held, GivenUp: true,
	}, firstNode)
	m := s.machine
	nodeWorkflow := workflows.NodeWorkflowID(firstNode)
	_, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: nodeWorkflow, TaskQueue: workflows.ProvisioningQueue}, workflows.Node,
		workflows.NodeInput{NodeID: firstNode, SKU: "h100-8x"})
	require.NoError(t, err)
	send := func(name string, payload any) {
		require.NoError(t, s.client.SignalWorkflow(ctx, nodeWorkflow, "", name, payload))
	}
	is := func(scheduling node.Scheduling) {
		temporaltest.Eventually(t, time.Minute, func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if m.record.Scheduling != scheduling {
				return fmt.Errorf("the node is %s", m.record.Scheduling)
			}
			return nil
		})
	}
	send(workflows.NodeReclaimSignal, workflows.NodeReclaim{Lease: held, Reason: "did not answer", CorrelationID: "corr"})
	is(node.Open)
	send(workflows.NodeOperateSignal, workflows.NodeOperation{Verb: workflows.VerbDrain, Reason: "maintenance", CorrelationID: "corr"})
	is(node.Cordoned)
	send(workflows.NodeReachabilitySignal, workflows.NodeEdge{Reachability: node.Offline, SeenAt: time.Now()})
	temporaltest.Eventually(t, time.Minute, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if m.record.Reachability != node.Offline {
			return fmt.Errorf("the node is %s", m.record.Reachability)
		}
		return nil
	})
	require.NoError(t, s.client.CancelWorkflow(ctx, nodeWorkflow, ""))
	require.Error(t, s.client.GetWorkflow(ctx, nodeWorkflow, "").Get(ctx, nil))
	s.record(ctx, nodeWorkflow, "", "node-reclaimed-and-drained")
}

// admitAgain sends the request once more and expects the stored answer.
func (s *served) admitAgain(ctx context.Context, updateID string) error {
	handle, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: workflows.AllocationWorkflowID(theAllocation), UpdateID: updateID, UpdateName: workflows.AdmitUpdate,
		Args: []any{admitRequest()}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	var answer workflows.AdmitReply
	if err := handle.Get(ctx, &answer); err != nil {
		return err
	}
	if !answer.Replayed {
		return fmt.Errorf("%s was not answered from the store", updateID)
	}
	return nil
}

func (s *served) explained(ctx context.Context) workflows.Explanation {
	s.t.Helper()
	value, err := s.client.QueryWorkflow(ctx, workflows.AllocationWorkflowID(theAllocation), "", workflows.ExplainQuery)
	require.NoError(s.t, err)
	var explanation workflows.Explanation
	require.NoError(s.t, value.Get(&explanation))
	return explanation
}
