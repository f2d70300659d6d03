// Package gateway is the agent's way to the platform: enrolment, a certificate that renews itself, heartbeats,
// inventory, and the Temporal client of this node's own task queue, all over mTLS to one address. It imports
// domain and the Temporal SDK; what the wire looks like is schema/openapi/internal/nodes.yaml.
package gateway

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Paths of the node gateway.
const (
	PathEnrol     = "/internal/v1/enrol"
	PathRenew     = "/internal/v1/renew"
	PathHeartbeat = "/internal/v1/heartbeat"
	PathInventory = "/internal/v1/inventory"
)

// EnrolRequest trades a one-time token and a certificate signing request for an identity.
type EnrolRequest struct {
	Token string `json:"token"`
	// CSR is PEM. It carries a key of the node's own making and no names: the gateway decides the name.
	CSR       string         `json:"csr"`
	Inventory node.Inventory `json:"inventory"`
}

// EnrolResponse is a node's identity and what it needs to begin.
type EnrolResponse struct {
	NodeID id.Node `json:"node_id"`
	// Certificate is PEM, leaf first; Roots are the PEM certificates to trust from now on.
	Certificate string   `json:"certificate"`
	Roots       string   `json:"roots"`
	Settings    Settings `json:"settings"`
}

// RenewRequest asks for a certificate over a new key.
type RenewRequest struct {
	CSR string `json:"csr"`
}

// RenewResponse carries the next certificate, PEM, leaf first, and the roots to trust.
type RenewResponse struct {
	Certificate string `json:"certificate"`
	Roots       string `json:"roots"`
}

// HeartbeatRequest says that the node is alive.
type HeartbeatRequest struct {
	AgentVersion string `json:"agent_version"`
	// RunningTasks counts tasks in progress.
	RunningTasks int `json:"running_tasks"`
	// FreeDiskBytes is what is left where tenants' homes lie.
	FreeDiskBytes int64 `json:"free_disk_bytes"`
}

// HeartbeatResponse answers with the settings in force.
type HeartbeatResponse struct {
	Settings Settings `json:"settings"`
}

// Settings is what the platform tells a node at enrolment and with every heartbeat.
type Settings struct {
	// Namespace and TaskQueue are where the node's tasks are.
	Namespace string `json:"namespace"`
	TaskQueue string `json:"task_queue"`
	// FloorGeneration is the fence: a task of an older generation is refused.
	FloorGeneration          int64 `json:"floor_generation"`
	HeartbeatIntervalSeconds int64 `json:"heartbeat_interval_seconds"`
	// TerminalSessionMaxTTLSeconds bounds a terminal session on the node too.
	TerminalSessionMaxTTLSeconds int64 `json:"terminal_session_max_ttl_seconds"`
	// ServerTime is the platform's clock, for the node's log of drift.
	ServerTime time.Time `json:"server_time"`
}

// HeartbeatInterval is the wait between two heartbeats, never below a second.
func (s Settings) HeartbeatInterval() time.Duration {
	return max(time.Duration(s.HeartbeatIntervalSeconds)*time.Second, time.Second)
}

// Nothing is the body of an answer that says only "done".
type Nothing struct{}
