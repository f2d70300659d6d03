//go:build integration

package process_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"

	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/agent/sim"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/ca"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// crossroads stands before the gateways of two replicas as a balancer does: it gives each new connection to the one
// after the last, or all to one.
type crossroads struct {
	address string
	mutex   sync.Mutex
	sides   []string
	only    int // -1: in turn
	next    int
	given   []int
	open    map[net.Conn]bool
}

func newCrossroads(t *testing.T, sides ...string) *crossroads {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &crossroads{address: listener.Addr().String(), sides: sides, only: -1, given: make([]int, len(sides)), open: map[net.Conn]bool{}}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { c.pass(from) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		c.cut()
		passing.Wait()
	})
	return c
}

func (c *crossroads) pass(from net.Conn) {
	c.mutex.Lock()
	side := c.only
	if side < 0 {
		side, c.next = c.next%len(c.sides), c.next+1
	}
	c.given[side]++
	target := c.sides[side]
	c.mutex.Unlock()
	to, err := net.Dial("tcp", target)
	if err != nil {
		_ = from.Close()
		return
	}
	c.mutex.Lock()
	c.open[from], c.open[to] = true, true
	c.mutex.Unlock()
	var ways sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		ways.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = way[0].Close(), way[1].Close()
		})
	}
	ways.Wait()
	c.mutex.Lock()
	delete(c.open, from)
	delete(c.open, to)
	c.mutex.Unlock()
}

// turn gives every connection from now on to one side, and cuts those that there are.
func (c *crossroads) turn(side int) {
	c.mutex.Lock()
	c.only = side
	c.mutex.Unlock()
	c.cut()
}

func (c *crossroads) cut() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for connection := range c.open {
		_ = connection.Close()
	}
}

func (c *crossroads) counts() []int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]int(nil), c.given...)
}

// authority is the real step-ca that the test run has, and how nodes trust it.
func authority(t *testing.T) (process.CAConfig, gateway.Trust) {
	t.Helper()
	setting := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			t.Fatalf("%s is not set: run `make test-integration`, which starts a real step-ca", name)
		}
		return value
	}
	root, err := os.ReadFile(setting("GPUAAS_TEST_CA_ROOT_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := ca.DecodePEM(root)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(roots[0].Raw)
	return process.CAConfig{
		URL: setting("GPUAAS_TEST_CA_URL"), RootFingerprint: hex.EncodeToString(sum[:]), Provisioner: setting("GPUAAS_TEST_CA_PROVISIONER"),
		KeyFile: setting("GPUAAS_TEST_CA_PROVISIONER_KEY_FILE"),
	}, gateway.Trust{RootPEM: root}
}

// gateways are the node gateways' part of replicas that share their keys.
func gateways(config process.CAConfig) process.NodeAPIConfig {
	return process.NodeAPIConfig{
		Address: "127.0.0.1:0", Hosts: []string{"127.0.0.1"}, CertificateTTL: time.Hour, TaskTokenKeys: "k1:" + strings.Repeat("5a", 32), CA: config,
	}
}

// enrolToken mints a one-time token for a host of a new node.
func (p *platform) enrolToken(t *testing.T, hostname string) string {
	t.Helper()
	text := rand.Text()
	if err := queries.InsertEnrolToken(t.Context(), p.App, sha256.Sum256([]byte(text)), queries.EnrolToken{
		NodeID: randomID[id.Node](), SKU: crowdSKU, Hostname: hostname, CreatedBy: "user_test", ExpiresAt: time.Now().Add(time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	return text
}

// fleet runs simulated nodes against a gateway, and answers once all are online.
func (p *platform) fleet(t *testing.T, size int, address string, trust gateway.Trust, within time.Duration) *sim.Fleet {
	t.Helper()
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('provisioning.runtime_mode', 2, '"agent"', 'platform'),
		('node.heartbeat_interval_seconds', 1, '5', 'platform')`)
	members := make([]sim.Member, size)
	for i := range members {
		name := fmt.Sprintf("sim-%03d", i)
		members[i] = sim.Member{Name: name, EnrolToken: p.enrolToken(t, name), GPUModel: "NVIDIA H100", GPUCount: 8, GPUMemoryBytes: 80 << 30}
	}
	fleet, err := sim.OpenFleet(sim.FleetConfig{
		Directory: t.TempDir(), GatewayURL: "https://" + address, Trust: trust, Version: "test", Log: slog.New(slog.DiscardHandler),
	}, members)
	if err != nil {
		t.Fatal(err)
	}
	// Nodes leave before the gateways do, as a node that lost its gateway asks for it again and again.
	ctx, leave := context.WithCancel(p.live)
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(ctx) }()
	t.Cleanup(func() {
		leave()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the fleet ended: %v", err)
		}
	})
	temporaltest.Eventually(t, within, func() error {
		if online := p.count(t, "SELECT count(*) FROM nodes WHERE reachability = 'online'"); online != size {
			return fmt.Errorf("%d of %d nodes are online", online, size)
		}
		return nil
	})
	return fleet
}

// reach waits until an allocation is in a state.
func (p *platform) reach(t *testing.T, allocation id.Allocation, state string, within time.Duration) {
	t.Helper()
	temporaltest.Eventually(t, within, func() error {
		var now, failure string
		err := p.Owner.QueryRow(t.Context(), "SELECT state, coalesce(failure_message, '') FROM allocations WHERE id = $1", allocation).Scan(&now, &failure)
		if err == nil && now != state {
			err = fmt.Errorf("%s is %s and not %s: %s", allocation, now, state, failure)
		}
		return err
	})
}

func TestTwoReplicasServeOneFleet(t *testing.T) {
	p := newPlatform(t, 0)
	config, trust := authority(t)
	one, two := p.replica(t, gateways(config)), p.replica(t, gateways(config))
	way := newCrossroads(t, one.gateway, two.gateway)
	fleet := p.fleet(t, 3, way.address, trust, time.Minute)
	if counts := way.counts(); counts[0] == 0 || counts[1] == 0 {
		t.Fatalf("the replicas were given %v connections", counts)
	}
	alice := p.signIn(t, "alice")

	// A task that one replica handed out is completed through the other.
	way.turn(0)
	for _, member := range fleet.Nodes() {
		member.Slow(node.UserProvision, 2*time.Second)
	}
	const path, body = "/api/v1/allocations", `{"sku":"` + string(crowdSKU) + `","name":"train"}`
	made, err := one.post(t.Context(), alice, path, "key", body)
	if err != nil || made.status != 201 || made.replayed {
		t.Fatalf("it answers %+v, %v", made, err)
	}
	repeated, err := two.post(t.Context(), alice, path, "key", body)
	if err != nil || repeated.status != 201 || !repeated.replayed || repeated.body.ID != made.body.ID {
		t.Errorf("the other replica answers %+v, %v", repeated, err)
	}
	temporaltest.Eventually(t, 30*time.Second, func() error {
		described, err := p.cluster.DescribeWorkflowExecution(t.Context(), workflows.AllocationWorkflowID(made.body.ID), "")
		if err != nil {
			return err
		}
		for _, pending := range described.GetPendingActivities() {
			if pending.GetActivityType().GetName() == string(node.UserProvision) && pending.GetLastStartedTime() != nil {
				return nil
			}
		}
		return errors.New("no node has begun the task")
	})
	before := way.counts()
	way.turn(1)
	p.reach(t, made.body.ID, "active", 30*time.Second)
	if after := way.counts(); after[0] != before[0] || after[1] == before[1] {
		t.Errorf("the replicas were given %v connections, then %v", before, after)
	}
	var attempts int
	if err := p.Owner.QueryRow(t.Context(), "SELECT count(*) FROM node_leases WHERE allocation_id = $1", made.body.ID).Scan(&attempts); err != nil || attempts != 1 {
		t.Errorf("it took %d nodes, %v", attempts, err)
	}

	// A release is asked of one replica and repeated to the other.
	release := path + "/" + string(made.body.ID) + "/release"
	if released, err := two.post(t.Context(), alice, release, "release", ""); err != nil || released.status != 202 || released.replayed {
		t.Errorf("the release answers %+v, %v", released, err)
	}
	if again, err := one.post(t.Context(), alice, release, "release", ""); err != nil || again.status != 202 || !again.replayed {
		t.Errorf("the release answers the other replica %+v, %v", again, err)
	}
	p.reach(t, made.body.ID, "released", 30*time.Second)
}

func TestADenialCutsOnEveryReplica(t *testing.T) {
	p := newPlatform(t, 0)
	config, trust := authority(t)
	sides := []replica{p.replica(t, gateways(config)), p.replica(t, gateways(config))}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	files := gateway.Files{Directory: t.TempDir()}
	if _, err := gateway.Enrol(ctx, "https://"+sides[0].gateway, trust, p.enrolToken(t, "stolen"), node.Inventory{Hostname: "stolen"}, files); err != nil {
		t.Fatal(err)
	}
	var at []*gateway.Client
	ended := make(chan error, len(sides))
	for _, side := range sides {
		client, err := gateway.Connect("https://"+side.gateway, files, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		at = append(at, client)
		through, err := client.TemporalClient(ctx, p.config.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(through.Close)
		go func() {
			_, err := through.WorkflowService().PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{
				Namespace: p.config.Namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.NodeQueue(client.NodeID())},
			})
			ended <- err
		}()
	}
	// Both replicas know the node; a poll that is not parked yet is refused when it comes.
	temporaltest.Eventually(t, 10*time.Second, func() error {
		for _, client := range at {
			if _, err := client.Heartbeat(ctx, gateway.HeartbeatRequest{}); err != nil {
				return err
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("a poll ended early: %v", err)
		default:
		}
		return nil
	})
	// The node's workflow has written that it is online, and writes nothing more.
	temporaltest.Eventually(t, 20*time.Second, func() error {
		if p.count(t, "SELECT count(*) FROM nodes WHERE reachability = 'online'") != 1 {
			return errors.New("the node is not online")
		}
		return nil
	})
	p.exec(t, "UPDATE nodes SET scheduling = 'denied', version = version + 1 WHERE id = $1", at[0].NodeID())
	denied := time.Now()
	for range at {
		select {
		case err := <-ended:
			if serviceerror.ToStatus(err).Code() != codes.PermissionDenied {
				t.Errorf("a parked poll ended with %v", err)
			}
			t.Logf("a parked poll was cut after %s", time.Since(denied).Round(time.Millisecond))
		case <-time.After(5*time.Second - time.Since(denied)):
			t.Fatal("a denied node's poll is still parked after 5 s")
		}
	}
	for _, client := range at {
		if _, err := client.Heartbeat(ctx, gateway.HeartbeatRequest{}); !errors.Is(err, fault.NodeDenied) {
			t.Errorf("a denied node's heartbeat answers %v", err)
		}
	}
}
