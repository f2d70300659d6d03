package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/node"
)

// Bind registers every task of node.TaskKinds. There is no exec.
func (a *Agent) Bind(registry worker.ActivityRegistry) { a.runner.bind(registry) }

func (r *runner) bind(registry worker.ActivityRegistry) {
	register(registry, r, task[node.UserProvisionIn, node.UserProvisionOut]{
		kind: node.UserProvision, alone: true, do: r.provision,
		head: func(in node.UserProvisionIn) node.Task { return in.Task },
	})
	register(registry, r, task[node.SSHKeysSyncIn, node.SSHKeysSyncOut]{
		kind: node.SSHKeysSync, alone: true, do: r.syncKeys,
		head: func(in node.SSHKeysSyncIn) node.Task { return in.Task },
	})
	register(registry, r, task[node.GPUHealthIn, node.GPUHealthOut]{
		kind: node.GPUHealth, alone: true, do: r.health,
		head: func(in node.GPUHealthIn) node.Task { return in.Task },
	})
	register(registry, r, task[node.UserRevokeIn, node.UserRevokeOut]{
		kind: node.UserRevoke, alone: true, do: r.revoke,
		head: func(in node.UserRevokeIn) node.Task { return in.Task },
	})
	register(registry, r, task[node.UserSuspendIn, node.UserSuspendOut]{
		kind: node.UserSuspend, alone: true, do: r.suspend,
		head: func(in node.UserSuspendIn) node.Task { return in.Task },
	})
	register(registry, r, task[node.UserResumeIn, node.UserResumeOut]{
		kind: node.UserResume, alone: true, do: r.resume,
		head: func(in node.UserResumeIn) node.Task { return in.Task },
	})
	register(registry, r, task[node.ScrubRunIn, node.ScrubRunOut]{
		kind: node.ScrubRun, alone: true, do: r.scrub,
		head: func(in node.ScrubRunIn) node.Task { return in.Task },
	})
	register(registry, r, task[node.ScrubVerifyIn, node.ScrubVerifyOut]{
		kind: node.ScrubVerify, alone: true, do: r.verify,
		head: func(in node.ScrubVerifyIn) node.Task { return in.Task },
	})
	// An inventory belongs to no lease and changes nothing, so it passes neither fence nor journal.
	register(registry, r, task[node.InventoryReportIn, node.Inventory]{
		kind: node.InventoryReport, do: r.inventory,
		head: func(in node.InventoryReportIn) node.Task { return in.Task },
	})
}

func register[In, Out any](registry worker.ActivityRegistry, r *runner, t task[In, Out]) {
	registry.RegisterActivityWithOptions(func(ctx context.Context, in In) (Out, error) { return run(ctx, r, t, in) },
		activity.RegisterOptions{Name: string(t.kind)})
}

// userOf refuses a name that is not the lease's own: no task can reach another user of the machine.
func userOf(head node.Task, username string) (User, error) {
	user := UserOf(head.Lease())
	if username != user.Name {
		return User{}, final(node.ErrTaskFailed, fmt.Errorf("the user of generation %d is %s, not %q", head.Generation, user.Name, username))
	}
	return user, nil
}

// provision makes the lease's user. A user of an earlier lease that still exists means that the machine was handed on
// unwiped, whatever the platform believes: it is refused, and the allocation looks for another node.
func (r *runner) provision(ctx context.Context, in node.UserProvisionIn) (node.UserProvisionOut, error) {
	user, err := userOf(in.Task, in.Username)
	if err != nil {
		return node.UserProvisionOut{}, err
	}
	tenants, err := r.hands.Users.Tenants(ctx)
	if err != nil {
		return node.UserProvisionOut{}, err
	}
	for _, other := range tenants {
		if other != user {
			return node.UserProvisionOut{}, final(node.ErrTaskFailed, fmt.Errorf("the user %s (%d) of another lease is still on this node", other.Name, other.UID))
		}
	}
	machine, err := r.hands.Machine.Inventory(ctx)
	if err != nil {
		return node.UserProvisionOut{}, err
	}
	home, err := r.hands.Users.Provision(ctx, user)
	if err != nil {
		return node.UserProvisionOut{}, err
	}
	return node.UserProvisionOut{
		Username: user.Name, UID: user.UID, Home: home,
		SSHHost: machine.SSHHost, SSHPort: machine.SSHPort, SSHHostKey: machine.SSHHostKey,
	}, nil
}

func (r *runner) syncKeys(ctx context.Context, in node.SSHKeysSyncIn) (node.SSHKeysSyncOut, error) {
	user, err := userOf(in.Task, in.Username)
	if err != nil {
		return node.SSHKeysSyncOut{}, err
	}
	lines, err := authorizedKeys(in.Keys, in.ProbeKey)
	if err != nil {
		return node.SSHKeysSyncOut{}, final(node.ErrTaskFailed, err)
	}
	if err := r.hands.Keys.Set(ctx, user, lines); err != nil {
		return node.SSHKeysSyncOut{}, err
	}
	return node.SSHKeysSyncOut{Keys: len(lines)}, nil
}

func (r *runner) health(ctx context.Context, in node.GPUHealthIn) (node.GPUHealthOut, error) {
	report, err := r.hands.GPUs.Inspect(ctx)
	if err != nil {
		return node.GPUHealthOut{}, err
	}
	if faults := unfit(report, in.ExpectedModel, in.ExpectedCount); len(faults) > 0 {
		return node.GPUHealthOut{}, final(node.ErrGPUUnhealthy, errors.New(strings.Join(faults, "; ")))
	}
	return node.GPUHealthOut{GPUs: report.GPUs}, nil
}

// revoke shuts the door before it empties the room: nothing that is killed can come back.
func (r *runner) revoke(ctx context.Context, in node.UserRevokeIn) (node.UserRevokeOut, error) {
	user, err := userOf(in.Task, in.Username)
	if err != nil {
		return node.UserRevokeOut{}, err
	}
	killed, err := r.shut(ctx, user)
	return node.UserRevokeOut{ProcessesKilled: killed}, err
}

func (r *runner) shut(ctx context.Context, user User) (killed int, err error) {
	if err := r.hands.Users.Lock(ctx, user); err != nil {
		return 0, err
	}
	if err := r.hands.Keys.Set(ctx, user, nil); err != nil {
		return 0, err
	}
	return r.hands.Processes.Kill(ctx, user)
}

// suspend locks the user out first, so that nothing that is killed can come back.
func (r *runner) suspend(ctx context.Context, in node.UserSuspendIn) (node.UserSuspendOut, error) {
	user, err := userOf(in.Task, in.Username)
	if err != nil {
		return node.UserSuspendOut{}, err
	}
	if err := r.hands.Users.Suspend(ctx, user); err != nil {
		return node.UserSuspendOut{}, err
	}
	killed, err := r.hands.Processes.Kill(ctx, user)
	return node.UserSuspendOut{ProcessesKilled: killed}, err
}

func (r *runner) resume(ctx context.Context, in node.UserResumeIn) (node.UserResumeOut, error) {
	user, err := userOf(in.Task, in.Username)
	if err != nil {
		return node.UserResumeOut{}, err
	}
	return node.UserResumeOut{}, r.hands.Users.Resume(ctx, user)
}

// scrub does not rely on revoke having run. The user goes last: as long as it exists, its files have an owner.
func (r *runner) scrub(ctx context.Context, in node.ScrubRunIn) (node.ScrubRunOut, error) {
	user, err := userOf(in.Task, in.Username)
	if err != nil {
		return node.ScrubRunOut{}, err
	}
	var out node.ScrubRunOut
	if out.ProcessesKilled, err = r.shut(ctx, user); err != nil {
		return out, err
	}
	if out.FilesRemoved, err = r.hands.Files.Remove(ctx, user); err != nil {
		return out, err
	}
	return out, r.hands.Users.Remove(ctx, user)
}

// assurance is what a wipe inside the operating system can attest; more needs a re-image.
const assurance = "user-revoke"

func (r *runner) verify(ctx context.Context, in node.ScrubVerifyIn) (node.ScrubVerifyOut, error) {
	user, err := userOf(in.Task, in.Username)
	if err != nil {
		return node.ScrubVerifyOut{}, err
	}
	findings, err := r.hands.Examiner.Examine(ctx, user)
	if err != nil {
		return node.ScrubVerifyOut{}, err
	}
	evidence := node.ScrubVerifyOut{Assurance: assurance}
	var remains []string
	for _, finding := range findings {
		if len(finding.Remains) > 0 {
			remains = append(remains, finding.Check+": "+strings.Join(finding.Remains, ", "))
			continue
		}
		evidence.Checks = append(evidence.Checks, finding.Check)
	}
	if len(remains) > 0 {
		return node.ScrubVerifyOut{}, retryable(node.ErrScrubIncomplete, errors.New(strings.Join(remains, "; ")))
	}
	if len(evidence.Checks) == 0 {
		return node.ScrubVerifyOut{}, retryable(node.ErrScrubIncomplete, errors.New("nothing was checked, so nothing is proven"))
	}
	return evidence, nil
}

func (r *runner) inventory(ctx context.Context, _ node.InventoryReportIn) (node.Inventory, error) {
	return r.hands.Machine.Inventory(ctx)
}
