package queries

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Node is one row of the fleet. ClaimedBy and Generation are the claim in force.
type Node struct {
	ID           id.Node
	SKU          id.SKU `db:"sku_id"`
	Hostname     string
	Reachability node.Reachability
	Scheduling   node.Scheduling
	Reason       string
	ClaimedBy    *id.Allocation
	Generation   int64
	Version      int64
	Inventory    json.RawMessage
	SSHHost      string `db:"ssh_host"`
	SSHPort      int    `db:"ssh_port"`
	SSHHostKey   string `db:"ssh_host_key"`
	EnrolledAt   time.Time
	UpdatedAt    time.Time
}

// Lease is the claim in force on the node, nil when nobody holds it.
func (n Node) Lease() *node.Lease {
	if n.ClaimedBy == nil {
		return nil
	}
	return &node.Lease{NodeID: n.ID, AllocationID: *n.ClaimedBy, Generation: n.Generation}
}

// Lease is one row of custody: open until ClosedAt.
type Lease struct {
	NodeID       id.Node
	Generation   int64
	AllocationID id.Allocation
	// Ordinal counts the claims of one allocation from 1.
	Ordinal   int
	ClaimedAt time.Time
	GivenUpAt *time.Time
	ClosedAt  *time.Time
	ClosedBy  *string
	Evidence  json.RawMessage
}

// Key is the lease as the workflows and the node know it.
func (l Lease) Key() node.Lease {
	return node.Lease{NodeID: l.NodeID, AllocationID: l.AllocationID, Generation: l.Generation}
}

// ClaimNode claims a free, online, open node of the SKU other than the excepted ones, raises its generation and opens
// the lease; nil when every such node is taken. It first skips nodes that another transaction has locked, and waits for
// them only when nothing else is free: so claims do not queue behind each other, and "none" is true when it is said.
func ClaimNode(ctx context.Context, db DB, sku id.SKU, allocationID id.Allocation, ordinal int, except []id.Node) (*node.Lease, error) {
	excluded := make([]string, 0, len(except))
	for _, one := range except {
		excluded = append(excluded, string(one))
	}
	for _, name := range []string{"NodeClaim", "NodeClaimWaiting"} {
		claimed, err := many[struct {
			NodeID     id.Node
			Generation int64
		}](ctx, db, name, pgx.NamedArgs{"sku_id": sku, "allocation_id": allocationID, "ordinal": ordinal, "except": excluded})
		if err != nil {
			return nil, err
		}
		if len(claimed) == 1 {
			return &node.Lease{NodeID: claimed[0].NodeID, AllocationID: allocationID, Generation: claimed[0].Generation}, nil
		}
	}
	return nil, nil
}

// ListLeases reads every lease an allocation ever held, in the order of its claims.
func ListLeases(ctx context.Context, db DB, allocationID id.Allocation) ([]Lease, error) {
	return many[Lease](ctx, db, "LeaseListByAllocation", pgx.NamedArgs{"allocation_id": allocationID})
}

// OpenLease is the lease in force on a node; pgx.ErrNoRows when it is free.
func OpenLease(ctx context.Context, db DB, nodeID id.Node) (Lease, error) {
	return one[Lease](ctx, db, "LeaseOpenOfNode", pgx.NamedArgs{"node_id": nodeID})
}

// LockLease locks one lease; pgx.ErrNoRows when it never existed.
func LockLease(ctx context.Context, db DB, lease node.Lease) (Lease, error) {
	return one[Lease](ctx, db, "LeaseLock", leaseArguments(lease))
}

// GiveUpLease marks a lease as given up and leaves it open; false when it was before.
func GiveUpLease(ctx context.Context, db DB, lease node.Lease) (bool, error) {
	changed, err := execute(ctx, db, "LeaseGiveUp", leaseArguments(lease))
	return changed == 1, err
}

// CloseLease ends custody and frees the node for the next claim; false when the lease was closed before. closedBy is
// "scrub_verify", "reimage" or "operator"; evidence is JSON.
func CloseLease(ctx context.Context, db DB, lease node.Lease, closedBy string, evidence json.RawMessage) (bool, error) {
	arguments := leaseArguments(lease)
	arguments["closed_by"], arguments["evidence"] = closedBy, evidence
	changed, err := execute(ctx, db, "LeaseClose", arguments)
	if err != nil || changed == 0 {
		return false, err
	}
	_, err = execute(ctx, db, "NodeUnclaim", pgx.NamedArgs{"id": lease.NodeID, "allocation_id": lease.AllocationID, "generation": lease.Generation})
	return err == nil, err
}

func leaseArguments(lease node.Lease) pgx.NamedArgs {
	return pgx.NamedArgs{"node_id": lease.NodeID, "generation": lease.Generation, "allocation_id": lease.AllocationID}
}

// GetNode reads one node; pgx.ErrNoRows when there is none.
func GetNode(ctx context.Context, db DB, nodeID id.Node) (Node, error) {
	return one[Node](ctx, db, "NodeGet", pgx.NamedArgs{"id": nodeID})
}

// LockNode reads one node and locks it against claims and other writers.
func LockNode(ctx context.Context, db DB, nodeID id.Node) (Node, error) {
	return one[Node](ctx, db, "NodeLock", pgx.NamedArgs{"id": nodeID})
}

// NodeFilter selects a page of nodes, newest first; an empty SKU does not filter.
type NodeFilter struct {
	SKU        id.SKU
	BeforeTime time.Time
	BeforeID   id.Node
	Limit      int
}

// ListNodes reads one page.
func ListNodes(ctx context.Context, db DB, filter NodeFilter) ([]Node, error) {
	return many[Node](ctx, db, "NodeList", pgx.NamedArgs{
		"sku_id": optional(filter.SKU), "before_time": filter.BeforeTime, "before_id": optional(filter.BeforeID), "limit": filter.Limit,
	})
}

// InsertNode enrols a node; false when the id or the hostname is taken.
func InsertNode(ctx context.Context, db DB, nodeID id.Node, sku id.SKU, hostname string) (bool, error) {
	inserted, err := execute(ctx, db, "NodeInsert", pgx.NamedArgs{"id": nodeID, "sku_id": sku, "hostname": hostname})
	return inserted == 1, err
}

// TransitionNode writes reachability, scheduling and reason if the node still stands at version, and answers the
// version after it; pgx.ErrNoRows otherwise.
func TransitionNode(ctx context.Context, db DB, nodeID id.Node, version int64, reachability node.Reachability, scheduling node.Scheduling, reason string) (int64, error) {
	row, err := one[struct{ Version int64 }](ctx, db, "NodeTransition", pgx.NamedArgs{
		"id": nodeID, "version": version, "reachability": reachability, "scheduling": scheduling, "reason": reason,
	})
	return row.Version, err
}

// SetInventory keeps what a node last said of its hardware and how it is reached; false when there is no such node.
func SetInventory(ctx context.Context, db DB, nodeID id.Node, inventory node.Inventory) (bool, error) {
	body, err := json.Marshal(inventory)
	if err != nil {
		return false, err
	}
	changed, err := execute(ctx, db, "NodeSetInventory", pgx.NamedArgs{
		"id": nodeID, "inventory": json.RawMessage(body), "ssh_host": inventory.SSHHost, "ssh_port": inventory.SSHPort, "ssh_host_key": inventory.SSHHostKey,
	})
	return changed == 1, err
}

// Beat records a heartbeat at the database's clock. report is JSON.
func Beat(ctx context.Context, db DB, nodeID id.Node, agentVersion string, report json.RawMessage) error {
	if len(report) == 0 {
		report = json.RawMessage("{}")
	}
	_, err := execute(ctx, db, "NodeBeat", pgx.NamedArgs{"node_id": nodeID, "agent_version": agentVersion, "report": report})
	return err
}

// LastSeen is a node's newest heartbeat; pgx.ErrNoRows when it never sent one since the database last started.
type LastSeen struct {
	LastSeenAt   time.Time
	AgentVersion string
}

// GetLastSeen reads a node's newest heartbeat.
func GetLastSeen(ctx context.Context, db DB, nodeID id.Node) (LastSeen, error) {
	return one[LastSeen](ctx, db, "NodeLastSeen", pgx.NamedArgs{"node_id": nodeID})
}

// SilentNode is an online node without a recent heartbeat; LastSeenAt is nil when none is known.
type SilentNode struct {
	ID         id.Node
	LastSeenAt *time.Time
}

// ListSilentNodes lists online nodes that were silent for longer than the given time.
func ListSilentNodes(ctx context.Context, db DB, silent time.Duration, limit int) ([]SilentNode, error) {
	return many[SilentNode](ctx, db, "NodeSilent", pgx.NamedArgs{"silent_seconds": silent.Seconds(), "limit": limit})
}

// FreeBySKU counts the nodes that could be claimed now, by SKU.
func FreeBySKU(ctx context.Context, db DB) (map[id.SKU]int64, error) {
	rows, err := many[struct {
		SKU  id.SKU `db:"sku_id"`
		Free int64
	}](ctx, db, "NodeFreeBySKU")
	if err != nil {
		return nil, err
	}
	free := make(map[id.SKU]int64, len(rows))
	for _, row := range rows {
		free[row.SKU] = row.Free
	}
	return free, nil
}

// EnrolToken is a one-time permission to enrol one named node. The token itself is never stored, its SHA-256 is.
type EnrolToken struct {
	NodeID    id.Node
	SKU       id.SKU `db:"sku_id"`
	Hostname  string
	CreatedBy string
	ExpiresAt time.Time
}

// InsertEnrolToken stores a new token's hash.
func InsertEnrolToken(ctx context.Context, db DB, sha256 [32]byte, token EnrolToken) error {
	_, err := execute(ctx, db, "EnrolTokenInsert", pgx.NamedArgs{
		"token_sha256": sha256[:], "node_id": token.NodeID, "sku_id": token.SKU, "hostname": token.Hostname,
		"created_by": token.CreatedBy, "expires_at": token.ExpiresAt,
	})
	return err
}
