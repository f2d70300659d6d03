package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

// machine is the row of one node, with its lease and the audit rows of its changes.
type machine struct {
	*world
	record  workflows.NodeRecord
	written []workflows.NodeTransition
	closed  []workflows.CloseNodeLeaseIn
}

func newMachine(t *testing.T) *machine {
	m := &machine{world: newWorld(t), record: workflows.NodeRecord{Version: 1, Reachability: node.Online, Scheduling: node.Open}}
	m.bindNode()
	return m
}

func (m *machine) bindNode() {
	bind(m.world, workflows.StepNodeRecord, func(id.Node) (workflows.NodeRecord, error) { return m.record, nil })
	bind(m.world, workflows.StepNodeTransition, func(in workflows.NodeTransition) (workflows.NodeTransitionDone, error) {
		if in.Version != m.record.Version {
			return workflows.NodeTransitionDone{}, temporal.NewNonRetryableApplicationError("moved", string(fault.NodeStateConflict), nil)
		}
		m.record.Version++
		m.record.Reachability, m.record.Scheduling = in.Reachability, in.Scheduling
		m.written = append(m.written, in)
		return workflows.NodeTransitionDone{Version: m.record.Version, Lease: m.record.Lease}, nil
	})
	bind(m.world, workflows.StepCloseNodeLease, func(in workflows.CloseNodeLeaseIn) (workflows.Nothing, error) {
		require.NotNil(m.t, m.record.Lease)
		require.Equal(m.t, *m.record.Lease, in.Lease)
		m.record.Lease, m.record.GivenUp = nil, false
		m.record.Version++
		m.closed = append(m.closed, in)
		return workflows.Nothing{}, nil
	})
}

func (m *machine) at(delay time.Duration, do func()) { m.env.RegisterDelayedCallback(do, delay) }

func (m *machine) order(verb string, closeLease bool) {
	m.env.SignalWorkflow(workflows.NodeOperateSignal, workflows.NodeOperation{
		Verb: verb, CloseLease: closeLease, Reason: "because", CorrelationID: "corr",
		Actor: identity.Actor{ID: "user_bbbbbbbbbbbbbbbbbbbbbbbbbb", Role: identity.RoleAdmin},
	})
}

func (m *machine) edge(reachability node.Reachability, seen time.Time) {
	m.env.SignalWorkflow(workflows.NodeReachabilitySignal, workflows.NodeEdge{Reachability: reachability, SeenAt: seen})
}

// giveUp is what the allocation's step and its signal do.
func (m *machine) giveUp(lease node.Lease, abandoned, distrusted bool) {
	m.mu.Lock()
	m.record.Lease, m.record.GivenUp, m.record.Scheduling = &lease, true, node.Quarantined
	m.record.Version++
	m.host(lease.NodeID)[node.Username(lease)] = true
	m.mu.Unlock()
	m.env.SignalWorkflow(workflows.NodeReclaimSignal, workflows.NodeReclaim{
		Lease: lease, Reason: "did not answer", Abandoned: abandoned, Distrusted: distrusted, CorrelationID: "corr",
	})
}

// live runs the node until it is retired, and answers what its row says then.
func (m *machine) live(until time.Duration) workflows.NodeRecord {
	m.t.Helper()
	m.at(until, func() { m.env.CancelWorkflow() })
	m.env.ExecuteWorkflow(workflows.Node, workflows.NodeInput{NodeID: firstNode, SKU: "h100-8x"})
	require.True(m.t, m.env.IsWorkflowCompleted())
	var cancelled *temporal.CanceledError
	require.ErrorAs(m.t, m.env.GetWorkflowError(), &cancelled)
	return m.record
}

var held = node.Lease{NodeID: firstNode, AllocationID: theAllocation, Generation: 7}

func TestNodeGoesOfflineAndComesBack(t *testing.T) {
	m := newMachine(t)
	m.at(time.Minute, func() { m.edge(node.Offline, start.Add(time.Minute)) })
	m.at(2*time.Minute, func() { m.edge(node.Online, start.Add(2*time.Minute)) })
	m.at(3*time.Minute, func() { m.edge(node.Offline, start.Add(90*time.Second)) })
	record := m.live(time.Hour)
	require.Equal(t, node.Online, record.Reachability, "an edge that was seen earlier does not undo a later one")
	require.Len(t, m.written, 2)
	require.Equal(t, identity.RoleNode, m.written[0].Actor.Role)
}

func TestDrainingNodeIsCordonedWhenItsTenantLeaves(t *testing.T) {
	m := newMachine(t)
	m.record.Lease = &held
	m.at(time.Minute, func() { m.order(workflows.VerbDrain, false) })
	m.at(2*time.Minute, func() {
		require.Equal(t, node.Draining, m.record.Scheduling)
		m.record.Lease = nil
		m.env.SignalWorkflow(workflows.NodeLeaseClosedSignal, held)
	})
	require.Equal(t, node.Cordoned, m.live(time.Hour).Scheduling)
}

func TestReclaimedNodeIsScrubbedAndOpenAgain(t *testing.T) {
	m := newMachine(t)
	m.before["scrub.verify"] = failingOnce(node.ErrScrubIncomplete)
	m.at(time.Minute, func() { m.giveUp(held, false, false) })
	record := m.live(time.Hour)
	require.Equal(t, node.Open, record.Scheduling)
	require.Len(t, m.closed, 1)
	require.Equal(t, "scrub_verify", m.closed[0].By)
	require.Equal(t, 2, m.count("scrub.verify"))
	require.Empty(t, m.host(firstNode))
}

func TestReclaimWaitsUntilTheNodeIsOnline(t *testing.T) {
	m := newMachine(t)
	m.record.Reachability = node.Offline
	m.at(time.Minute, func() { m.giveUp(held, false, false) })
	m.at(time.Hour, func() {
		require.Zero(t, m.count("user.revoke"))
		m.edge(node.Online, start.Add(time.Hour))
	})
	require.Equal(t, node.Open, m.live(2*time.Hour).Scheduling)
}

func TestOrderGivenDuringReclaimHoldsAfterIt(t *testing.T) {
	for verb, want := range map[string]node.Scheduling{
		workflows.VerbCordon: node.Cordoned, workflows.VerbDrain: node.Cordoned,
		workflows.VerbQuarantine: node.Quarantined, workflows.VerbDeny: node.Denied,
	} {
		t.Run(verb, func(t *testing.T) {
			m := newMachine(t)
			m.record.Reachability = node.Offline
			m.at(time.Minute, func() { m.giveUp(held, false, false) })
			m.at(2*time.Minute, func() { m.order(verb, false) })
			m.at(3*time.Minute, func() { m.edge(node.Online, start.Add(3*time.Minute)) })
			record := m.live(time.Hour)
			require.Equal(t, want, record.Scheduling)
			require.Equal(t, verb == workflows.VerbDeny, record.Lease != nil, "a denied node cannot be scrubbed")
		})
	}
}

func TestUnhealthyMachineStaysQuarantinedAfterItsScrub(t *testing.T) {
	m := newMachine(t)
	m.at(time.Minute, func() { m.giveUp(held, false, true) })
	m.at(time.Hour, func() {
		require.Nil(t, m.record.Lease)
		require.Equal(t, node.Quarantined, m.record.Scheduling)
		m.order(workflows.VerbUnquarantine, false)
	})
	require.Equal(t, node.Open, m.live(2*time.Hour).Scheduling)
}

// A recalled allocation tells of what it gave up once more, and knows less of it than the run that was lost.
func TestAReclaimThatIsToldAgainTakesNothingBack(t *testing.T) {
	m := newMachine(t)
	again := func() {
		m.env.SignalWorkflow(workflows.NodeReclaimSignal, workflows.NodeReclaim{Lease: held, Reason: "its allocation gave it up", Again: true, CorrelationID: "corr"})
	}
	m.record.Reachability = node.Offline
	m.at(time.Minute, func() { m.giveUp(held, false, true) })
	m.at(2*time.Minute, again)
	m.at(3*time.Minute, func() { m.edge(node.Online, start.Add(3*time.Minute)) })
	m.at(time.Hour, again) // the lease is closed
	require.Equal(t, node.Quarantined, m.live(2*time.Hour).Scheduling, "the machine was at fault")
	require.Len(t, m.closed, 1)
}

// Where the first message was lost, the second has the node scrubbed.
func TestAReclaimThatIsToldOnlyAgainIsServed(t *testing.T) {
	m := newMachine(t)
	m.at(time.Minute, func() {
		m.mu.Lock()
		m.record.Lease, m.record.GivenUp, m.record.Scheduling = &held, true, node.Quarantined
		m.record.Version++
		m.host(held.NodeID)[node.Username(held)] = true
		m.mu.Unlock()
		m.env.SignalWorkflow(workflows.NodeReclaimSignal, workflows.NodeReclaim{Lease: held, Reason: "its allocation gave it up", Again: true, CorrelationID: "corr"})
	})
	require.Equal(t, node.Open, m.live(time.Hour).Scheduling)
	require.Len(t, m.closed, 1)
}

func TestAbandonedLeaseWaitsForTheExplicitWord(t *testing.T) {
	m := newMachine(t)
	m.at(time.Minute, func() { m.giveUp(held, true, false) })
	m.at(2*time.Minute, func() { m.order(workflows.VerbUnquarantine, false) })
	m.at(time.Hour, func() {
		require.Equal(t, node.Quarantined, m.record.Scheduling)
		require.Equal(t, held, *m.record.Lease)
		require.Zero(t, m.count("scrub.run"))
		require.Contains(t, m.written[0].Reason, "without effect")
		m.order(workflows.VerbUnquarantine, true)
	})
	require.Equal(t, node.Open, m.live(2*time.Hour).Scheduling)
	require.Equal(t, "operator", m.closed[0].By)
}

func TestCloseLeaseIsRefusedWhileATenantHoldsTheNode(t *testing.T) {
	m := newMachine(t)
	m.record.Lease, m.record.Scheduling = &held, node.Quarantined
	m.at(time.Minute, func() { m.order(workflows.VerbUnquarantine, true) })
	record := m.live(time.Hour)
	require.Equal(t, held, *record.Lease)
	require.Equal(t, node.Quarantined, record.Scheduling)
	require.Empty(t, m.closed)
}

func TestNodeWritesAgainWhenItsRowMoved(t *testing.T) {
	m := newMachine(t)
	m.before["node.transition"] = func(_ context.Context, call int) error {
		if call == 1 {
			m.mu.Lock()
			m.record.Version += 3
			m.mu.Unlock()
		}
		return nil
	}
	m.at(time.Minute, func() { m.order(workflows.VerbCordon, false) })
	require.Equal(t, node.Cordoned, m.live(time.Hour).Scheduling)
	require.Equal(t, 2, m.count("node.transition"))
}

func TestNodeContinuesAsNewAndKeepsItsCustody(t *testing.T) {
	m := newMachine(t)
	m.record.Reachability = node.Offline
	m.at(time.Minute, func() { m.giveUp(held, false, true) })
	m.at(2*time.Minute, func() { m.order(workflows.VerbCordon, false) })
	m.at(3*time.Minute, func() { m.env.SetContinueAsNewSuggested(true) })
	m.env.ExecuteWorkflow(workflows.Node, workflows.NodeInput{NodeID: firstNode, SKU: "h100-8x"})
	var again *workflow.ContinueAsNewError
	require.True(t, errors.As(m.env.GetWorkflowError(), &again))
	var next workflows.NodeInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Equal(t, node.Cordoned, next.Carried.Ordered)
	require.Equal(t, held, next.Carried.Custody.Lease)

	m.newRun()
	m.bindNode()
	m.at(time.Minute, func() { m.edge(node.Online, m.env.Now()) })
	m.at(time.Hour, func() { m.env.CancelWorkflow() })
	m.env.ExecuteWorkflow(workflows.Node, next)
	require.Nil(t, m.record.Lease)
	require.Equal(t, node.Quarantined, m.record.Scheduling)
}
