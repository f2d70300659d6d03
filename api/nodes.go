package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type nodeLeaseBody struct {
	AllocationID string  `json:"allocation_id"`
	Generation   int64   `json:"generation"`
	ClaimedAt    moment  `json:"claimed_at"`
	GivenUpAt    *moment `json:"given_up_at,omitempty"`
}

type nodeBody struct {
	ID           id.Node        `json:"id" pattern:"^node_[a-z2-7]{26}$"`
	SKU          id.SKU         `json:"sku"`
	Hostname     string         `json:"hostname"`
	State        string         `json:"state" enum:"enrolled,online,offline,cordoned,draining,quarantined,denied" doc:"The strongest thing to know about it."`
	Reachability string         `json:"reachability" enum:"enrolled,online,offline"`
	Scheduling   string         `json:"scheduling" enum:"open,cordoned,draining,quarantined,denied"`
	Reason       string         `json:"reason" doc:"Why it is not open."`
	AllocationID string         `json:"allocation_id,omitempty" doc:"The allocation that holds it."`
	Generation   int64          `json:"generation" doc:"Rises with every claim."`
	Version      int64          `json:"version"`
	Inventory    freeForm       `json:"inventory"`
	Lease        *nodeLeaseBody `json:"lease,omitempty"`
	LastSeenAt   *moment        `json:"last_seen_at,omitempty"`
	AgentVersion string         `json:"agent_version,omitempty"`
	EnrolledAt   moment         `json:"enrolled_at"`
	UpdatedAt    moment         `json:"updated_at"`
}

type (
	NodePath struct {
		NodeID id.Node `path:"node_id" pattern:"^node_[a-z2-7]{26}$"`
	}
	nodeOut    struct{ Body nodeBody }
	nodeFilter struct {
		Paging
		SKU id.SKU `query:"sku" minLength:"1" maxLength:"63"`
	}
	nodeListOut struct{ Body list[nodeBody] }
)

func (s *server) nodeOperations() {
	handle(s, "listNodes", s.listNodes)
	handle(s, "createNodeEnrolToken", s.createNodeEnrolToken)
	handle(s, "getNode", s.getNode)
	s.nodeVerbs()
}

func (s *server) listNodes(ctx context.Context, in *nodeFilter) (*nodeListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ListNodes(ctx, s.config.Pool, queries.NodeFilter{SKU: in.SKU, BeforeTime: from.Time, BeforeID: id.Node(from.ID), Limit: in.fetch()})
	if err != nil {
		return nil, err
	}
	render, err := s.nodeRenderer(ctx, rows)
	if err != nil {
		return nil, err
	}
	return &nodeListOut{Body: paged(in.Paging, rows, func(row queries.Node) after { return after{row.EnrolledAt, string(row.ID)} }, render)}, nil
}

func (s *server) getNode(ctx context.Context, in *NodePath) (*nodeOut, error) {
	row, err := s.node(ctx, in.NodeID)
	if err != nil {
		return nil, err
	}
	return s.renderNode(ctx, row)
}

func (s *server) node(ctx context.Context, nodeID id.Node) (queries.Node, error) {
	row, err := queries.GetNode(ctx, s.config.Pool, nodeID)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, fault.New(fault.NodeNotFound, "")
	}
	return row, err
}

func (s *server) renderNode(ctx context.Context, row queries.Node) (*nodeOut, error) {
	render, err := s.nodeRenderer(ctx, []queries.Node{row})
	if err != nil {
		return nil, err
	}
	return &nodeOut{Body: render(row)}, nil
}

// nodeRenderer reads what stands beside nodes: their heartbeats and open leases.
func (s *server) nodeRenderer(ctx context.Context, rows []queries.Node) (func(queries.Node) nodeBody, error) {
	ids := make([]id.Node, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	beats, err := queries.BeatsOf(ctx, s.config.Pool, ids)
	if err != nil {
		return nil, err
	}
	leases, err := queries.OpenLeasesOf(ctx, s.config.Pool, ids)
	if err != nil {
		return nil, err
	}
	return func(row queries.Node) nodeBody {
		body := nodeBody{
			ID: row.ID, SKU: row.SKU, Hostname: row.Hostname, State: node.State(row.Reachability, row.Scheduling),
			Reachability: string(row.Reachability), Scheduling: string(row.Scheduling), Reason: row.Reason, AllocationID: text(row.ClaimedBy),
			Generation: row.Generation, Version: row.Version, Inventory: freeForm{},
			EnrolledAt: moment(row.EnrolledAt), UpdatedAt: moment(row.UpdatedAt),
		}
		if json.Unmarshal(row.Inventory, &body.Inventory) != nil || body.Inventory == nil {
			body.Inventory = freeForm{}
		}
		if beat, heard := beats[row.ID]; heard {
			body.LastSeenAt, body.AgentVersion = maybe(&beat.LastSeenAt), beat.AgentVersion
		}
		if lease, held := leases[row.ID]; held {
			body.Lease = &nodeLeaseBody{AllocationID: string(lease.AllocationID), Generation: lease.Generation, ClaimedAt: moment(lease.ClaimedAt), GivenUpAt: maybe(lease.GivenUpAt)}
		}
		return body
	}, nil
}
