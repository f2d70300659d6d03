//go:build integration

package stack

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/workflows"
)

// A test binary started with this variable is an instance on that directory, until SIGTERM.
const instanceVariable = "GPUAAS_STACK_TEST_INSTANCE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(instanceVariable); dir != "" {
		os.Exit(beInstance(dir))
	}
	os.Exit(m.Run())
}

func beInstance(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := Start(ctx, Config{DataDir: dir, Parts: AllParts(), Product: true, PostgresBin: os.Getenv("GPUAAS_POSTGRES_BIN")})
	if err == nil {
		err = s.Announce(s.Endpoints())
	}
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("ready")
	<-ctx.Done()
	if err := s.Stop(); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

// startInstance runs an instance in a process of its own, as people do, and answers when it is ready.
func startInstance(t *testing.T, dir string) (*exec.Cmd, Endpoints) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), instanceVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
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
