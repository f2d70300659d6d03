//go:build integration

package nodeapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/agent/gateway"
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

const (
	testSKU  = id.SKU("h100-1x")
	patience = 40 * time.Second
)

// world is a gateway between real nodes' clients and a real Temporal, with a recorder on either side.
type world struct {
	t         *testing.T
	db        *storetest.Database
	authority *catest.Authority
	temporal  client.Client
	namespace string
	server    *Server
	url       string
	// fromNodes is what the gateway was sent, forwarded what it sent to Temporal.
	fromNodes, forwarded *recorder
	tokenKeys            string
}

// recorder keeps every request that passes, by method.
type recorder struct {
	mu   sync.Mutex
	seen map[string][]proto.Message
}

func (r *recorder) note(method string, request any) {
	message, ok := request.(proto.Message)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string][]proto.Message{}
	}
	r.seen[method] = append(r.seen[method], proto.Clone(message))
}

func (r *recorder) requests(method string) []proto.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]proto.Message(nil), r.seen[method]...)
}

func (r *recorder) all() map[string][]proto.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	copied := map[string][]proto.Message{}
	for method, requests := range r.seen {
		copied[method] = append([]proto.Message(nil), requests...)
	}
	return copied
}

func newWorld(t *testing.T, changes ...func(*Config)) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cluster := temporaltest.New(t, workflows.SearchAttributes()...)
	w := &world{t: t, db: storetest.New(t), authority: catest.New(t), namespace: cluster.Namespace, fromNodes: &recorder{}, forwarded: &recorder{}, tokenKeys: newKey}
	var err error
	if w.temporal, err = internaltemporal.Dial(ctx, cluster, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.temporal.Close)
	connection, err := grpc.NewClient(cluster.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			w.forwarded.note(method, request)
			return invoke(ctx, method, request, reply, connection, options...)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	w.seed(ctx)
	certificate, err := mtls.Issue(ctx, w.authority, mtls.ServiceAPI, []string{"127.0.0.1", "localhost"}, time.Hour, log)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		Pool: w.db.App, Temporal: w.temporal, Frontend: workflowservice.NewWorkflowServiceClient(connection), Namespace: w.namespace,
		Authority: w.authority, Certificate: certificate, Keys: keysOf(t, w.tokenKeys), Policy: policy.New(w.db.App), Log: log,
	}
	for _, change := range changes {
		change(&config)
	}
	if w.server, err = New(config); err != nil {
		t.Fatal(err)
	}
	w.server.grpc = w.server.workflowService(grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		w.fromNodes.note(info.FullMethod, request)
		return handle(ctx, request)
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	return w
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", line)
	return len(line), nil
}

func (w *world) seed(ctx context.Context) {
	w.t.Helper()
	_, err := queries.InsertSKU(ctx, w.db.App, queries.SKU{
		ID: testSKU, Name: "One H100", GPUModel: "H100", GPUCount: 1, GPUMemoryBytes: 80 << 30, CPUModel: "x86", CPUCount: 8,
		MemoryBytes: 64 << 30, DiskBytes: 1 << 40, OSImage: "debian-12", CUDAVersion: "12.8", Location: "here", Offered: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.setPolicy("node.heartbeat_interval_seconds", 1)
	w.setPolicy("node.offline_after_seconds", 2)
}

func (w *world) setPolicy(key string, value int) {
	w.t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := queries.InsertPolicyValue(context.Background(), w.db.App, queries.PolicyValue{Key: key, Version: 1, Value: encoded, Reason: "test", ActorUserID: "platform"}); err != nil {
		w.t.Fatal(err)
	}
}

// token makes an enrolment token for a new node.
func (w *world) token(hostname string, life time.Duration) (string, id.Node) {
	w.t.Helper()
	var entropy [16]byte
	_, _ = rand.Read(entropy[:])
	nodeID, text := id.New[id.Node](entropy), rand.Text()
	w.insertToken(text, nodeID, hostname, life)
	return text, nodeID
}

func (w *world) insertToken(text string, nodeID id.Node, hostname string, life time.Duration) {
	w.t.Helper()
	err := queries.InsertEnrolToken(context.Background(), w.db.App, sha256.Sum256([]byte(text)), queries.EnrolToken{
		NodeID: nodeID, SKU: testSKU, Hostname: hostname, CreatedBy: "user_test", ExpiresAt: time.Now().Add(life),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) trust() gateway.Trust { return gateway.Trust{RootPEM: w.authority.RootPEM()} }

// enrolled is a node with an identity of its own.
func (w *world) enrolled(hostname string) *gateway.Client {
	w.t.Helper()
	text, _ := w.token(hostname, time.Hour)
	files := gateway.Files{Directory: w.t.TempDir()}
	if _, err := gateway.Enrol(w.ctx(), w.url, w.trust(), text, node.Inventory{Hostname: hostname}, files); err != nil {
		w.t.Fatal(err)
	}
	node, err := gateway.Connect(w.url, files, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(node.Close)
	return node
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// dial is the real SDK's client of a node, through the gateway.
func (w *world) dial(n *gateway.Client) client.Client {
	w.t.Helper()
	through, err := n.TemporalClient(w.ctx(), w.namespace)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(through.Close)
	return through
}

func (w *world) deny(nodeID id.Node) {
	w.t.Helper()
	if _, err := w.db.Owner.Exec(context.Background(), "UPDATE nodes SET scheduling = 'denied' WHERE id = $1", nodeID); err != nil {
		w.t.Fatal(err)
	}
}

// platform runs what answers the Node workflow: real workflow, real steps.
func (w *world) platform() {
	w.t.Helper()
	provisioning := worker.New(w.temporal, workflows.ProvisioningQueue, worker.Options{})
	provisioning.RegisterWorkflowWithOptions(workflows.Node, workflow.RegisterOptions{Name: workflows.NodeType})
	steps := worker.New(w.temporal, workflows.AllocationsQueue, worker.Options{})
	(&activities.Nodes{Pool: w.db.App}).Bind(steps)
	for _, one := range []worker.Worker{provisioning, steps} {
		if err := one.Start(); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(one.Stop)
	}
}

// taskQueue is where the test's own workflow runs that gives tasks to nodes.
const taskQueue = "gateway-test"

type nodeTask struct {
	Node id.Node
	// Kind is the activity; Wait is how long it may run.
	Kind node.TaskKind
	Wait time.Duration
}

func runNodeTask(ctx workflow.Context, in nodeTask) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: workflows.NodeQueue(in.Node), StartToCloseTimeout: in.Wait, HeartbeatTimeout: 5 * time.Second, ScheduleToStartTimeout: in.Wait,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}, WaitForCancellation: true,
	})
	var out string
	err := workflow.ExecuteActivity(ctx, string(in.Kind), "input").Get(ctx, &out)
	return out, err
}

// give schedules a task for a node, as only a workflow can.
func (w *world) give(in nodeTask) client.WorkflowRun {
	w.t.Helper()
	if in.Wait == 0 {
		in.Wait = 30 * time.Second
	}
	run, err := w.temporal.ExecuteWorkflow(w.ctx(), client.StartWorkflowOptions{TaskQueue: taskQueue, ID: "give-" + rand.Text()}, "NodeTask", in)
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

func (w *world) giver() {
	w.t.Helper()
	giver := worker.New(w.temporal, taskQueue, worker.Options{})
	giver.RegisterWorkflowWithOptions(runNodeTask, workflow.RegisterOptions{Name: "NodeTask"})
	if err := giver.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(giver.Stop)
}

// work runs an agent's worker: activities that answer, fail, or run until they are cancelled.
func (w *world) work(through client.Client, nodeID id.Node) worker.Worker {
	w.t.Helper()
	agent := worker.New(through, workflows.NodeQueue(nodeID), worker.Options{
		DisableWorkflowWorker: true, MaxHeartbeatThrottleInterval: time.Second, DefaultHeartbeatThrottleInterval: time.Second,
	})
	agent.RegisterActivityWithOptions(func(_ context.Context, input string) (string, error) { return "done " + input, nil },
		activity.RegisterOptions{Name: string(node.GPUHealth)})
	agent.RegisterActivityWithOptions(func(context.Context, string) (string, error) {
		return "", temporal.NewApplicationErrorWithOptions("two processes are left", node.ErrScrubIncomplete, temporal.ApplicationErrorOptions{
			NonRetryable: true, Details: []any{2}, Cause: context.DeadlineExceeded,
		})
	}, activity.RegisterOptions{Name: string(node.ScrubVerify)})
	agent.RegisterActivityWithOptions(func(ctx context.Context, _ string) (string, error) {
		for {
			activity.RecordHeartbeat(ctx, "alive")
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
		}
	}, activity.RegisterOptions{Name: string(node.ScrubRun)})
	if err := agent.Start(); err != nil {
		w.t.Fatal(err)
	}
	return agent
}

func names(list ...*url.URL) []*url.URL { return list }
