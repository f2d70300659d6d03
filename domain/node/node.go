// Package node says what a machine of the fleet is: whether it can be reached, whether it may be handed
// out, who has custody of it, and the typed tasks it runs. The agent, the workflows and the activities
// share these contracts; the package imports the standard library and domain/id only.
package node

import (
	"slices"

	"github.com/gpuaas/gpuaas/domain/id"
)

// Reachability is what the heartbeats say; it changes by edges, not by beats.
type Reachability string

const (
	// Enrolled is a node whose agent has a certificate and has not sent a heartbeat yet.
	Enrolled Reachability = "enrolled"
	Online   Reachability = "online"
	Offline  Reachability = "offline"
)

// Scheduling is what operators, and trouble, say about handing the node out.
type Scheduling string

const (
	// Open nodes may be claimed.
	Open Scheduling = "open"
	// Cordoned nodes keep their tenant and take no new one.
	Cordoned Scheduling = "cordoned"
	// Draining nodes are cordoned and wait for their tenant to leave; then they are cordoned.
	Draining Scheduling = "draining"
	// Quarantined nodes hold something that was not wiped, or that an operator distrusts.
	Quarantined Scheduling = "quarantined"
	// Denied nodes are cut off from the gateway although their certificate is valid.
	Denied Scheduling = "denied"
)

// Reachabilities and Schedulings list every value, for the SQL checks and the contract.
func Reachabilities() []Reachability { return []Reachability{Enrolled, Online, Offline} }

// Schedulings lists every scheduling value.
func Schedulings() []Scheduling { return []Scheduling{Open, Cordoned, Draining, Quarantined, Denied} }

// Valid says whether s is a known value.
func (s Scheduling) Valid() bool { return slices.Contains(Schedulings(), s) }

// State is the one word shown for a node: the strongest thing to know about it.
func State(reachability Reachability, scheduling Scheduling) string {
	if scheduling == Denied || scheduling == Quarantined {
		return string(scheduling)
	}
	if reachability != Online {
		return string(reachability)
	}
	if scheduling == Open {
		return string(Online)
	}
	return string(scheduling)
}

// Lease is one claim of a node by an allocation. The generation rises with every claim of the node
// and is the fence: a task of an older generation is refused.
type Lease struct {
	NodeID       id.Node       `json:"node_id"`
	AllocationID id.Allocation `json:"allocation_id"`
	Generation   int64         `json:"generation"`
}
