package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/node"
)

// explain answers NodeExplainQuery.
func (n *nodeRun) explain() NodeExplanation {
	explanation := NodeExplanation{
		Reachability: n.Reachability, Scheduling: n.effective(),
		Doing: n.now.sentence, NextDeadline: n.now.deadline, LastError: n.LastError,
	}
	if n.Custody != nil {
		explanation.Reclaiming = []node.Lease{n.Custody.Lease}
	}
	return explanation
}

// show makes the node findable and readable in the Temporal UI.
func (n *nodeRun) show(ctx workflow.Context) {
	state := node.State(n.Reachability, n.effective())
	if err := workflow.UpsertTypedSearchAttributes(ctx,
		AttributeState.ValueSet(state),
		AttributeNode.ValueSet(string(n.input.NodeID)),
		AttributeSKU.ValueSet(string(n.input.SKU)),
	); err != nil {
		workflow.GetLogger(ctx).Warn("search attributes were not set", "error", err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "**%s** · %s, %s (operators: %s) · %s\n\n", state, n.Reachability, n.effective(), n.Ordered, n.input.SKU)
	if n.Lease != nil {
		fmt.Fprintf(&text, "- held by `%s`, generation %d\n", n.Lease.AllocationID, n.Lease.Generation)
	}
	if n.Custody != nil {
		manner := "to be scrubbed"
		if n.Custody.Abandoned {
			manner = "abandoned, waits for an operator's word"
		}
		fmt.Fprintf(&text, "- generation %d was given up (%s): %s\n", n.Custody.Lease.Generation, manner, n.Custody.Reason)
	}
	if n.LastError != "" {
		fmt.Fprintf(&text, "- last trouble: %s\n", n.LastError)
	}
	workflow.SetCurrentDetails(ctx, text.String())
}

// trouble remembers what went wrong last.
func (n *nodeRun) trouble(ctx workflow.Context, step string, err error) {
	n.LastError = step + ": " + reason(err)
	workflow.GetLogger(ctx).Warn("a step had trouble", "step", step, "error", err)
}

// waitFor waits for the condition, at most for patience, and says whether it came true.
func (n *nodeRun) waitFor(ctx workflow.Context, summary string, patience time.Duration, condition func() bool) bool {
	n.now.deadline = within(ctx, patience)
	defer func() { n.now.deadline = nil }()
	return pause(ctx, summary, patience, condition)
}
