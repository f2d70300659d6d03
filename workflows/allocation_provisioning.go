package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/node"
)

// isolationByUser is the isolation model that provisioning can carry out on a running operating system.
const isolationByUser = "user-revoke"

// begin takes up an admitted request. Nothing was done on the node yet.
func (a *allocationRun) begin(ctx workflow.Context) {
	a.drain(ctx)
	switch {
	case a.Ask != nil:
		a.beginRelease(ctx)
	case a.Terms.IsolationModel != isolationByUser:
		refusal := &nodeTrouble{code: fault.IsolationModelUnavailable, message: fault.IsolationModelUnavailable.Error()}
		a.giveUp(ctx, refusal)
		a.fail(ctx, refusal)
	default:
		a.transition(ctx, allocation.Provisioning, Transition{Lease: a.Lease, Reason: "admitted"})
	}
}

// provision makes a node usable: this one, or another of the SKU after it was given up, up to policy. A release asked
// for meanwhile is honoured by compensating; nothing is charged, because the meter never started.
func (a *allocationRun) provision(ctx workflow.Context) {
	policy := quick(ctx, a, StepRuntimePolicy, "Read the policy of node work", RuntimePolicyIn{AllocationID: a.input.AllocationID})
	if !a.provisionAnew(ctx, policy) {
		return
	}
	for {
		access, err := a.prepare(ctx, policy)
		// What counts as usable is the moment the probe's result arrived, not the moment after it was written down.
		usableAt := milliseconds(workflow.Now(ctx))
		if a.drain(ctx); a.Ask != nil {
			a.beginRelease(ctx)
			return
		}
		if errors.Is(err, errReleaseAsked) {
			// The signal could not be read, so nothing was asked for: the node is prepared again, and every task converges.
			continue
		}
		if err == nil {
			a.Access, a.Anchor, a.PostedTo = &access, &usableAt, usableAt
			a.transition(ctx, allocation.Active, Transition{
				MeteredFrom: a.Anchor, Access: a.Access, Lease: a.Lease, Reason: "a login on the node succeeded",
			})
			a.LastError = ""
			a.removeProbeKey(ctx, policy)
			return
		}
		trouble := asTrouble(err)
		a.giveUp(ctx, trouble)
		if a.drain(ctx); a.Ask != nil {
			a.beginRelease(ctx)
			return
		}
		if len(a.GivenUp) >= policy.MaxNodeAttempts {
			a.fail(ctx, trouble)
			return
		}
		if !a.claimAnother(ctx) {
			a.fail(ctx, &nodeTrouble{code: fault.SKUUnavailable, message: "no other node of this SKU is free after one was given up: " + trouble.message})
			return
		}
	}
}

// prepare makes the tenant's user with its keys, checks the GPUs and logs in as the tenant would.
func (a *allocationRun) prepare(ctx workflow.Context, policy RuntimePolicy) (Access, error) {
	lease := *a.Lease
	username := node.Username(lease)
	// The probe key is not needed before the keys are written, so it is fetched while the user is made.
	probeKeyCtx, forgetProbeKey := workflow.WithCancel(ctx)
	defer forgetProbeKey()
	probeKeyFuture := StepProbeKey.Start(probeKeyCtx, "Derive the login probe's public key", ProbeKeyIn{Lease: lease})

	user, err := provisionTask(ctx, a, policy, TaskUserProvision, "provision", func(task node.Task) node.UserProvisionIn {
		return node.UserProvisionIn{Task: task, Username: username}
	})
	if err != nil {
		return Access{}, err
	}
	access := Access{Username: user.Username, SSHHost: user.SSHHost, SSHPort: user.SSHPort, SSHHostKey: user.SSHHostKey}

	probeKey, err := outcomeUnlessAsked[ProbeKeyOut](ctx, a, probeKeyFuture, forgetProbeKey)
	if err != nil {
		return Access{}, err
	}
	if _, err := provisionTask(ctx, a, policy, TaskSSHKeysSync, "keys", func(task node.Task) node.SSHKeysSyncIn {
		return node.SSHKeysSyncIn{Task: task, Username: username, Keys: a.Terms.SSHKeys, ProbeKey: probeKey.PublicKey}
	}); err != nil {
		return Access{}, err
	}
	if _, err := provisionTask(ctx, a, policy, TaskGPUHealth, "health", func(task node.Task) node.GPUHealthIn {
		return node.GPUHealthIn{Task: task, ExpectedModel: a.Terms.GPUModel, ExpectedCount: a.Terms.GPUCount}
	}); err != nil {
		return Access{}, err
	}
	return access, a.probeLogin(ctx, policy, access)
}

// probeLogin logs in over SSH from the platform's side. It has no bound on waiting to start: that no worker of ours is
// there is no fault of the node.
func (a *allocationRun) probeLogin(ctx workflow.Context, policy RuntimePolicy, access Access) error {
	lease := *a.Lease
	bound := seconds(policy.LoginProbeTimeoutSeconds)
	probe := StepLoginProbe.Within(0, bound)
	_, err := tryOnNode[LoginProbeOut](ctx, a, policy, probe.Name, bound, fault.LoginProbeFailed, func(ctx workflow.Context, attempt int) workflow.Future {
		return probe.Start(ctx, taskSummary("Log in as the tenant would", lease, attempt), LoginProbeIn{Lease: lease, Access: access, RuntimeMode: a.Terms.RuntimeMode})
	})
	return err
}

// removeProbeKey takes the platform's key off the node once it has done its work. The tenant is not kept waiting for
// it and one attempt has to do: the key is good for one forced command, and the wipe removes it in any case.
func (a *allocationRun) removeProbeKey(ctx workflow.Context, policy RuntimePolicy) {
	lease := *a.Lease
	wait, run := a.patience(policy.TaskScheduleToStartSeconds), seconds(policy.TaskStartToCloseSeconds)
	removalCtx, stop := workflow.WithCancel(ctx)
	a.stopRemoval = stop
	a.probeKeyRemoval = TaskSSHKeysSync.On(a.taskQueue(lease.NodeID)).Within(wait, run).Start(removalCtx,
		"Take the login probe's key off the node", node.SSHKeysSyncIn{
			Task:     task(ctx, lease, "keys_without_probe", 1, wait+run),
			Username: node.Username(lease),
			Keys:     a.Terms.SSHKeys,
		})
}

// endProbeKeyRemoval makes sure that no task of ours is still at work on the node before it is wiped.
func (a *allocationRun) endProbeKeyRemoval(ctx workflow.Context) {
	if a.probeKeyRemoval == nil {
		return
	}
	a.stopRemoval()
	await(ctx, a.probeKeyRemoval.IsReady)
	a.probeKeyRemoval = nil
}

// giveUp parts with the node: its lease stays open and it is quarantined until its own workflow has scrubbed it.
func (a *allocationRun) giveUp(ctx workflow.Context, trouble *nodeTrouble) {
	lease := *a.Lease
	a.doing(doing{sentence: fmt.Sprintf("gives up %s: %s", lease.NodeID, trouble.message), step: StepGiveUpNode.Name})
	insist(ctx, a, StepGiveUpNode, fmt.Sprintf("Give up %s", lease.NodeID), GiveUpNodeIn{
		Lease: lease, Reason: trouble.message, CorrelationID: a.Terms.CorrelationID,
	})
	a.tell(ctx, lease.NodeID, NodeReclaimSignal, NodeReclaim{
		Lease: lease, Reason: trouble.message, Distrusted: trouble.distrusted, CorrelationID: a.Terms.CorrelationID,
	})
	a.GivenUp = append(a.GivenUp, lease.NodeID)
	a.Lease = nil
	a.LastLease = &lease
}

// claimAnother claims a further node of the SKU, and says whether there was one.
func (a *allocationRun) claimAnother(ctx workflow.Context) bool {
	a.doing(doing{sentence: "claims another node of " + string(a.Terms.SKU), step: StepClaimAnother.Name})
	claim := insist(ctx, a, StepClaimAnother, "Claim another node of "+string(a.Terms.SKU), ClaimAnotherIn{
		AllocationID: a.input.AllocationID, TenantID: a.Terms.TenantID, SKU: a.Terms.SKU, After: *a.LastLease,
	})
	if claim.Lease == nil {
		return false
	}
	a.Lease, a.LastNode = claim.Lease, claim.Lease.NodeID
	return true
}

// fail ends an allocation that no node could be found for. It holds no node, and nothing was charged.
func (a *allocationRun) fail(ctx workflow.Context, trouble *nodeTrouble) {
	a.transition(ctx, allocation.Failed, Transition{
		Reason:  trouble.message,
		Failure: &Fault{Code: string(trouble.code), Message: trouble.message},
	})
}

// asTrouble makes a trouble of the node of whatever ended its preparation.
func asTrouble(err error) *nodeTrouble {
	var trouble *nodeTrouble
	if errors.As(err, &trouble) {
		return trouble
	}
	return &nodeTrouble{code: fault.ProvisioningFailed, message: reason(err)}
}
