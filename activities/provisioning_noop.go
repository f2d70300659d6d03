package activities

import (
	"context"

	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

// NoopNode answers the node tasks of allocations whose pinned runtime mode is noop. It has no tools: it prepares
// nothing and wipes nothing, and its evidence says so. It exists for measuring the platform without nodes.
type NoopNode struct{}

// noopCheck is the evidence of a node that was never touched; a release certificate shows it.
const noopCheck = "noop_runtime"

// Bind registers the node tasks on the provisioning queue; real ones run on the queue of their node alone.
func (n NoopNode) Bind(registry worker.ActivityRegistry) {
	workflows.TaskUserProvision.Bind(registry, n.userProvision)
	workflows.TaskSSHKeysSync.Bind(registry, n.sshKeysSync)
	workflows.TaskGPUHealth.Bind(registry, n.gpuHealth)
	workflows.TaskUserRevoke.Bind(registry, n.userRevoke)
	workflows.TaskUserSuspend.Bind(registry, n.userSuspend)
	workflows.TaskUserResume.Bind(registry, n.userResume)
	workflows.TaskScrubRun.Bind(registry, n.scrubRun)
	workflows.TaskScrubVerify.Bind(registry, n.scrubVerify)
	workflows.TaskInventoryReport.Bind(registry, n.inventoryReport)
}

func (NoopNode) userProvision(_ context.Context, in node.UserProvisionIn) (node.UserProvisionOut, error) {
	return node.UserProvisionOut{Username: in.Username, UID: node.UID(in.Task.Lease())}, nil
}

func (NoopNode) sshKeysSync(_ context.Context, in node.SSHKeysSyncIn) (node.SSHKeysSyncOut, error) {
	return node.SSHKeysSyncOut{Keys: len(in.Keys)}, nil
}

func (NoopNode) gpuHealth(context.Context, node.GPUHealthIn) (node.GPUHealthOut, error) {
	return node.GPUHealthOut{}, nil
}

func (NoopNode) userRevoke(context.Context, node.UserRevokeIn) (node.UserRevokeOut, error) {
	return node.UserRevokeOut{}, nil
}

func (NoopNode) userSuspend(context.Context, node.UserSuspendIn) (node.UserSuspendOut, error) {
	return node.UserSuspendOut{}, nil
}

func (NoopNode) userResume(context.Context, node.UserResumeIn) (node.UserResumeOut, error) {
	return node.UserResumeOut{}, nil
}

func (NoopNode) scrubRun(context.Context, node.ScrubRunIn) (node.ScrubRunOut, error) {
	return node.ScrubRunOut{}, nil
}

func (NoopNode) scrubVerify(context.Context, node.ScrubVerifyIn) (node.ScrubVerifyOut, error) {
	return node.ScrubVerifyOut{Checks: []string{noopCheck}, Assurance: "none"}, nil
}

func (NoopNode) inventoryReport(context.Context, node.InventoryReportIn) (node.Inventory, error) {
	return node.Inventory{}, nil
}
