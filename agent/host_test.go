//go:build hostroot

package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/gpuaas/gpuaas/agent"
	"github.com/gpuaas/gpuaas/agent/gpu"
	"github.com/gpuaas/gpuaas/agent/machine"
	"github.com/gpuaas/gpuaas/agent/sshtest"
	"github.com/gpuaas/gpuaas/agent/users"
	"github.com/gpuaas/gpuaas/agent/wipe"
	"github.com/gpuaas/gpuaas/domain/node"
)

// host is this machine with an sshd of the test's own, and the agent's real hands.
type host struct {
	t     *testing.T
	env   *testsuite.TestActivityEnvironment
	homes string
	roots []string
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making operating-system users needs root")
	}
	// Homes lie where any user may enter: the temporary directory of a test is root's alone.
	homes, err := os.MkdirTemp("/home", "gpuaas-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(homes, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(homes)) })
	sshd := sshtest.Start(t)
	h := &host{t: t, homes: homes, roots: []string{homes, "/tmp", "/var/tmp", "/dev/shm", "/var/spool/cron"}}
	devices := gpu.Open(slog.New(slog.DiscardHandler))
	t.Cleanup(devices.Close)
	accounts := users.Accounts{HomeRoot: homes}
	served, err := agent.Open(agent.Config{
		Directory: t.TempDir(), Log: slog.New(slog.NewJSONHandler(t.Output(), nil)),
		Hands: agent.Hands{
			Readiness: machine.Readiness{}, Users: accounts, Keys: accounts, Processes: wipe.Processes{},
			Files:    wipe.Scrubber{Roots: h.roots, HomeRoot: homes},
			Examiner: wipe.Examiner{Roots: h.roots, HomeRoot: homes, GPUProcesses: devices.Processes},
			GPUs:     devices,
			Machine:  machine.Host{SSHHost: "127.0.0.1", SSHPort: sshd.Port, SSHHostKeyFile: sshd.HostKeyFile, HomeRoot: homes},
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, served.Close()) })
	var suite testsuite.WorkflowTestSuite
	h.env = suite.NewTestActivityEnvironment()
	h.env.SetTestTimeout(time.Minute)
	served.Bind(h.env)
	return h
}

func (h *host) head(generation int64, step string, attempt int) node.Task {
	return node.Task{AllocationID: "alloc_a", Generation: generation, Step: step, Attempt: attempt, Deadline: time.Now().Add(time.Minute)}
}

func perform[Out any](h *host, kind node.TaskKind, in any) (Out, error) {
	var out Out
	value, err := h.env.ExecuteActivity(string(kind), in)
	if err != nil {
		return out, err
	}
	return out, value.Get(&out)
}

// hostGeneration is a lease far above what this machine would have of its own.
const hostGeneration = 700_000

// A real user is made, logs in over a real sshd, leaves what a tenant may leave, and is wiped: without a trace, without
// anything of others being touched, and with the check telling the truth before and after.
func TestARealUserComesAndGoes(t *testing.T) {
	h := newHost(t)
	username := node.Username(node.Lease{Generation: hostGeneration})
	user := agent.UserOf(node.Lease{Generation: hostGeneration})
	t.Cleanup(func() {
		_, _ = wipe.Processes{}.Kill(context.Background(), user)
		_, _ = wipe.Scrubber{Roots: h.roots, HomeRoot: h.homes}.Remove(context.Background(), user)
		_ = users.Accounts{HomeRoot: h.homes}.Remove(context.Background(), user)
	})
	provision := func(attempt int) node.UserProvisionOut {
		access, err := perform[node.UserProvisionOut](h, node.UserProvision, node.UserProvisionIn{Task: h.head(hostGeneration, "provision", attempt), Username: username})
		require.NoError(t, err)
		return access
	}
	access := provision(1)
	require.Equal(t, access, provision(2), "a second attempt converges")
	require.Equal(t, user.UID, access.UID)
	tenant, tenantKey := sshtest.NewKey(t)
	probe, probeKey := sshtest.NewKey(t)
	keys, err := perform[node.SSHKeysSyncOut](h, node.SSHKeysSync, node.SSHKeysSyncIn{
		Task: h.head(hostGeneration, "keys", 1), Username: username, Keys: []string{tenantKey}, ProbeKey: probeKey,
	})
	require.NoError(t, err)
	require.Equal(t, 2, keys.Keys)

	prober, err := sshtest.LogIn(t, access, probe)
	require.NoError(t, err)
	require.Empty(t, sshtest.Say(t, prober, "touch "+access.Home+"/forced"), "the forced command runs instead")
	require.NoFileExists(t, access.Home+"/forced")
	require.NoError(t, prober.Close())

	guest, err := sshtest.LogIn(t, access, tenant)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("uid=%d(%s) gid=%d(%s) groups=%d(%s)\n", user.UID, username, user.UID, username, user.UID, username), sshtest.Say(t, guest, "id"))
	require.Equal(t, "700\n", sshtest.Say(t, guest, "stat -c %a ~"))
	outside := filepath.Join(h.homes, "another")
	require.NoError(t, os.MkdirAll(outside, 0o755))
	precious := filepath.Join(outside, "precious")
	require.NoError(t, os.WriteFile(precious, []byte("x"), 0o644))
	remains := t.Name()
	sshtest.Say(t, guest, strings.Join([]string{
		"mkdir -p ~/train && echo x > ~/train/model",
		"ln -s " + outside + " ~/train/away && ln -s " + outside + " /tmp/" + remains + "-link",
		"mkdir /var/tmp/" + remains + " && echo x > /var/tmp/" + remains + "/f",
		"echo x > /dev/shm/" + remains,
		"d=~/deep; mkdir $d; cd $d; i=0; while [ $i -lt 400 ]; do mkdir d; cd d; i=$((i+1)); done; echo x > bottom",
		"ipcmk -M 4096 -S 1 -Q > /dev/null",
		"(setsid sleep 600 > /dev/null 2>&1 < /dev/null &)",
		"(trap '' HUP TERM INT; while :; do sleep 600; done) > /dev/null 2>&1 < /dev/null &",
	}, "\n"))

	suspended, err := perform[node.UserSuspendOut](h, node.UserSuspend, node.UserSuspendIn{Task: h.head(hostGeneration, "suspend", 1), Username: username})
	require.NoError(t, err)
	require.GreaterOrEqual(t, suspended.ProcessesKilled, 3)
	require.Error(t, guest.Wait(), "the suspension ended the session")
	_, err = sshtest.LogIn(t, access, tenant)
	require.Error(t, err, "a suspended user logs in")
	require.FileExists(t, access.Home+"/train/model")
	_, err = perform[node.UserResumeOut](h, node.UserResume, node.UserResumeIn{Task: h.head(hostGeneration, "resume", 2), Username: username})
	require.NoError(t, err)
	guest, err = sshtest.LogIn(t, access, tenant)
	require.NoError(t, err, "after the suspension")
	require.Equal(t, "x\n", sshtest.Say(t, guest, "cat ~/train/model"))
	sshtest.Say(t, guest, strings.Join([]string{
		"(setsid sleep 600 > /dev/null 2>&1 < /dev/null &)",
		"(trap '' HUP TERM INT; while :; do sleep 600; done) > /dev/null 2>&1 < /dev/null &",
	}, "\n"))

	verify := func(attempt int) (node.ScrubVerifyOut, error) {
		return perform[node.ScrubVerifyOut](h, node.ScrubVerify, node.ScrubVerifyIn{Task: h.head(hostGeneration, "verify", attempt), Username: username})
	}
	_, err = verify(1)
	require.Error(t, err)
	for _, check := range []string{"no_process", "no_user", "no_group", "no_file", "no_ipc"} {
		require.ErrorContains(t, err, check)
	}
	revoked, err := perform[node.UserRevokeOut](h, node.UserRevoke, node.UserRevokeIn{Task: h.head(hostGeneration, "revoke", 1), Username: username})
	require.NoError(t, err)
	require.GreaterOrEqual(t, revoked.ProcessesKilled, 3)
	_, err = sshtest.LogIn(t, access, tenant)
	require.Error(t, err, "the door is shut")
	require.Error(t, guest.Wait(), "the session was ended")

	scrubbed, err := perform[node.ScrubRunOut](h, node.ScrubRun, node.ScrubRunIn{Task: h.head(hostGeneration, "scrub", 1), Username: username})
	require.NoError(t, err)
	require.Greater(t, scrubbed.FilesRemoved, int64(400))
	evidence, err := verify(2)
	require.NoError(t, err)
	require.Equal(t, []string{"no_process", "no_user", "no_group", "no_file", "no_ipc", "no_schedule", "gpu_memory_free"}, evidence.Checks)
	_, err = perform[node.ScrubRunOut](h, node.ScrubRun, node.ScrubRunIn{Task: h.head(hostGeneration, "scrub", 2), Username: username})
	require.NoError(t, err, "wiping what is clean converges")

	require.FileExists(t, precious, "no symbolic link was followed")
	passwd, err := os.ReadFile("/etc/passwd")
	require.NoError(t, err)
	require.NotContains(t, string(passwd), username)
	_, err = perform[node.UserProvisionOut](h, node.UserProvision, node.UserProvisionIn{Task: h.head(hostGeneration, "provision", 3), Username: username})
	require.ErrorContains(t, err, "comes too late")
}
