package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/node"
)

// takeCustody takes over a lease that an allocation gave up. The giving up has quarantined the node in Postgres.
func (n *nodeRun) takeCustody(ctx workflow.Context, reclaim NodeReclaim) {
	n.refresh(ctx)
	if n.Lease == nil || *n.Lease != reclaim.Lease {
		// The message came twice, or late: the lease is closed already.
		return
	}
	if reclaim.Again && n.Custody != nil && n.Custody.Lease == reclaim.Lease && !n.Custody.Found {
		return
	}
	if n.Custody == nil || n.Custody.Lease != reclaim.Lease {
		n.Attempts = 0
	}
	n.Custody = &reclaim
	if n.effective() != n.Scheduling {
		n.write(ctx, NodeTransition{Action: "node.reclaim", Reason: reclaim.Reason, CorrelationID: reclaim.CorrelationID})
	}
	n.show(ctx)
}

// endCustody closes the lease on the evidence. The operators' word holds again, unless the machine itself is at fault.
func (n *nodeRun) endCustody(ctx workflow.Context) {
	proof := *n.scrubbed
	// The proof stands until custody has ended: the scrubbing coroutine would start over without it.
	defer func() { n.scrubbed = nil }()
	if n.Custody == nil || n.Custody.Lease != proof.lease || n.Custody.Abandoned {
		return
	}
	custody := *n.Custody
	insist(ctx, n, StepCloseNodeLease, fmt.Sprintf("Close the lease of generation %d", proof.lease.Generation), CloseNodeLeaseIn{
		Lease: proof.lease, Evidence: proof.evidence, By: "scrub_verify", CorrelationID: custody.CorrelationID,
	})
	n.Custody, n.Attempts, n.LastError = nil, 0, ""
	n.Distrusted = n.Distrusted || custody.Distrusted
	n.refresh(ctx)
	if n.Ordered == node.Draining {
		n.Ordered = node.Cordoned
	}
	reason := "scrubbed and verified after it was given up"
	if n.Distrusted {
		reason += "; the machine stays quarantined: " + custody.Reason
	}
	n.write(ctx, NodeTransition{Action: "node.reclaimed", Reason: reason, CorrelationID: custody.CorrelationID})
}

// mayScrub: something is to be scrubbed, the node can be reached, and the last proof was taken note of.
func (n *nodeRun) mayScrub() bool {
	return n.Custody != nil && !n.Custody.Abandoned && n.Reachability == node.Online && n.Ordered != node.Denied && n.scrubbed == nil
}

// scrubForEver scrubs what is in custody whenever the node can be reached, for as long as it takes.
func (n *nodeRun) scrubForEver(ctx workflow.Context) {
	for {
		await(ctx, func() bool { return n.mayScrub() && !historyIsLong(ctx, n.input.ContinueAfterEvents) })
		lease := n.Custody.Lease
		n.scrubbing = true
		n.Attempts++
		policy, evidence, err := n.scrub(ctx, lease, n.Attempts)
		n.scrubbing = false
		if err == nil {
			n.scrubbed = &scrubbed{lease: lease, evidence: evidence}
			continue
		}
		n.trouble(ctx, "reclaim", err)
		n.now = doing{sentence: fmt.Sprintf("waits before it scrubs generation %d again", lease.Generation), step: "reclaim", attempt: n.Attempts + 1}
		summary := fmt.Sprintf("Back off before scrub %d", n.Attempts+1)
		n.waitFor(ctx, summary, wipeBackoff(policy, n.Attempts), func() bool { return n.Custody == nil || n.Custody.Lease != lease })
	}
}

// scrub is one attempt: revoke, remove, verify, at the generation of the lease that was given up.
func (n *nodeRun) scrub(ctx workflow.Context, lease node.Lease, attempt int) (RuntimePolicy, node.ScrubVerifyOut, error) {
	username := node.Username(lease)
	policy := insist(ctx, n, StepRuntimePolicy.On(AllocationsQueue), "Read the policy of node work", RuntimePolicyIn{AllocationID: lease.AllocationID})
	if _, err := scrubTask(ctx, n, policy, TaskUserRevoke, lease, "reclaim_revoke", attempt, func(task node.Task) node.UserRevokeIn {
		return node.UserRevokeIn{Task: task, Username: username}
	}); err != nil {
		return policy, node.ScrubVerifyOut{}, err
	}
	if _, err := scrubTask(ctx, n, policy, TaskScrubRun, lease, "reclaim_scrub", attempt, func(task node.Task) node.ScrubRunIn {
		return node.ScrubRunIn{Task: task, Username: username}
	}); err != nil {
		return policy, node.ScrubVerifyOut{}, err
	}
	evidence, err := scrubTask(ctx, n, policy, TaskScrubVerify, lease, "reclaim_verify", attempt, func(task node.Task) node.ScrubVerifyIn {
		return node.ScrubVerifyIn{Task: task, Username: username}
	})
	return policy, evidence, err
}

// scrubTask runs one task on this node.
func scrubTask[In, Out any](ctx workflow.Context, n *nodeRun, policy RuntimePolicy, contract Step[In, Out], lease node.Lease, step string,
	attempt int, in func(node.Task) In,
) (Out, error) {
	wait, run := seconds(policy.ReleaseScheduleToStartSeconds), seconds(policy.ReleaseStartToCloseSeconds)
	n.now = doing{sentence: fmt.Sprintf("scrubs generation %d: %s", lease.Generation, contract.Name), step: contract.Name, attempt: attempt}
	out, err := contract.On(NodeQueue(lease.NodeID)).Within(wait, run).
		Run(ctx, taskSummary(node.TaskKind(contract.Name).Sentence(), lease, attempt), in(task(ctx, lease, step, attempt, wait+run)))
	if err != nil {
		return out, judge(err, contract.Name, fault.NodeTaskFailed)
	}
	return out, nil
}
