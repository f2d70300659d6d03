package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type nodeOperationIn struct {
	NodePath
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	Body           struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500"`
	}
}

type unquarantineIn struct {
	NodePath
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	Body           struct {
		Reason     string `json:"reason" minLength:"1" maxLength:"500"`
		CloseLease bool   `json:"close_lease,omitempty" default:"false"`
	}
}

func (s *server) nodeVerbs() {
	for operation, verb := range map[string]string{
		"cordonNode": workflows.VerbCordon, "uncordonNode": workflows.VerbUncordon, "drainNode": workflows.VerbDrain,
		"quarantineNode": workflows.VerbQuarantine, "denyNode": workflows.VerbDeny,
	} {
		handle(s, operation, func(ctx context.Context, in *nodeOperationIn) (*nodeOut, error) {
			return s.operate(ctx, in.NodeID, workflows.NodeOperation{Verb: verb, Reason: in.Body.Reason})
		})
	}
	handle(s, "unquarantineNode", func(ctx context.Context, in *unquarantineIn) (*nodeOut, error) {
		return s.operate(ctx, in.NodeID, workflows.NodeOperation{Verb: workflows.VerbUnquarantine, Reason: in.Body.Reason, CloseLease: in.Body.CloseLease})
	})
}

const (
	// obeyPatience is how long a request waits until the audit log tells what became of its order.
	obeyPatience = 8 * time.Second
	obeyPoll     = 100 * time.Millisecond
	// withoutEffect is how the Node workflow marks an order that it wrote down and did not follow.
	withoutEffect = "(without effect:"
)

// operate gives the node's workflow an order and waits until it has written what became of it. A repeat of an order that
// was given and lost its answer finds that, or waits for it too: the server takes the signal of a request once.
func (s *server) operate(ctx context.Context, nodeID id.Node, order workflows.NodeOperation) (*nodeOut, error) {
	before, err := s.node(ctx, nodeID)
	if err != nil {
		return nil, err
	}
	if done, known, err := s.outcome(ctx, nodeID, order.Reason); err != nil || known {
		return done, err
	}
	if order.Verb == workflows.VerbUnquarantine && order.CloseLease {
		if err := s.mayCloseLease(ctx, nodeID); err != nil {
			return nil, err
		}
	}
	order.Actor, order.CorrelationID, order.RequestID = middleware.Principal(ctx).Actor(), telemetry.Correlation(ctx), middleware.RequestOf(ctx).ID
	cluster, err := s.temporal()
	if err != nil {
		return nil, err
	}
	once := temporal.WithRequestID(ctx, order.RequestID)
	if _, err := cluster.SignalWithStartWorkflow(once, workflows.NodeWorkflowID(nodeID), workflows.NodeOperateSignal, order, client.StartWorkflowOptions{
		TaskQueue: workflows.ProvisioningQueue, WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, StaticSummary: before.Hostname,
	}, workflows.NodeType, workflows.NodeInput{NodeID: nodeID, SKU: before.SKU}); err != nil {
		return nil, temporal.FromError(err)
	}
	return s.obeyed(ctx, nodeID, order)
}

// mayCloseLease refuses to close the lease of an allocation that still lives on the node.
func (s *server) mayCloseLease(ctx context.Context, nodeID id.Node) error {
	leases, err := queries.OpenLeasesOf(ctx, s.config.Pool, []id.Node{nodeID})
	if err != nil {
		return err
	}
	if lease, held := leases[nodeID]; held && lease.GivenUpAt == nil {
		return fault.New(fault.NodeInUse, "").With(map[string]any{"allocation_id": lease.AllocationID})
	}
	return nil
}

// obeyed waits for the outcome of the order in hand.
func (s *server) obeyed(ctx context.Context, nodeID id.Node, order workflows.NodeOperation) (*nodeOut, error) {
	deadline := time.NewTimer(obeyPatience)
	defer deadline.Stop()
	tick := time.NewTicker(obeyPoll)
	defer tick.Stop()
	for {
		if done, known, err := s.outcome(ctx, nodeID, order.Reason); err != nil || known {
			return done, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return nil, fault.New(fault.ServiceUnavailable, "The order was accepted and has not taken effect yet.")
		case <-tick.C:
		}
	}
}

// outcome is the node, or the refusal, once the workflow has written down what became of the order in hand.
func (s *server) outcome(ctx context.Context, nodeID id.Node, reason string) (*nodeOut, bool, error) {
	record, known, err := s.changed(ctx)
	if err != nil || !known {
		return nil, false, err
	}
	var written struct {
		Reason     string          `json:"reason"`
		Scheduling node.Scheduling `json:"scheduling"`
	}
	if err := json.Unmarshal(record.Details, &written); err != nil {
		return nil, false, fmt.Errorf("the audit row of an order for %s: %w", nodeID, err)
	}
	if why, ignored := strings.CutPrefix(written.Reason, reason+" "+withoutEffect); ignored {
		return nil, true, fault.Newf(fault.NodeStateConflict, "The order had no effect: %s.", strings.TrimSuffix(strings.TrimSpace(why), ")")).
			With(map[string]any{"scheduling": written.Scheduling})
	}
	row, err := s.node(ctx, nodeID)
	if err != nil {
		return nil, false, err
	}
	out, err := s.renderNode(ctx, row)
	return out, err == nil, err
}
