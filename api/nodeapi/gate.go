package nodeapi

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// errDenied is why the requests of a denied node are cut off.
var errDenied = fault.New(fault.NodeDenied, "")

// gate decides on every request whether its node may speak at all, and cuts off what a node has open when it is
// denied. A certificate alone opens nothing: its node must exist and must not be denied.
type gate struct {
	pool *pgxpool.Pool
	log  *slog.Logger

	mu sync.Mutex
	// open are the requests in progress by node.
	open map[id.Node]map[*openRequest]struct{}
}

type openRequest struct{ cut context.CancelCauseFunc }

func newGate(pool *pgxpool.Pool, log *slog.Logger) *gate {
	return &gate{pool: pool, log: log, open: map[id.Node]map[*openRequest]struct{}{}}
}

// admit reads the node's standing; fault.NodeNotFound, fault.NodeDenied, or fault.ServiceUnavailable when the
// database cannot say.
func (g *gate) admit(ctx context.Context, nodeID id.Node) (queries.Standing, error) {
	standing, err := queries.GetStanding(ctx, g.pool, nodeID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return standing, fault.New(fault.NodeNotFound, "")
	case err != nil:
		return standing, fault.Wrap(err, fault.ServiceUnavailable, "")
	case standing.Scheduling == node.Denied:
		return standing, errDenied
	}
	return standing, nil
}

// enter makes a context for one request that ends when the node is denied; leave must be called.
func (g *gate) enter(ctx context.Context, nodeID id.Node) (context.Context, func()) {
	ctx, cut := context.WithCancelCause(ctx)
	request := &openRequest{cut: cut}
	g.mu.Lock()
	if g.open[nodeID] == nil {
		g.open[nodeID] = map[*openRequest]struct{}{}
	}
	g.open[nodeID][request] = struct{}{}
	g.mu.Unlock()
	return ctx, func() {
		g.mu.Lock()
		delete(g.open[nodeID], request)
		if len(g.open[nodeID]) == 0 {
			delete(g.open, nodeID)
		}
		g.mu.Unlock()
		cut(context.Canceled)
	}
}

// watch reads the denied nodes each second and cuts off what they have open here; it ends with ctx.
func (g *gate) watch(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		reading, cancel := context.WithTimeout(ctx, 2*time.Second)
		denied, err := queries.ListDenied(reading, g.pool)
		cancel()
		if err != nil {
			// New requests are refused while the database is away, and so is a task that a parked poll receives.
			g.log.WarnContext(ctx, "the denied nodes could not be read", "error", err)
			continue
		}
		g.cutOff(denied)
	}
}

func (g *gate) cutOff(denied []id.Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, nodeID := range denied {
		for request := range g.open[nodeID] {
			request.cut(errDenied)
		}
	}
}

type cutKey struct{}

// withCut carries the context that ends when the node is denied to where a gRPC call can end with it.
func withCut(ctx, cut context.Context) context.Context { return context.WithValue(ctx, cutKey{}, cut) }

// cutWithNode ends a gRPC call when its node is denied, with the denial as the cause.
func cutWithNode(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	cut, carried := ctx.Value(cutKey{}).(context.Context)
	if !carried {
		return handle(ctx, request)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(cut, func() { end(context.Cause(cut)) })()
	return handle(ctx, request)
}

// pollSlots bounds how many polls one node may have waiting.
type pollSlots struct {
	mu    sync.Mutex
	taken map[id.Node]int
	most  int
}

func newPollSlots(most int) *pollSlots { return &pollSlots{taken: map[id.Node]int{}, most: most} }

func (p *pollSlots) take(nodeID id.Node) (release func(), free bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[nodeID] >= p.most {
		return nil, false
	}
	p.taken[nodeID]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.taken[nodeID]--; p.taken[nodeID] == 0 {
			delete(p.taken, nodeID)
		}
	}, true
}

type nodeKey struct{}

func withNode(ctx context.Context, standing queries.Standing) context.Context {
	return context.WithValue(ctx, nodeKey{}, standing)
}

func standingFrom(ctx context.Context) queries.Standing {
	standing, _ := ctx.Value(nodeKey{}).(queries.Standing)
	return standing
}

// nodeFrom is the node that the certificate of this request names.
func nodeFrom(ctx context.Context) id.Node { return standingFrom(ctx).ID }
