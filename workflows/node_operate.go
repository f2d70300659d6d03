package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/node"
)

// obey carries out an operator's order. Every order is written with its audit row, also one that was refused or that
// changed nothing.
func (n *nodeRun) obey(ctx workflow.Context, order NodeOperation) {
	n.refresh(ctx)
	refusal := n.carryOut(ctx, order)
	reason := order.Reason
	if refusal != "" {
		reason = fmt.Sprintf("%s (without effect: %s)", order.Reason, refusal)
	}
	n.write(ctx, NodeTransition{
		Action: "node." + order.Verb, Reason: reason, Actor: order.Actor, CorrelationID: order.CorrelationID, RequestID: order.RequestID,
	})
}

// carryOut changes the operators' word and says why if it could not.
func (n *nodeRun) carryOut(ctx workflow.Context, order NodeOperation) string {
	if order.Verb != VerbUnquarantine || n.Ordered == node.Denied {
		next, refusal := ordered(n.Ordered, order.Verb, n.Lease != nil)
		n.Ordered = next
		return refusal
	}
	switch {
	case n.Custody != nil && !order.CloseLease:
		return fmt.Sprintf("the lease of generation %d was given up and is still open", n.Custody.Lease.Generation)
	case n.Custody == nil && n.Lease != nil && order.CloseLease:
		return fmt.Sprintf("the lease of generation %d is in use; release its allocation", n.Lease.Generation)
	}
	if n.Custody != nil {
		insist(ctx, n, StepCloseNodeLease, "Close the lease on an operator's word", CloseNodeLeaseIn{
			Lease: n.Custody.Lease, By: "operator", Actor: order.Actor, CorrelationID: order.CorrelationID,
		})
		n.Custody = nil
		n.refresh(ctx)
	} else if !n.Distrusted && n.Ordered != node.Quarantined {
		return "the node is not quarantined"
	}
	n.Distrusted = false
	n.Ordered, _ = ordered(n.Ordered, VerbUnquarantine, n.Lease != nil)
	return ""
}

// ordered is the rule of precedence among the operators' words: a denial outranks everything and is lifted, by
// unquarantine, to a quarantine only; a quarantine is lifted by unquarantine alone; draining outranks cordoned. held says
// whether somebody holds the node. The second result says why a verb had no effect.
func ordered(current node.Scheduling, verb string, held bool) (node.Scheduling, string) {
	switch verb {
	case VerbDeny:
		return node.Denied, ""
	case VerbUnquarantine:
		switch current {
		case node.Denied:
			return node.Quarantined, ""
		case node.Quarantined:
			return node.Open, ""
		}
		return current, ""
	}
	if current == node.Denied {
		return current, "the node is denied"
	}
	if verb == VerbQuarantine {
		return node.Quarantined, ""
	}
	if current == node.Quarantined {
		return current, "the node is quarantined"
	}
	switch verb {
	case VerbUncordon:
		return node.Open, ""
	case VerbCordon:
		if current == node.Draining {
			return current, "the node is draining already"
		}
		return node.Cordoned, ""
	case VerbDrain:
		if held {
			return node.Draining, ""
		}
		return node.Cordoned, ""
	}
	return current, fmt.Sprintf("%q is no order for a node", verb)
}
