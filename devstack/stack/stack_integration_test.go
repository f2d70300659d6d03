//go:build integration

package stack

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/workflows"
)

// A test binary started with the first variable is an instance on that directory, until SIGTERM; with the second, the whole platform with as many
// simulated nodes; the third asks for ports.
const (
	instanceVariable = "GPUAAS_STACK_TEST_INSTANCE"
	nodesVariable    = "GPUAAS_STACK_TEST_NODES"
	baseVariable     = "GPUAAS_STACK_TEST_PORT_BASE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(instanceVariable); dir != "" {
		os.Exit(beInstance(dir))
	}
	os.Exit(m.Run())
}

func beInstance(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	base, _ := strconv.Atoi(os.Getenv(baseVariable)) // 0 for none
	s, err := Start(ctx, Config{DataDir: dir, PortBase: base, Parts: AllParts(), Product: true, PostgresBin: os.Getenv("GPUAAS_POSTGRES_BIN"), Notice: func(string) {}})
	var said string
	var programs *Programs
	if nodes, whole := os.LookupEnv(nodesVariable); err == nil && whole {
		programs, said, err = bePlatform(ctx, s, nodes)
	}
	if err == nil {
		err = s.Announce(s.Endpoints())
	}
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("ready" + said)
	<-ctx.Done()
	if programs != nil {
		programs.Stop()
	}
	if err := s.Stop(); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

// bePlatform runs every program of ours, and says who is denied.
func bePlatform(ctx context.Context, s *Stack, count string) (*Programs, string, error) {
	nodes, err := strconv.Atoi(count)
	if err != nil {
		return nil, "", err
	}
	programs, err := NewPrograms(ctx, s.cfg.DataDir, s.Endpoints(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, "", err
	}
	opening := NewOpening(s.Endpoints(), nodes)
	opened, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, step := range []func() error{programs.StartPlatform, func() error { return opening.Prepare(opened) }, programs.StartNodes} {
		if err := step(); err != nil {
			return nil, "", err
		}
	}
	denied, err := opening.AwaitNodes(opened)
	if len(denied) > 0 {
		return programs, " without " + strings.Join(denied, " "), err
	}
	return programs, "", err
}

// startInstance runs an instance in a process of its own, as people do, and answers when it is ready.
func startInstance(t *testing.T, dir string, more ...string) (*exec.Cmd, Endpoints) {
	t.Helper()
	return startSaying(t, dir, "ready\n", more...)
}

func startSaying(t *testing.T, dir, want string, more ...string) (*exec.Cmd, Endpoints) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), instanceVariable+"="+dir), more...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != want {
		t.Fatalf("the instance says %q (%v)", line, err)
	}
	e, err := ReadEndpoints(dir)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, e
}

func end(t *testing.T, cmd *exec.Cmd, signal syscall.Signal) error {
	t.Helper()
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return cmd.Wait()
}

func count(t *testing.T, url, sql string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var n int
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// One test for the life of an instance, because each start costs seconds.
func TestAnInstanceStartsStopsAndKeepsItsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, e := startInstance(t, dir)
	if info, err := os.Stat(filepath.Join(dir, endpointsName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the endpoints have mode %v (%v)", info.Mode(), err)
	}
	if n := count(t, e.DatabaseURL, "SELECT count(*) FROM sku_prices"); n == 0 {
		t.Error("no price is seeded, or the programs' role cannot read it")
	}
	c, err := client.Dial(client.Options{HostPort: e.TemporalAddress, Namespace: workflows.Namespace, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	described, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: workflows.Namespace})
	c.Close()
	if err != nil {
		t.Fatal(err)
	}
	if got := described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); got != 30*24*time.Hour {
		t.Errorf("the namespace keeps histories %v", got)
	}
	variables, err := ProgramEnvironment(dir, e)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables {
		if v.Value == "" {
			t.Errorf("%s is empty", v.Name)
		}
	}
	if _, err := Start(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "already runs") {
		t.Errorf("a second instance on the same data got %v", err)
	}
	if err := end(t, first, syscall.SIGTERM); err != nil {
		t.Fatalf("after SIGTERM it ends with %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, endpointsName)); !os.IsNotExist(err) {
		t.Error("the endpoints of a stopped instance remain")
	}

	second, again := startInstance(t, dir)
	if again.PortBase != e.PortBase || again.CARootFingerprint != e.CARootFingerprint || again.DatabaseURL != e.DatabaseURL {
		t.Errorf("after a restart the instance is another: %+v, was %+v", again, e)
	}
	if err := end(t, second, syscall.SIGKILL); err == nil {
		t.Error("after SIGKILL it ends well")
	}
	third, again := startInstance(t, dir)
	if again.PortBase != e.PortBase || count(t, again.DatabaseURL, "SELECT count(*) FROM sku_prices") == 0 {
		t.Errorf("after a kill the instance is another: %+v", again)
	}
	if err := end(t, third, syscall.SIGTERM); err != nil {
		t.Fatalf("after a kill and a restart it ends with %v", err)
	}
	if err := Clean(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("the data directory remains after Clean")
	}
	if _, err := os.Stat(e.PostgresDataDir); !os.IsNotExist(err) {
		t.Error("the cluster remains after Clean")
	}
}

// An operator's denial outlasts restarts, and so do the rows that say online after a kill: neither may hold up a start, or let it be called ready early.
// And whoever an instance knew is known after a restart on other ports, although the issuer's address is another.
func TestADeniedNodeHoldsUpNoStartAndUsersMoveWithTheirInstance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	twoNodes := nodesVariable + "=2"
	first, e := startInstance(t, dir, twoNodes)
	api := newPlatform(e)
	if err := api.signIn(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	nodes := map[string]nodeView{}
	listed, err := (&Opening{platform: api}).listNodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range listed {
		nodes[n.Hostname] = n
	}
	for n, name := range []string{"sim-001", "sim-002"} {
		port, err := os.ReadFile(filepath.Join(dir, nodesName, name, "ssh_port"))
		if want := strconv.Itoa(Ports{Base: e.PortBase}.NodeSSH(n)); err != nil || string(port) != want {
			t.Errorf("%s is logged into on port %s (%v), want %s", name, port, err, want)
		}
	}
	if err := api.call(t.Context(), operator, http.MethodPost, "/api/v1/admin/nodes/"+nodes["sim-001"].ID+"/deny", "deny-once", map[string]any{"reason": "stolen"}, nil); err != nil {
		t.Fatal(err)
	}
	users := count(t, e.DatabaseURL, "SELECT count(*) FROM users")
	if err := end(t, first, syscall.SIGKILL); err == nil {
		t.Error("after SIGKILL it ends well")
	}
	moved := freePorts(t).Base
	second, again := startSaying(t, dir, "ready without sim-001\n", twoNodes, baseVariable+"="+strconv.Itoa(moved))
	if again.PortBase != moved {
		t.Errorf("it lies at %d, and %d was asked for", again.PortBase, moved)
	}
	if err := newPlatform(again).signIn(t.Context(), operator); err != nil {
		t.Error(err)
	}
	if now := count(t, again.DatabaseURL, "SELECT count(*) FROM users"); users < 2 || now != users {
		t.Errorf("%d users are %d on other ports", users, now)
	}
	var seen time.Time
	conn, err := pgx.Connect(t.Context(), again.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	err = conn.QueryRow(t.Context(), "SELECT last_seen_at FROM node_heartbeats WHERE node_id = $1", nodes["sim-002"].ID).Scan(&seen)
	_ = conn.Close(context.Background())
	if err != nil || !seen.After(nodes["sim-002"].LastSeenAt) {
		t.Errorf("sim-002 was last heard of at %s (%v), and at %s before the kill", seen, err, nodes["sim-002"].LastSeenAt)
	}
	if err := end(t, second, syscall.SIGTERM); err != nil {
		t.Errorf("after SIGTERM it ends with %v", err)
	}
	if err := Clean(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
}
