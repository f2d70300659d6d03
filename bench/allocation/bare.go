package main

import (
	"context"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

// bare is the limit: what Temporal itself takes for a workflow of the same shape. It is started by the same
// update-with-start and has the same steps by the same names and options, in the same order and on the same queues, the
// same upserts of search attributes and the same window timer. Only the bodies of its steps do nothing; the one that makes an allocation
// active tells a watch over the account's funds, as the product's does.
func bare(ctx workflow.Context, input workflows.AllocationInput) error {
	var terms *workflows.Terms
	err := workflow.SetUpdateHandler(ctx, workflows.AdmitUpdate, func(ctx workflow.Context, request workflows.AdmitRequest) (workflows.AdmitReply, error) {
		reply, err := workflows.StepAdmit.Run(ctx, "Admit: count, check the runway, claim a node of "+string(request.SKU), request)
		terms = reply.Terms
		return reply, err
	})
	if err != nil {
		return err
	}
	if err := workflow.Await(ctx, func() bool { return terms != nil }); err != nil {
		return err
	}
	version := int64(1)
	if err := arrow(ctx, *terms, &version, allocation.Requested, allocation.Provisioning); err != nil {
		return err
	}
	if err := prepare(ctx, *terms); err != nil {
		return err
	}
	if err := arrow(ctx, *terms, &version, allocation.Provisioning, allocation.Active); err != nil {
		return err
	}
	removal := noopQueue(workflows.TaskSSHKeysSync).Start(ctx, "Take the login probe's key off the node", node.SSHKeysSyncIn{Keys: terms.SSHKeys})
	if err := workflow.NewTimerWithOptions(ctx, time.Duration(terms.WindowSeconds)*time.Second, workflow.TimerOptions{Summary: "Next settlement"}).Get(ctx, nil); err != nil {
		return err
	}
	return removal.Get(ctx, nil)
}

// prepare has the steps of provisioning in their order.
func prepare(ctx workflow.Context, terms workflows.Terms) error {
	// As in Allocation, a local step that does not work out in time is run as a normal one.
	if _, err := workflows.StepRuntimePolicy.RunLocal(ctx, "Read the policy of node work", 5*time.Second, workflows.RuntimePolicyIn{}); err != nil {
		if _, err := workflows.StepRuntimePolicy.Run(ctx, "Read the policy of node work", workflows.RuntimePolicyIn{}); err != nil {
			return err
		}
	}
	probeKey := workflows.StepProbeKey.Start(ctx, "Derive the login probe's public key", workflows.ProbeKeyIn{Lease: terms.Lease})
	task := node.Task{AllocationID: terms.Lease.AllocationID, NodeID: terms.Lease.NodeID, Generation: terms.Lease.Generation}
	username := node.Username(terms.Lease)
	if err := onNode(ctx, workflows.TaskUserProvision, "user.provision", node.UserProvisionIn{Task: task, Username: username}); err != nil {
		return err
	}
	var key workflows.ProbeKeyOut
	if err := probeKey.Get(ctx, &key); err != nil {
		return err
	}
	if err := onNode(ctx, workflows.TaskSSHKeysSync, "sshkeys.sync", node.SSHKeysSyncIn{Task: task, Username: username, ProbeKey: key.PublicKey}); err != nil {
		return err
	}
	if err := onNode(ctx, workflows.TaskGPUHealth, "gpu.health", node.GPUHealthIn{Task: task}); err != nil {
		return err
	}
	return again(func() error {
		_, err := workflows.StepLoginProbe.Within(0, 30*time.Second).Run(ctx, "login probe", workflows.LoginProbeIn{Lease: terms.Lease})
		return err
	})
}

func onNode[In, Out any](ctx workflow.Context, step workflows.Step[In, Out], summary string, in In) error {
	return again(func() error {
		_, err := noopQueue(step).Run(ctx, summary, in)
		return err
	})
}

func noopQueue[In, Out any](step workflows.Step[In, Out]) workflows.Step[In, Out] {
	return step.On(workflows.ProvisioningQueue).Within(0, 2*time.Minute)
}

// again repeats node work as Allocation does: a worker that was starved for longer than a heartbeat is no end.
func again(attempt func() error) error {
	for n := 1; ; n++ {
		if err := attempt(); err == nil || n == nodeAttempts {
			return err
		}
	}
}

const nodeAttempts = 3

func arrow(ctx workflow.Context, terms workflows.Terms, version *int64, from, to allocation.State) error {
	done, err := workflows.StepTransition.Run(ctx, string(from)+" → "+string(to), workflows.Transition{
		AllocationID: terms.Lease.AllocationID, TenantID: terms.TenantID, Version: *version, From: from, To: to, At: workflow.Now(ctx), CorrelationID: terms.CorrelationID,
	})
	if err != nil {
		return err
	}
	*version = done.Version
	return workflow.UpsertTypedSearchAttributes(ctx,
		workflows.AttributeState.ValueSet(string(to)), workflows.AttributeAccount.ValueSet(string(terms.AccountID)),
		workflows.AttributeNode.ValueSet(string(terms.Lease.NodeID)), workflows.AttributeSKU.ValueSet(string(terms.SKU)))
}

// bareFunds is the watch over an account with as many steps and timers as the product's.
func bareFunds(ctx workflow.Context, input workflows.FundsInput) error {
	changed := workflow.GetSignalChannel(ctx, workflows.FundsChangedSignal)
	for shown := false; ; shown = true {
		var change workflows.FundsChange
		for changed.ReceiveAsync(&change) {
		}
		if _, err := workflows.StepReviewFunds.Run(ctx, "What is left of "+string(input.AccountID), workflows.ReviewFundsIn{AccountID: input.AccountID, TenantID: input.TenantID}); err != nil {
			return err
		}
		if !shown {
			if err := workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeAccount.ValueSet(string(input.AccountID)), workflows.AttributeState.ValueSet("covered")); err != nil {
				return err
			}
		}
		if changed.Len() > 0 {
			continue
		}
		timing, stop := workflow.WithCancel(ctx)
		timer := workflow.NewTimerWithOptions(timing, nextLook, workflow.TimerOptions{Summary: "Next look"})
		err := workflow.Await(ctx, func() bool { return changed.Len() > 0 || timer.IsReady() })
		stop()
		if err != nil {
			return err
		}
	}
}

// nextLook is longer than any round: what an account of a bench holds lasts.
const nextLook = 24 * time.Hour

// bindBareAllocations registers the steps of the allocations queue with bodies that do nothing.
func bindBareAllocations(cluster client.Client, registry worker.ActivityRegistry) {
	workflows.StepAdmit.Bind(registry, func(_ context.Context, in workflows.AdmitRequest) (workflows.AdmitReply, error) {
		return workflows.AdmitReply{Admitted: true, OwnerRunID: in.RunID, CorrelationID: in.CorrelationID, Terms: &workflows.Terms{
			TenantID: in.Principal.TenantID, ProjectID: in.ProjectID, UserID: in.Principal.UserID, AccountID: in.Principal.AccountID,
			Currency: "usd", SKU: in.SKU, WindowSeconds: 3600, WindowsPerSettlement: 1, RuntimeMode: workflows.RuntimeNoop, CorrelationID: in.CorrelationID,
			Lease: node.Lease{AllocationID: in.AllocationID, NodeID: "node_aaaaaaaaaaaaaaaaaaaaaaaaaa", Generation: 1},
		}}, nil
	})
	workflows.StepTransition.Bind(registry, func(ctx context.Context, in workflows.Transition) (workflows.TransitionDone, error) {
		if in.To != allocation.Active {
			return workflows.TransitionDone{Version: in.Version + 1}, nil
		}
		account := id.Account(in.TenantID) // as many watches as tenants, each of which has one account
		workflowID := workflows.FundsWorkflowID(account)
		_, err := cluster.SignalWithStartWorkflow(ctx, workflowID, workflows.FundsChangedSignal, workflows.FundsChange{Because: "an allocation became active"},
			client.StartWorkflowOptions{ID: workflowID, TaskQueue: workflows.AllocationsQueue}, workflows.FundsType, workflows.FundsInput{AccountID: account})
		return workflows.TransitionDone{Version: in.Version + 1}, err
	})
	workflows.StepReviewFunds.Bind(registry, func(context.Context, workflows.ReviewFundsIn) (workflows.FundsReview, error) {
		return workflows.FundsReview{Costing: 1}, nil
	})
	workflows.StepRuntimePolicy.Bind(registry, func(context.Context, workflows.RuntimePolicyIn) (workflows.RuntimePolicy, error) {
		return workflows.RuntimePolicy{}, nil
	})
}

// bindBareProvisioning registers the steps of the provisioning queue that the noop runtime does not answer already.
func bindBareProvisioning(registry worker.ActivityRegistry) {
	workflows.StepProbeKey.Bind(registry, func(context.Context, workflows.ProbeKeyIn) (workflows.ProbeKeyOut, error) {
		return workflows.ProbeKeyOut{PublicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA gpuaas-login-probe"}, nil
	})
	workflows.StepLoginProbe.Bind(registry, func(context.Context, workflows.LoginProbeIn) (workflows.LoginProbeOut, error) {
		return workflows.LoginProbeOut{}, nil
	})
}
