package sim

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"golang.org/x/crypto/ssh"

	"github.com/gpuaas/gpuaas/agent"
	"github.com/gpuaas/gpuaas/agent/sshtest"
	"github.com/gpuaas/gpuaas/domain/node"
)

// bench is a node with its door open and its tasks callable, without a platform.
type bench struct {
	t     *testing.T
	fleet *Fleet
	node  *Node
	env   *testsuite.TestActivityEnvironment
	door  *door
}

func newBench(t *testing.T, plant string) *bench {
	t.Helper()
	fleet, err := OpenFleet(FleetConfig{Directory: t.TempDir(), Plant: plant, Log: slog.New(slog.DiscardHandler)}, []Member{
		{Name: "sim-1", GPUModel: "NVIDIA H100 80GB HBM3", GPUCount: 8, GPUMemoryBytes: 80 << 30},
	})
	require.NoError(t, err)
	n := fleet.Nodes()[0]
	opened, err := openDoor(t.Context(), n.home, n.config, n.machine, n.hardware)
	require.NoError(t, err)
	served, err := agent.Open(agent.Config{Directory: n.home, Hands: n.hands(), Log: n.config.Log})
	require.NoError(t, err)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	served.Bind(env)
	t.Cleanup(func() { opened.close(); require.NoError(t, served.Close()) })
	return &bench{t: t, fleet: fleet, node: n, env: env, door: opened}
}

func head(generation int64, step string, attempt int) node.Task {
	return node.Task{
		AllocationID: "alloc_a", Generation: generation, Step: step, Attempt: attempt, Deadline: time.Now().Add(time.Minute),
	}
}

func do[Out any](b *bench, kind node.TaskKind, in any) (Out, error) {
	var out Out
	value, err := b.env.ExecuteActivity(string(kind), in)
	if err != nil {
		return out, err
	}
	return out, value.Get(&out)
}

// lease opens generation 1 with one tenant key and the probe's.
func (b *bench) lease(generation int64) (access node.UserProvisionOut, tenant, probe ssh.Signer) {
	b.t.Helper()
	username := node.Username(node.Lease{Generation: generation})
	access, err := do[node.UserProvisionOut](b, node.UserProvision, node.UserProvisionIn{Task: head(generation, "provision", 1), Username: username})
	require.NoError(b.t, err)
	tenant, tenantKey := sshtest.NewKey(b.t)
	probe, probeKey := sshtest.NewKey(b.t)
	_, err = do[node.SSHKeysSyncOut](b, node.SSHKeysSync, node.SSHKeysSyncIn{
		Task: head(generation, "keys", 1), Username: username, Keys: []string{tenantKey}, ProbeKey: probeKey,
	})
	require.NoError(b.t, err)
	return access, tenant, probe
}

func (b *bench) wipe(generation int64, attempt int) (node.ScrubVerifyOut, error) {
	username := node.Username(node.Lease{Generation: generation})
	if _, err := do[node.UserRevokeOut](b, node.UserRevoke, node.UserRevokeIn{Task: head(generation, "revoke", attempt), Username: username}); err != nil {
		return node.ScrubVerifyOut{}, err
	}
	if _, err := do[node.ScrubRunOut](b, node.ScrubRun, node.ScrubRunIn{Task: head(generation, "scrub", attempt), Username: username}); err != nil {
		return node.ScrubVerifyOut{}, err
	}
	return do[node.ScrubVerifyOut](b, node.ScrubVerify, node.ScrubVerifyIn{Task: head(generation, "verify", attempt), Username: username})
}

func TestATenantLivesOnASimulatedNode(t *testing.T) {
	b := newBench(t, "")
	access, tenant, probe := b.lease(1)
	prober, err := sshtest.LogIn(t, access, probe)
	require.NoError(t, err)
	require.Empty(t, sshtest.Say(t, prober, "touch should-not-exist"), "the forced command runs instead")
	require.NoError(t, prober.Close())

	guest, err := sshtest.LogIn(t, access, tenant)
	require.NoError(t, err)
	require.Equal(t, 8, strings.Count(sshtest.Say(t, guest, "nvidia-smi -L"), "NVIDIA H100"))
	require.Equal(t, access.Username+"\n", sshtest.Say(t, guest, "whoami"))
	sshtest.Say(t, guest, "touch model.bin /tmp/scratch")
	shell, err := guest.NewSession()
	require.NoError(t, err)
	var said bytes.Buffer
	shell.Stdin, shell.Stdout = strings.NewReader("hostname\nexit\n"), &said
	require.NoError(t, shell.Shell())
	require.NoError(t, shell.Wait())
	require.Contains(t, said.String(), "sim-1")

	state := b.node.State()
	require.Equal(t, []string{"gpu1"}, state.Users)
	require.Contains(t, state.Files, "/home/gpu1/model.bin")
	require.Contains(t, state.Files, "/tmp/scratch")
	require.NotContains(t, state.Files, "/home/gpu1/should-not-exist")
	require.NotEmpty(t, state.Processes)
	stranger, _ := sshtest.NewKey(t)
	_, err = sshtest.LogIn(t, access, stranger)
	require.Error(t, err)

	cut := make(chan struct{})
	go func() { _ = guest.Wait(); close(cut) }()
	_, err = do[node.UserSuspendOut](b, node.UserSuspend, node.UserSuspendIn{Task: head(1, "suspend", 1), Username: access.Username})
	require.NoError(t, err)
	await(t, cut, "the tenant's session outlived the suspension")
	_, err = sshtest.LogIn(t, access, tenant)
	require.Error(t, err, "a suspended user logs in")
	require.Contains(t, b.node.State().Files, "/home/gpu1/model.bin")
	_, err = do[node.UserResumeOut](b, node.UserResume, node.UserResumeIn{Task: head(1, "resume", 2), Username: access.Username})
	require.NoError(t, err)
	guest, err = sshtest.LogIn(t, access, tenant)
	require.NoError(t, err, "after the suspension")

	gone := make(chan struct{})
	go func() { _ = guest.Wait(); close(gone) }()
	evidence, err := b.wipe(1, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"no_process", "no_user", "no_file", "gpu_memory_free"}, evidence.Checks)
	await(t, gone, "the tenant's session outlived the wipe")
	_, err = sshtest.LogIn(t, access, tenant)
	require.Error(t, err)
	state = b.node.State()
	require.Empty(t, state.Users)
	require.Empty(t, state.Files)
}

func await(t *testing.T, signal <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(10 * time.Second):
		t.Fatal(otherwise)
	}
}

func TestTheMachineSurvivesAKill(t *testing.T) {
	b := newBench(t, "")
	b.lease(1)
	content, err := os.ReadFile(filepath.Join(b.node.home, "state.json"))
	require.NoError(t, err)
	var seen struct{ Users, Files []string }
	require.NoError(t, json.Unmarshal(content, &seen))
	require.Equal(t, []string{"gpu1"}, seen.Users)
	reopened, err := Open(b.node.config)
	require.NoError(t, err)
	require.Equal(t, b.node.State().Files, reopened.State().Files)
	require.NotEmpty(t, reopened.machine.accounts["gpu1"].Keys)
}

func TestALieIsFoundByTheCheckUnlessBothLie(t *testing.T) {
	b := newBench(t, "")
	b.lease(1)
	b.node.SkipWipe(true, false)
	_, err := b.wipe(1, 1)
	require.ErrorContains(t, err, "/home/gpu1/.bashrc")
	b.node.SkipWipe(false, false)
	_, err = b.wipe(1, 2)
	require.NoError(t, err)

	planted := newBench(t, PlantSkipWipe)
	planted.lease(1)
	_, err = planted.wipe(1, 1)
	require.NoError(t, err, "both lie")
	require.NotEmpty(t, planted.node.State().Files, "and whoever looks sees it")
}

func TestOrdersOfADrill(t *testing.T) {
	b := newBench(t, "")
	server := httptest.NewServer(b.fleet.Control())
	defer server.Close()
	post := func(path, body string) int {
		response, err := http.Post(server.URL+path, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, 200, post("/nodes/sim-1/fail", `{"task":"gpu.health","times":1}`))
	require.Equal(t, 200, post("/nodes/sim-1/slow", `{"task":"scrub.run","delay_ms":30}`))
	require.Equal(t, 200, post("/nodes/sim-1/gpu", `{"index":2,"uncorrected_ecc":5}`))
	require.Equal(t, 400, post("/nodes/sim-1/fail", `{"task":"exec","times":1}`))
	require.Equal(t, 404, post("/nodes/sim-9/vanish", ``))
	health := func(attempt int) error {
		_, err := do[node.GPUHealthOut](b, node.GPUHealth, node.GPUHealthIn{Task: head(1, "health", attempt), ExpectedModel: "NVIDIA H100 80GB HBM3", ExpectedCount: 8})
		return err
	}
	require.ErrorContains(t, health(1), "told to fail")
	require.ErrorContains(t, health(2), "GPU 2 has 5 uncorrected memory errors")
	require.Equal(t, 200, post("/nodes/sim-1/gpu", `{"index":2}`))
	require.NoError(t, health(3))
	b.lease(1)
	began := time.Now()
	_, err := b.wipe(1, 1)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
	require.Equal(t, 200, post("/nodes/sim-1/vanish", ``))
	require.False(t, b.node.State().Present)
	require.Equal(t, 200, post("/nodes/sim-1/return", ``))
	require.True(t, b.node.State().Present)
}
