//go:build integration

package postgres

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A test binary started with this variable is an owner to be killed: it starts the server and waits for ever.
const ownerVariable = "GPUAAS_POSTGRES_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerVariable); dir != "" {
		s, err := Start(context.Background(), testConfig(dir))
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("started", s.PID(), s.Port())
		select {}
	}
	os.Exit(m.Run())
}

func testConfig(dir string) Config {
	return Config{DataDir: dir, BinDir: os.Getenv("GPUAAS_POSTGRES_BIN"), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil && !strings.Contains(err.Error(), "already closed") {
			t.Error(err)
		}
		if err := Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query[T any](t *testing.T, url, sql string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("in 40 s it did not come to pass that %s", what)
		case <-tick.C:
		}
	}
}

func TestDatabasesAndRolesSurviveARestart(t *testing.T) {
	dir := t.TempDir() // as root this is below a 0700 directory that no other user can enter
	s := start(t, dir)
	if os.Geteuid() == 0 && strings.HasPrefix(s.Cluster(), dir) {
		t.Errorf("the cluster %s lies where its user cannot go", s.Cluster())
	}
	d, err := s.Databases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, d.OwnerURL(d.Product), `CREATE ROLE gpuaas_app NOLOGIN; ALTER ROLE gpuaas_app SET statement_timeout = '15s';
		CREATE TABLE kept (n int); INSERT INTO kept VALUES (7); GRANT SELECT ON kept TO gpuaas_app`)
	if err := d.AdmitPrograms(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if pids := processesIn(s.Cluster()); len(pids) != 0 {
		t.Fatalf("processes %v are left after Stop", pids)
	}

	s = start(t, dir)
	d, err = s.Databases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AdmitPrograms(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, d.ProgramURL(), "SELECT n FROM kept"); n != 7 {
		t.Errorf("the row reads %d after a restart, want 7", n)
	}
	if got := query[string](t, d.ProgramURL(), "SHOW statement_timeout"); got != "15s" {
		t.Errorf("the programs' statement_timeout is %s, want that of the group role, 15s", got)
	}
	if query[bool](t, d.ProgramURL(), "SELECT has_table_privilege('kept', 'INSERT')") {
		t.Error("the programs may insert although the group role may not")
	}
	if query[bool](t, d.OwnerURL(d.Product), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") {
		t.Error("the owner is a superuser")
	}
	for _, name := range []string{d.Product, d.Temporal, d.Visibility} {
		if owner := query[string](t, d.AdminURL, "SELECT rolname::text FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE datname = $1", name); owner != Owner {
			t.Errorf("%s belongs to %s, want %s", name, owner, Owner)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "postgres.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the passwords has mode %v (%v), want 0600", info.Mode(), err)
	}
}

func TestOnlyPasswordsOnLoopbackAreTaken(t *testing.T) {
	s := start(t, t.TempDir())
	_, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", Superuser, s.Port()))
	if err == nil {
		t.Error("a connection without password is taken")
	}
	if got := query[string](t, s.URL("postgres"), "SHOW listen_addresses"); got != "127.0.0.1" {
		t.Errorf("it listens on %q, want loopback alone", got)
	}
	if uid, ours := os.Geteuid(), procUID(t, s.PID()); uid == 0 && ours == 0 {
		t.Error("the server runs as root")
	}
	if sid, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(s.PID()), 0, 0); int(sid) != s.PID() {
		t.Errorf("the server is in session %d, want one of its own, %d", sid, s.PID())
	}
}

func procUID(t *testing.T, pid int) uint32 {
	t.Helper()
	info, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

func TestOneOwnerAtATime(t *testing.T) {
	dir := t.TempDir()
	start(t, dir)
	if _, err := Start(t.Context(), testConfig(dir)); err == nil || !strings.Contains(err.Error(), "another instance") {
		t.Errorf("a second owner got %v", err)
	}
	if err := Remove(t.Context(), dir); err == nil {
		t.Error("the data of a running instance was removed")
	}
}

func TestKilledPostmasterIsStartedAgain(t *testing.T) {
	s := start(t, t.TempDir())
	execute(t, s.URL("postgres"), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
	first := s.PID()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server answers again with another postmaster", func() bool {
		if pid := s.PID(); pid == 0 || pid == first {
			return false
		}
		conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(context.Background()) }()
		var n int
		return conn.QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n) == nil && n == 7
	})
}

func TestKilledOwnerLeavesNoServerAndItsDataIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerVariable+"="+dir)
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "started") {
		t.Fatalf("the owner says %q (%v)", line, err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	s := start(t, dir)
	if got := query[int](t, s.URL("postgres"), "SELECT 1"); got != 1 {
		t.Errorf("SELECT 1 is %d", got)
	}
}

// An orphan without a parent-death signal: what other systems, or a killed thread, leave behind.
func TestOrphanIsStoppedBeforeAStart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command(filepath.Join(s.binDir, "postgres"), s.settings()...)
	orphan.Dir = s.Cluster()
	orphan.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.account.credential()}
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- orphan.Wait() }()
	eventually(t, "the orphan answers", func() bool {
		conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
		if err != nil {
			return false
		}
		_ = conn.Close(context.Background())
		return true
	})
	s = start(t, dir)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the orphan was not shut down in order: %v", err)
		}
	default:
		t.Error("the orphan still runs beside the new server")
	}
	if s.PID() == orphan.Process.Pid {
		t.Error("the new server is the orphan")
	}
}

// A stale postmaster.pid may name a process that has nothing to do with us by now.
func TestForeignProcessWithARecordedPIDIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	foreign := exec.Command("sleep", "600")
	if err := foreign.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- foreign.Wait() }()
	defer func() {
		_ = foreign.Process.Kill()
		<-ended
	}()
	stale := fmt.Sprintf("%d\n%s\n1\n5432\n", foreign.Process.Pid, s.Cluster())
	if err := s.writeForAccount(filepath.Join(s.Cluster(), "postmaster.pid"), stale); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
	select {
	case err := <-ended:
		t.Fatalf("the foreign process was ended: %v", err)
	default:
	}
}
