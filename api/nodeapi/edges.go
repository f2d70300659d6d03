package nodeapi

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	internaltemporal "github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// signalAgain is how long an edge is left to take effect before it is signalled again. Histories bear 10,000
// signals, so a worker that is away for days must not be told at every heartbeat.
const signalAgain = 15 * time.Second

const (
	// signalPatience bounds one signal, its wait for a place included.
	signalPatience = 3 * time.Second
	// signalRetry is how long a signal that was not taken is left alone, and up to as long again: a cluster that is slow
	// because the whole fleet came back at once must not be told by every heartbeat of it.
	signalRetry = 5 * time.Second
	// signalsAtOnce bounds what one replica sends to Temporal at the same time.
	signalsAtOnce = 16
)

// edges tells Node workflows about changes of reachability, and only about changes: while what the table says and
// what the heartbeats say disagree, at most once in signalAgain. The workflow's own state ends repetitions.
type edges struct {
	temporal client.Client
	places   chan struct{}
	mu       sync.Mutex
	last     map[id.Node]signalled
}

// signalled is an edge that was told, or is to be told again under the same request id: a signal that timed out may have
// arrived all the same, and then the server drops its repetition.
type signalled struct {
	edge    node.Reachability
	again   time.Time
	request string
	told    bool
}

func newEdges(temporal client.Client) *edges {
	return &edges{temporal: temporal, places: make(chan struct{}, signalsAtOnce), last: map[id.Node]signalled{}}
}

// tell signals an edge, starting the node's workflow where none runs.
func (e *edges) tell(ctx context.Context, nodeID id.Node, sku id.SKU, edge workflows.NodeEdge) error {
	request, due := e.due(nodeID, edge.Reachability, time.Now())
	if !due {
		return nil
	}
	// A heartbeat must not wait for a Temporal that is away.
	ctx, cancel := context.WithTimeout(ctx, signalPatience)
	defer cancel()
	select {
	case e.places <- struct{}{}:
		defer func() { <-e.places }()
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := e.temporal.SignalWithStartWorkflow(internaltemporal.WithRequestID(ctx, request), workflows.NodeWorkflowID(nodeID),
		workflows.NodeReachabilitySignal, edge, nodeStart(nodeID), workflows.NodeType, workflows.NodeInput{NodeID: nodeID, SKU: sku})
	if err == nil {
		e.told(nodeID, request, time.Now())
	}
	return err
}

// due says whether an edge is to be signalled now, and under which request id. Until told says otherwise, it is tried again
// after signalRetry.
func (e *edges) due(nodeID id.Node, edge node.Reachability, now time.Time) (request string, due bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	last, known := e.last[nodeID]
	known = known && last.edge == edge
	if known && now.Before(last.again) {
		return "", false
	}
	next := signalled{edge: edge, again: now.Add(signalRetry + mathrand.N(signalRetry)), request: last.request} //nolint:gosec // spreads retries, guards nothing
	if !known || last.told {
		next.request = rand.Text()
	}
	e.last[nodeID] = next
	return next.request, true
}

// told notes that the signal of a request was taken.
func (e *edges) told(nodeID id.Node, request string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if last, known := e.last[nodeID]; known && last.request == request {
		last.told, last.again = true, now.Add(signalAgain)
		e.last[nodeID] = last
	}
}

// settled forgets a node whose table and heartbeats agree, so that its next edge is told at once.
func (e *edges) settled(nodeID id.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.last, nodeID)
}

// start makes sure that the node's workflow runs.
func (e *edges) start(ctx context.Context, nodeID id.Node, sku id.SKU) error {
	_, err := e.temporal.ExecuteWorkflow(ctx, nodeStart(nodeID), workflows.NodeType, workflows.NodeInput{NodeID: nodeID, SKU: sku})
	return err
}

func nodeStart(nodeID id.Node) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                       workflows.NodeWorkflowID(nodeID),
		TaskQueue:                workflows.ProvisioningQueue,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            "Node " + string(nodeID),
	}
}

const (
	sweepEvery = time.Second
	sweepLimit = 5000
)

// sweep finds online nodes that fell silent, until ctx ends. Two replicas may both sweep: what they signal is the
// same edge, and the workflow takes it once.
func (s *Server) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	silence := newSilence(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if err := s.sweepOnce(ctx, silence, now); err != nil && ctx.Err() == nil {
				s.config.Log.WarnContext(ctx, "silent nodes could not be looked for", "error", err)
			}
		}
	}
}

func (s *Server) sweepOnce(ctx context.Context, silence *silence, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	values, err := s.config.Policy.Values(ctx)
	if err != nil {
		silence.blind(now)
		return err
	}
	patience := values.Seconds(policyOfflineAfter)
	silent, err := queries.ListSilentNodes(ctx, s.config.Pool, patience, sweepLimit)
	if err != nil {
		silence.blind(now)
		return err
	}
	var troubles []error
	for _, one := range silence.believable(silent, patience, now) {
		seen := now.Add(-patience)
		if one.LastSeenAt != nil {
			seen = *one.LastSeenAt
		}
		standing, err := queries.GetStanding(ctx, s.config.Pool, one.ID)
		if err == nil {
			err = s.edges.tell(ctx, one.ID, standing.SKU, workflows.NodeEdge{Reachability: node.Offline, SeenAt: seen})
		}
		troubles = append(troubles, err)
	}
	return errors.Join(troubles...)
}

// silence tells a node's silence from our own deafness: a replica that just started, or could not reach the
// database, has heard nobody; and the heartbeat table is unlogged, so it is empty after a crash of Postgres.
type silence struct {
	hearingSince time.Time
	// unknown is since when a node had no heartbeat on record at all.
	unknown map[id.Node]time.Time
}

func newSilence(now time.Time) *silence {
	return &silence{hearingSince: now, unknown: map[id.Node]time.Time{}}
}

func (s *silence) blind(now time.Time) { s.hearingSince = now }

// believable keeps the nodes that had the chance to be heard for as long as patience.
func (s *silence) believable(silent []queries.SilentNode, patience time.Duration, now time.Time) []queries.SilentNode {
	unknown := map[id.Node]time.Time{}
	var found []queries.SilentNode
	for _, one := range silent {
		if one.LastSeenAt == nil {
			since, noticed := s.unknown[one.ID]
			if !noticed {
				since = now
			}
			unknown[one.ID] = since
			if now.Sub(since) < patience {
				continue
			}
		}
		if now.Sub(s.hearingSince) >= patience {
			found = append(found, one)
		}
	}
	s.unknown = unknown
	return found
}
