package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// Heartbeat is when a node was last heard of.
type Heartbeat struct {
	NodeID       id.Node
	LastSeenAt   time.Time
	AgentVersion string
}

// BeatsOf reads the last heartbeat of each of the nodes; one that was never heard of is absent.
func BeatsOf(ctx context.Context, db DB, nodes []id.Node) (map[id.Node]Heartbeat, error) {
	rows, err := many[Heartbeat](ctx, db, "NodeBeatsOf", pgx.NamedArgs{"node_ids": texts(nodes)})
	if err != nil {
		return nil, err
	}
	beats := make(map[id.Node]Heartbeat, len(rows))
	for _, row := range rows {
		beats[row.NodeID] = row
	}
	return beats, nil
}

// OpenLeasesOf reads the open lease of each of the nodes; one that nobody holds is absent.
func OpenLeasesOf(ctx context.Context, db DB, nodes []id.Node) (map[id.Node]Lease, error) {
	rows, err := many[Lease](ctx, db, "LeasesOpenOf", pgx.NamedArgs{"node_ids": texts(nodes)})
	if err != nil {
		return nil, err
	}
	leases := make(map[id.Node]Lease, len(rows))
	for _, row := range rows {
		leases[row.NodeID] = row
	}
	return leases, nil
}

// EnrolledNode is a node found by its name.
type EnrolledNode struct {
	ID  id.Node
	SKU id.SKU `db:"sku_id"`
}

// NodeByHostname finds an enrolled node by its name; pgx.ErrNoRows when there is none.
func NodeByHostname(ctx context.Context, db DB, hostname string) (EnrolledNode, error) {
	return one[EnrolledNode](ctx, db, "NodeByHostname", pgx.NamedArgs{"hostname": hostname})
}

// GetEnrolToken reads what was minted for a token, used or not; pgx.ErrNoRows when it was never minted.
func GetEnrolToken(ctx context.Context, db DB, sha256 [32]byte) (EnrolToken, error) {
	return one[EnrolToken](ctx, db, "EnrolTokenGet", pgx.NamedArgs{"token_sha256": sha256[:]})
}
