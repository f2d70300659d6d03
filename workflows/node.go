package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
)

// The input, id, signals, query and steps of Node are in node_contract.go; its states are in domain/node.

// NodeState is everything a run hands to the next one.
type NodeState struct {
	// Version, Reachability, Scheduling and Lease are what Postgres said last.
	Version      int64             `json:"version"`
	Reachability node.Reachability `json:"reachability"`
	Scheduling   node.Scheduling   `json:"scheduling"`
	Lease        *node.Lease       `json:"lease,omitempty"`
	// Ordered is the operators' word. Custody and Distrusted quarantine the node whatever it says, and when they end it
	// holds again.
	Ordered    node.Scheduling `json:"ordered"`
	Custody    *NodeReclaim    `json:"custody,omitempty"`
	Distrusted bool            `json:"distrusted"`
	// Attempts numbers the scrubs of the lease in custody; LastEdge orders edges that gateways saw at the same time.
	Attempts  int       `json:"attempts"`
	LastEdge  time.Time `json:"last_edge"`
	LastError string    `json:"last_error,omitempty"`
}

// nodeRun is one run of the workflow. Only its main coroutine writes; the coroutine that scrubs reports to it.
type nodeRun struct {
	NodeState
	input     NodeInput
	edges     workflow.ReceiveChannel
	orders    workflow.ReceiveChannel
	reclaims  workflow.ReceiveChannel
	departure workflow.ReceiveChannel
	scrubbing bool
	scrubbed  *scrubbed
	now       doing
}

// scrubbed is the proof that nothing of a lease is left.
type scrubbed struct {
	lease    node.Lease
	evidence node.ScrubVerifyOut
}

// Node is one machine of the fleet from enrolment to retirement: whether it can be reached, what operators say of it,
// and the scrubbing of what an allocation left behind. Retirement is a cancellation.
func Node(root workflow.Context, input NodeInput) error {
	ctx, _ := workflow.NewDisconnectedContext(root)
	n := &nodeRun{
		input:     input,
		edges:     workflow.GetSignalChannel(ctx, NodeReachabilitySignal),
		orders:    workflow.GetSignalChannel(ctx, NodeOperateSignal),
		reclaims:  workflow.GetSignalChannel(ctx, NodeReclaimSignal),
		departure: workflow.GetSignalChannel(ctx, NodeLeaseClosedSignal),
	}
	explain := func() (NodeExplanation, error) { return n.explain(), nil }
	if err := workflow.SetQueryHandlerWithOptions(ctx, NodeExplainQuery, explain, workflow.QueryHandlerOptions{
		Description: "What is going on right now with this node.",
	}); err != nil {
		return err
	}
	if input.Carried != nil {
		n.NodeState = *input.Carried
	} else {
		n.meet(ctx)
	}
	workflow.Go(ctx, n.scrubForEver)
	return n.run(ctx, root)
}

func (n *nodeRun) run(ctx, root workflow.Context) error {
	for {
		n.serve(ctx)
		// Nothing yields between the last look at the signals and the end of the run.
		if root.Err() != nil {
			return root.Err()
		}
		if historyIsLong(ctx, n.input.ContinueAfterEvents) && !n.scrubbing {
			next := n.input
			next.Carried = &n.NodeState
			return workflow.NewContinueAsNewError(ctx, NodeType, next)
		}
		if n.Custody == nil {
			n.now = doing{sentence: "waits for an edge, an order or a lease given up"}
		}
		await(ctx, func() bool {
			return n.pending() || root.Err() != nil || (historyIsLong(ctx, n.input.ContinueAfterEvents) && !n.scrubbing)
		})
	}
}

// meet reads what Postgres knows of the node when its workflow starts.
func (n *nodeRun) meet(ctx workflow.Context) {
	record := insist(ctx, n, StepNodeRecord, "Read the node", n.input.NodeID)
	n.Ordered = record.Scheduling
	if record.GivenUp && record.Scheduling == node.Quarantined {
		// The quarantine is the given-up lease's; without it the node would be open.
		n.Ordered = node.Open
	}
	n.adopt(record)
	n.show(ctx)
}

// adopt takes over what Postgres says. A denial written there holds at once; a lease found given up, of which no
// message told, waits for an operator's word.
func (n *nodeRun) adopt(record NodeRecord) {
	if record.Scheduling == node.Denied && n.Scheduling != node.Denied {
		n.Ordered = node.Denied
	}
	n.Version, n.Scheduling, n.Lease = record.Version, record.Scheduling, record.Lease
	if n.Reachability == "" {
		n.Reachability = record.Reachability
	}
	switch {
	case n.Custody != nil && (record.Lease == nil || *record.Lease != n.Custody.Lease):
		n.Custody = nil
	case n.Custody == nil && record.GivenUp && record.Lease != nil:
		n.Custody = &NodeReclaim{Lease: *record.Lease, Reason: "found given up", Abandoned: true, Found: true}
	}
}

func (n *nodeRun) pending() bool {
	return n.edges.Len() > 0 || n.orders.Len() > 0 || n.reclaims.Len() > 0 || n.departure.Len() > 0 || n.scrubbed != nil
}

// serve answers everything that has arrived, operators first.
func (n *nodeRun) serve(ctx workflow.Context) {
	for n.pending() {
		var order NodeOperation
		var edge NodeEdge
		var reclaim NodeReclaim
		var lease node.Lease
		switch {
		case n.orders.ReceiveAsync(&order):
			n.obey(ctx, order)
		case n.reclaims.ReceiveAsync(&reclaim):
			n.takeCustody(ctx, reclaim)
		case n.departure.ReceiveAsync(&lease):
			n.tenantLeft(ctx)
		case n.edges.ReceiveAsync(&edge):
			n.noticeEdge(ctx, edge)
		case n.scrubbed != nil:
			n.endCustody(ctx)
		}
	}
}

// noticeEdge writes a change of reachability. Gateways see edges independently, so an older one may arrive later.
func (n *nodeRun) noticeEdge(ctx workflow.Context, edge NodeEdge) {
	if edge.SeenAt.Before(n.LastEdge) {
		return
	}
	n.LastEdge = edge.SeenAt
	if edge.Reachability == n.Reachability {
		return
	}
	n.refresh(ctx)
	n.Reachability = edge.Reachability
	n.write(ctx, NodeTransition{
		Action: "node." + string(edge.Reachability), Reason: "heartbeats say so",
		Actor: identity.Actor{ID: string(n.input.NodeID), Role: identity.RoleNode},
	})
}

// tenantLeft makes a draining node cordoned once nobody holds it.
func (n *nodeRun) tenantLeft(ctx workflow.Context) {
	if n.Ordered != node.Draining && n.Custody == nil {
		return
	}
	n.refresh(ctx)
	if n.Lease != nil {
		return
	}
	if n.Ordered == node.Draining {
		n.Ordered = node.Cordoned
	}
	if n.effective() != n.Scheduling {
		n.write(ctx, NodeTransition{Action: "node.drained", Reason: "its tenant has left"})
	}
}

// effective is what the node is, given the operators' word and what is left on it.
func (n *nodeRun) effective() node.Scheduling {
	if n.Ordered != node.Denied && (n.Custody != nil || n.Distrusted) {
		return node.Quarantined
	}
	return n.Ordered
}

// refresh reads the row again, because activities of allocations write it too.
func (n *nodeRun) refresh(ctx workflow.Context) {
	n.adopt(insist(ctx, n, StepNodeRecord, "Read the node", n.input.NodeID))
}

// write brings Postgres to what the node now is. A version conflict means that somebody else wrote: read and try again.
func (n *nodeRun) write(ctx workflow.Context, change NodeTransition) {
	if change.Actor == (identity.Actor{}) {
		change.Actor = identity.Platform()
	}
	change.NodeID = n.input.NodeID
	for {
		change.Version, change.Reachability, change.Scheduling = n.Version, n.Reachability, n.effective()
		done, err := StepNodeTransition.Run(ctx, change.Action+": "+node.State(n.Reachability, n.effective()), change)
		if err == nil {
			n.Version, n.Scheduling, n.Lease = done.Version, change.Scheduling, done.Lease
			n.show(ctx)
			return
		}
		n.trouble(ctx, StepNodeTransition.Name, err)
		n.waitFor(ctx, "Wait to write the node again", insistInitial, never)
		n.refresh(ctx)
	}
}
