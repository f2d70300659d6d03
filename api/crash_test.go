//go:build integration

package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// Variables that make the binary of the tests an API of its own, which can be killed.
const (
	crashDatabase = "GPUAAS_CRASH_DATABASE_URL"
	crashIssuer   = "GPUAAS_CRASH_ISSUER"
)

// TestMain is the tests, or an API of its own when it is started as one.
func TestMain(m *testing.M) {
	if database := os.Getenv(crashDatabase); database != "" {
		fmt.Println("ended", beAnAPI(database))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func beAnAPI(database string) error {
	return process.RunAPI(context.Background(), process.APIConfig{
		Database: process.DatabaseConfig{URL: database, MaxConnections: 4}, Temporal: temporal.Config{Address: "127.0.0.1:1", Namespace: "none"},
		Redis: redistest.Away(), Log: process.LogConfig{Logger: slog.New(slog.DiscardHandler)}, Address: "127.0.0.1:0", IDSecret: strings.Repeat("i", 32),
		OIDC:      oidc.Config{Issuer: os.Getenv(crashIssuer), Audiences: []string{"gpuaas-api"}, Clients: []string{"gpuaas-api"}},
		Listening: func(address string) { fmt.Println("listening " + address) },
	})
}

// serveInProcess starts an API as a process of its own and answers when it listens.
func (w *world) serveInProcess() *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDatabase+"="+w.AppURL, crashIssuer+"="+w.issuer)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, said := strings.CutPrefix(lines.Text(), "listening "); said {
			w.base = "http://" + address
			return cmd
		}
	}
	w.t.Fatal("the API does not listen")
	return nil
}

// An API that is killed after it has done the work and before it has kept the answer leaves a key that is in flight. Once its time
// is over, the same request with the same key does nothing a second time and gets what the first would have got.
func TestKilledBetweenTheWorkAndItsAnswer(t *testing.T) {
	w := &world{Database: storetest.New(t), t: t}
	w.publishKeys()
	killed := w.serveInProcess()
	root := w.token("root", "admin")
	w.await(func() error {
		if got := w.ask("GET", "/api/v1/me", root, "", ""); got.status != 200 {
			return fmt.Errorf("it answers %d %s", got.status, got.body)
		}
		return nil
	})

	// Whoever keeps an answer waits for this lock, which the test holds.
	const gate = 7_041_776
	w.exec(fmt.Sprintf(`CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(%d); RETURN NEW; END $$`, gate))
	w.exec(`CREATE TRIGGER gate BEFORE UPDATE ON idempotency_records FOR EACH ROW EXECUTE FUNCTION wait_at_gate()`)
	holder, err := w.Owner.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock($1)", gate); err != nil {
		t.Fatal(err)
	}

	const path, body = "/api/v1/admin/policies/billing.window_seconds", `{"value":2,"reason":"demo"}`
	gone := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPut, w.base+path, strings.NewReader(body))
		if err == nil {
			request.Header.Set("Authorization", "Bearer "+root)
			request.Header.Set("X-Idempotency-Key", "k")
			request.Header.Set("Content-Type", "application/json")
			var response *http.Response
			if response, err = http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
				err = fmt.Errorf("it was answered %s", response.Status)
			}
		}
		gone <- err
	}()
	waiting := func() (pid int) {
		_ = w.Owner.QueryRow(t.Context(), `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&pid)
		return pid
	}
	temporaltest.Eventually(t, 30*time.Second, func() error {
		if waiting() == 0 {
			return errors.New("nobody waits to keep an answer")
		}
		return nil
	})
	// The work is done and its answer is not kept: now the process dies, and its connection with it.
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; err == nil || strings.Contains(err.Error(), "answered") {
		t.Fatalf("the killed API: %v", err)
	}
	w.exec("SELECT pg_terminate_backend($1)", waiting())
	temporaltest.Eventually(t, 30*time.Second, func() error {
		if waiting() != 0 {
			return errors.New("its connection is still there")
		}
		return nil
	})
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock($1)", gate); err != nil {
		t.Fatal(err)
	}
	w.exec("DROP TRIGGER gate ON idempotency_records")

	w.serveInProcess()
	w.await(func() error {
		if got := w.ask("GET", "/api/v1/me", root, "", ""); got.status != 200 {
			return fmt.Errorf("it answers %d", got.status)
		}
		return nil
	})
	w.want(w.ask("PUT", path, root, "k", body), 409, "idempotency_in_flight")
	w.want(w.ask("PUT", path, root, "k", `{"value":3,"reason":"demo"}`), 409, "idempotency_conflict")
	w.exec("UPDATE idempotency_records SET locked_until = now() - interval '1 second' WHERE key = 'k'") // its two minutes are over
	again := w.ask("PUT", path, root, "k", body)
	if version, _ := again.fields()["version"].(float64); again.status != 200 || version != 1 {
		t.Errorf("the repeat answers %d %s", again.status, again.body)
	}
	var values, audits int
	if err := w.Owner.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM policy_values WHERE key = 'billing.window_seconds'), (SELECT count(*) FROM audit_logs WHERE action = 'policy.set')`).Scan(&values, &audits); err != nil {
		t.Fatal(err)
	}
	if values != 1 || audits != 1 {
		t.Errorf("the work was done %d times and written down %d times", values, audits)
	}
	if replayed := w.ask("PUT", path, root, "k", body); replayed.header.Get("Idempotency-Replayed") != "true" || string(replayed.body) != string(again.body) {
		t.Errorf("the third answers %s %v", replayed.body, replayed.header)
	}
}
