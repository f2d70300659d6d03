package workflows

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
)

// NodeType is the registered name of the Node workflow, from enrolment to retirement (queue: provisioning).
const NodeType = "Node"

// NodeWorkflowID is the workflow id of a node.
func NodeWorkflowID(nodeID id.Node) string { return "node/" + string(nodeID) }

// NodeInput starts, or continues, a node's workflow.
type NodeInput struct {
	NodeID id.Node `json:"node_id"`
	SKU    id.SKU  `json:"sku"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int        `json:"continue_after_events,omitempty"`
	Carried             *NodeState `json:"carried,omitempty"`
}

// Signals and queries of Node.
const (
	// NodeReachabilitySignal takes NodeEdge: heartbeats began or ended. Only edges are signals.
	NodeReachabilitySignal = "reachability"
	// NodeOperateSignal takes NodeOperation: an operator's word.
	NodeOperateSignal = "operate"
	// NodeReclaimSignal takes NodeReclaim: an allocation gave the node up; scrub it and close the lease.
	NodeReclaimSignal = "reclaim"
	// NodeLeaseClosedSignal takes node.Lease: the tenant has left, so a draining node becomes cordoned.
	NodeLeaseClosedSignal = "lease_closed"
	// NodeExplainQuery answers NodeExplanation.
	NodeExplainQuery = "explain"
)

// NodeEdge is a change of reachability as the gateway saw it.
type NodeEdge struct {
	Reachability node.Reachability `json:"reachability"`
	SeenAt       time.Time         `json:"seen_at"`
}

// NodeOperation is an operator's word: cordon, uncordon, drain, quarantine, unquarantine, deny. CloseLease, with
// unquarantine alone, is the explicit word that closes an abandoned lease.
type NodeOperation struct {
	Verb          string         `json:"verb"`
	Actor         identity.Actor `json:"actor"`
	Reason        string         `json:"reason"`
	CloseLease    bool           `json:"close_lease"`
	CorrelationID string         `json:"correlation_id"`
	RequestID     string         `json:"request_id,omitempty"` // names the order in the audit log
}

// Verbs of NodeOperation.
const (
	VerbCordon       = "cordon"
	VerbUncordon     = "uncordon"
	VerbDrain        = "drain"
	VerbQuarantine   = "quarantine"
	VerbUnquarantine = "unquarantine"
	VerbDeny         = "deny"
)

// NodeReclaim is a lease whose node must be scrubbed before anybody gets it.
type NodeReclaim struct {
	Lease     node.Lease `json:"lease"`
	Reason    string     `json:"reason"`
	Abandoned bool       `json:"abandoned"`
	// Distrusted says that the machine itself is at fault: once scrubbed it stays quarantined until an operator's word.
	Distrusted bool `json:"distrusted"`
	// Again says that the message may have been sent before, by a run that was lost: what is known of the lease stays known.
	Again bool `json:"again,omitempty"`
	// Found says that no message told of it: the node's own workflow found the lease given up.
	Found         bool   `json:"found,omitempty"`
	CorrelationID string `json:"correlation_id"`
}

// NodeExplanation is what is going on in one node's workflow.
type NodeExplanation struct {
	Reachability node.Reachability `json:"reachability"`
	Scheduling   node.Scheduling   `json:"scheduling"`
	Doing        string            `json:"doing"`
	NextDeadline *time.Time        `json:"next_deadline,omitempty"`
	Reclaiming   []node.Lease      `json:"reclaiming,omitempty"`
	LastError    string            `json:"last_error,omitempty"`
}

// NodeTransition writes a node's reachability or scheduling, with its audit row (compare-and-set on the version).
type NodeTransition struct {
	NodeID        id.Node           `json:"node_id"`
	Version       int64             `json:"version"`
	Reachability  node.Reachability `json:"reachability"`
	Scheduling    node.Scheduling   `json:"scheduling"`
	Reason        string            `json:"reason"`
	Actor         identity.Actor    `json:"actor"`
	Action        string            `json:"action"`
	CorrelationID string            `json:"correlation_id"`
	RequestID     string            `json:"request_id,omitempty"`
}

// NodeTransitionDone carries the version after the write and the lease that is open, if any.
type NodeTransitionDone struct {
	Version int64       `json:"version"`
	Lease   *node.Lease `json:"lease,omitempty"`
}

// NodeRecord is what Postgres knows of the node when its workflow starts.
type NodeRecord struct {
	Version      int64             `json:"version"`
	Reachability node.Reachability `json:"reachability"`
	Scheduling   node.Scheduling   `json:"scheduling"`
	Lease        *node.Lease       `json:"lease,omitempty"`
	// GivenUp says that the open lease was given up: a Node workflow that starts anew finds its unfinished reclaim.
	GivenUp bool `json:"given_up"`
}

// CloseNodeLeaseIn closes a lease from the Node workflow: on evidence, or on an operator's word.
type CloseNodeLeaseIn struct {
	Lease         node.Lease          `json:"lease"`
	Evidence      node.ScrubVerifyOut `json:"evidence"`
	By            string              `json:"by"` // "scrub_verify" or "operator"
	Actor         identity.Actor      `json:"actor"`
	CorrelationID string              `json:"correlation_id"`
}

// Steps of Node (queue: allocations, where the database is).
var (
	StepNodeRecord     = Step[id.Node, NodeRecord]{Name: "node.record", Queue: AllocationsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
	StepNodeTransition = Step[NodeTransition, NodeTransitionDone]{Name: "node.transition", Queue: AllocationsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
	StepCloseNodeLease = Step[CloseNodeLeaseIn, Nothing]{Name: "node.close_lease", Queue: AllocationsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
)
