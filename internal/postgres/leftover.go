package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const leftoverPoll = 50 * time.Millisecond

// stopLeftover ends every server process that still works in this cluster, so that a new postmaster may start.
// A process counts as ours only if it is a postgres that runs inside this very directory: a process id from a
// stale file may by now belong to anybody. Fast shutdown first, immediate shutdown after a third of the time.
func stopLeftover(ctx context.Context, cluster string, log *slog.Logger) error {
	pids := processesIn(cluster)
	if len(pids) > 0 && log != nil {
		log.Info("stopping a Postgres that was left running", "cluster", cluster, "processes", len(pids))
	}
	begun := time.Now()
	sent := syscall.Signal(0)
	for len(pids) > 0 {
		want := syscall.SIGINT
		if time.Since(begun) > stopDeadline/3 {
			want = syscall.SIGQUIT
		}
		if want != sent {
			sent = want
			signalServer(cluster, pids, want)
		}
		if time.Since(begun) > stopDeadline {
			return fmt.Errorf("a Postgres that was left running in %s does not stop (processes %v): end it and start again", cluster, pids)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leftoverPoll):
		}
		pids = processesIn(cluster)
	}
	// With nobody inside, the file is stale whatever it says; kept, a reused process id in it would stop the start.
	if err := os.Remove(filepath.Join(cluster, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("a stale postmaster.pid cannot be removed: %w", err)
	}
	return nil
}

// signalServer sends to the postmaster when it lives, who tells its children; else to the orphaned backends,
// which have nobody to tell them.
func signalServer(cluster string, pids []int, sig syscall.Signal) {
	if master := recordedPID(cluster); master != 0 {
		for _, pid := range pids {
			if pid == master {
				_ = syscall.Kill(pid, sig)
				return
			}
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
}

func recordedPID(cluster string) int {
	raw, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first))
	return pid
}

// processesIn lists the postgres processes whose working directory is the cluster: postmaster and backends alike
// change into it at start.
func processesIn(cluster string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return processByRecord(cluster)
	}
	var pids []int
	numeric := false
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		numeric = true
		if worksIn(pid, cluster) {
			pids = append(pids, pid)
		}
	}
	if !numeric {
		return processByRecord(cluster)
	}
	return pids
}

func worksIn(pid int, cluster string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err != nil || strings.TrimSuffix(cwd, " (deleted)") != resolved(cluster) {
		return false
	}
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	return err == nil && strings.HasPrefix(filepath.Base(exe), "postgres")
}

func resolved(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// processByRecord serves systems without /proc: the recorded process counts if its command line names a postgres
// and this cluster, which every postmaster of ours is started with.
func processByRecord(cluster string) []int {
	pid := recordedPID(cluster)
	if pid == 0 {
		return nil
	}
	out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "command=").Output()
	if err != nil || !strings.Contains(string(out), "postgres") || !strings.Contains(string(out), cluster) {
		return nil
	}
	return []int{pid}
}
