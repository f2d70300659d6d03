//go:build hostroot

package process

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gpuaas/gpuaas/agent/sshtest"
	"github.com/gpuaas/gpuaas/api/nodeapi"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/ca/catest"
	"github.com/gpuaas/gpuaas/internal/mtls"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	internaltemporal "github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// hostTask is what the test's own workflow gives to a node.
type hostTask struct {
	Queue string
	Kind  node.TaskKind
	In    json.RawMessage
}

func giveHostTask(ctx workflow.Context, in hostTask) (json.RawMessage, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: in.Queue, ScheduleToStartTimeout: time.Minute, StartToCloseTimeout: time.Minute, HeartbeatTimeout: 25 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	var out json.RawMessage
	err := workflow.ExecuteActivity(ctx, string(in.Kind), in.In).Get(ctx, &out)
	return out, err
}

// hostNode is a gateway before a real Temporal and Postgres, a real sshd, and the program cmd/node-agent serving this
// very machine.
type hostNode struct {
	t       *testing.T
	cluster client.Client
	nodeID  id.Node
	env     []string
	program string
	homes   string
	running *exec.Cmd
}

const hostQueue = "host-test"

func newHostNode(t *testing.T) *hostNode {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a real node agent needs root")
	}
	sshd := sshtest.Start(t)
	log := slog.New(slog.NewJSONHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	cluster := temporaltest.New(t, workflows.SearchAttributes()...)
	through, err := internaltemporal.Dial(t.Context(), cluster, log)
	require.NoError(t, err)
	t.Cleanup(through.Close)
	frontend, err := grpc.NewClient(cluster.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, frontend.Close()) })
	db, authority := storetest.New(t), catest.New(t)
	certificate, err := mtls.Issue(t.Context(), authority, mtls.ServiceAPI, []string{"127.0.0.1"}, time.Hour, log)
	require.NoError(t, err)
	keys, err := nodeapi.ParseTokenKeys("k1:" + strings.Repeat("5a", 32))
	require.NoError(t, err)
	gatewayServer, err := nodeapi.New(nodeapi.Config{
		Pool: db.App, Temporal: through, Frontend: workflowservice.NewWorkflowServiceClient(frontend), Namespace: cluster.Namespace,
		Authority: authority, Certificate: certificate, Keys: keys, Policy: policy.New(db.App), Log: log,
	})
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serving, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- gatewayServer.Serve(serving, listener) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-served) })

	giver := worker.New(through, hostQueue, worker.Options{})
	giver.RegisterWorkflowWithOptions(giveHostTask, workflow.RegisterOptions{Name: "HostTask"})
	require.NoError(t, giver.Start())
	t.Cleanup(giver.Stop)

	h := &hostNode{t: t, cluster: through, program: filepath.Join(t.TempDir(), "node-agent")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", h.program, "../../cmd/node-agent")
	build.Env = append(os.Environ(), "CGO_CFLAGS=-w")
	text, err := build.CombinedOutput()
	require.NoError(t, err, string(text))
	h.homes, err = os.MkdirTemp("/home", "gpuaas-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(h.homes, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(h.homes)) })
	root := filepath.Join(t.TempDir(), "root.pem")
	require.NoError(t, os.WriteFile(root, authority.RootPEM(), 0o600))
	h.env = []string{
		"PATH=" + os.Getenv("PATH"), "GPUAAS_NODE_MODE=real", "GPUAAS_NODE_GATEWAY_URL=https://" + listener.Addr().String(),
		"GPUAAS_CA_ROOT_FILE=" + root, "GPUAAS_NODE_DIRECTORY=" + t.TempDir(), "GPUAAS_ENROL_TOKEN=" + h.token(db),
		"GPUAAS_SSH_HOST=127.0.0.1", "GPUAAS_SSH_PORT=" + strconv.Itoa(sshd.Port), "GPUAAS_SSH_HOST_KEY_FILE=" + sshd.HostKeyFile,
		"GPUAAS_HOME_ROOT=" + h.homes, "GPUAAS_SCRUB_ROOTS=" + h.homes + ",/tmp,/var/tmp,/dev/shm",
	}
	return h
}

// token seeds a SKU and mints a one-time token for this machine.
func (h *hostNode) token(db *storetest.Database) string {
	h.t.Helper()
	const sku = id.SKU("h100-1x")
	_, err := queries.InsertSKU(h.t.Context(), db.App, queries.SKU{
		ID: sku, Name: "One H100", GPUModel: "H100", GPUCount: 1, GPUMemoryBytes: 80 << 30, CPUModel: "x86", CPUCount: 8,
		MemoryBytes: 64 << 30, DiskBytes: 1 << 40, OSImage: "debian-12", CUDAVersion: "12.8", Location: "here", Offered: true,
	})
	require.NoError(h.t, err)
	var entropy [16]byte
	_, _ = rand.Read(entropy[:])
	h.nodeID = id.New[id.Node](entropy)
	text := rand.Text()
	require.NoError(h.t, queries.InsertEnrolToken(h.t.Context(), db.App, sha256.Sum256([]byte(text)), queries.EnrolToken{
		NodeID: h.nodeID, SKU: sku, Hostname: "this-host", CreatedBy: "user_test", ExpiresAt: time.Now().Add(time.Hour),
	}))
	return text
}

func (h *hostNode) start() {
	h.t.Helper()
	h.running = exec.Command(h.program)
	h.running.Env, h.running.Stdout, h.running.Stderr = h.env, h.t.Output(), h.t.Output()
	require.NoError(h.t, h.running.Start())
}

// end asks the agent to stop, or kills it, and answers its exit status.
func (h *hostNode) end(signal syscall.Signal) int {
	h.t.Helper()
	require.NoError(h.t, h.running.Process.Signal(signal))
	_ = h.running.Wait() // its status is what is looked at
	return h.running.ProcessState.ExitCode()
}

// give runs one task on the node through Temporal and the gateway.
func give[Out any](h *hostNode, kind node.TaskKind, in any) (Out, error) {
	h.t.Helper()
	var out Out
	encoded, err := json.Marshal(in)
	require.NoError(h.t, err)
	ctx, cancel := context.WithTimeout(h.t.Context(), 90*time.Second)
	defer cancel()
	run, err := h.cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: hostQueue, ID: "host-" + rand.Text()}, "HostTask",
		hostTask{Queue: workflows.NodeQueue(h.nodeID), Kind: kind, In: encoded})
	require.NoError(h.t, err)
	var raw json.RawMessage
	if err := run.Get(ctx, &raw); err != nil {
		return out, err
	}
	return out, json.Unmarshal(raw, &out)
}

// A real cmd/node-agent enrols, makes a real user who logs in over a real sshd, is killed with kill -9 and started
// again, wipes and verifies, and leaves nothing.
func TestARealNodeAgentServesThisMachine(t *testing.T) {
	h := newHostNode(t)
	h.start()
	t.Cleanup(func() { _ = h.running.Process.Kill() })
	lease := node.Lease{NodeID: h.nodeID, AllocationID: id.New[id.Allocation]([16]byte{1}), Generation: 700_001}
	username := node.Username(lease)
	t.Cleanup(func() { _ = exec.Command("userdel", "--force", username).Run() }) // gone already unless the test broke off
	head := func(step string, attempt int) node.Task {
		return node.Task{
			AllocationID: lease.AllocationID, NodeID: lease.NodeID, Generation: lease.Generation, Step: step, Attempt: attempt,
			Deadline: time.Now().Add(time.Minute),
		}
	}
	provisionIn := node.UserProvisionIn{Task: head("provision", 1), Username: username}
	access, err := give[node.UserProvisionOut](h, node.UserProvision, provisionIn)
	require.NoError(t, err)
	require.Equal(t, node.UID(lease), access.UID)
	signer, key := sshtest.NewKey(t)
	_, err = give[node.SSHKeysSyncOut](h, node.SSHKeysSync, node.SSHKeysSyncIn{
		Task: head("keys", 1), Username: username, Keys: []string{key},
	})
	require.NoError(t, err)
	_, err = give[node.GPUHealthOut](h, node.GPUHealth, node.GPUHealthIn{Task: head("health", 1), ExpectedModel: "H100", ExpectedCount: 64})
	var unfit *temporal.ApplicationError
	require.ErrorAs(t, err, &unfit)
	require.Equal(t, node.ErrGPUUnhealthy, unfit.Type(), "this machine has not 64 GPUs, and says so")

	guest, err := sshtest.LogIn(t, access, signer)
	require.NoError(t, err)
	told := sshtest.Say(t, guest, "id -u; echo secret > ~/secret; (setsid sleep 600 > /dev/null 2>&1 < /dev/null &)")
	require.Equal(t, fmt.Sprintf("%d\n", access.UID), told)

	require.Equal(t, -1, h.end(syscall.SIGKILL))
	h.start()
	again, err := give[node.UserProvisionOut](h, node.UserProvision, provisionIn)
	require.NoError(t, err)
	require.Equal(t, access, again, "the success is replayed after the kill")

	revoked, err := give[node.UserRevokeOut](h, node.UserRevoke, node.UserRevokeIn{Task: head("revoke", 1), Username: username})
	require.NoError(t, err)
	require.GreaterOrEqual(t, revoked.ProcessesKilled, 2)
	require.Error(t, guest.Wait())
	_, err = sshtest.LogIn(t, access, signer)
	require.Error(t, err)
	_, err = give[node.ScrubVerifyOut](h, node.ScrubVerify, node.ScrubVerifyIn{Task: head("verify", 1), Username: username})
	require.ErrorContains(t, err, "secret")
	_, err = give[node.ScrubRunOut](h, node.ScrubRun, node.ScrubRunIn{Task: head("scrub", 1), Username: username})
	require.NoError(t, err)
	evidence, err := give[node.ScrubVerifyOut](h, node.ScrubVerify, node.ScrubVerifyIn{Task: head("verify", 2), Username: username})
	require.NoError(t, err)
	require.Contains(t, evidence.Checks, "no_file")
	left, err := os.ReadDir(h.homes)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Error(t, exec.Command("id", username).Run(), "there is no such user")
	require.Equal(t, 0, h.end(syscall.SIGTERM))
}
