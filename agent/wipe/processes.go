// Package wipe takes everything of a lease's user off a Linux host, and, by code that shares nothing with the removal,
// looks whether it is gone. It imports agent and domain.
package wipe

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gpuaas/gpuaas/agent"
)

// Processes ends what a user runs.
type Processes struct{}

const (
	// killPause lets the kernel tear down what was killed before the next look.
	killPause = 50 * time.Millisecond
	// quietLooks is how many looks in a row must find nothing: a fork may be under way in the first.
	quietLooks = 2
	// stubbornAfter is after how many rounds the user's own right to signal is used, which no fork outruns.
	stubbornAfter = 3
)

// Kill stops all, so that nothing forks while it is being killed, kills all, and looks again until nothing is left.
func (Processes) Kill(ctx context.Context, user agent.User) (int, error) {
	killed := map[int]struct{}{}
	quiet := 0
	for round := 1; ; round++ {
		pids, err := running(user.UID)
		if err != nil {
			return len(killed), err
		}
		if len(pids) == 0 {
			if quiet++; quiet >= quietLooks {
				return len(killed), nil
			}
		} else {
			quiet = 0
			for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
				for _, pid := range pids {
					_ = syscall.Kill(pid, signal) // it may have ended by itself
					killed[pid] = struct{}{}
				}
			}
			if round > stubbornAfter {
				killAllAs(ctx, user.UID)
			}
		}
		select {
		case <-ctx.Done():
			return len(killed), fmt.Errorf("%d processes of %s are still there: %w", len(pids), user.Name, ctx.Err())
		case <-time.After(killPause):
		}
	}
}

// killAllAs has the kernel kill every process that the user may signal, in one call. It may fail when the user is at
// their process limit; the next round kills some and tries again.
func killAllAs(ctx context.Context, uid int64) {
	command := exec.CommandContext(ctx, "/bin/sh", "-c", "kill -KILL -1")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	_ = command.Run()
}

// running lists processes that have the uid in any of its four roles. Zombies own nothing and cannot be killed.
func running(uid int64) ([]int, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	want := strconv.FormatInt(uid, 10)
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		status, err := os.ReadFile("/proc/" + name.Name() + "/status")
		if err != nil {
			continue // it ended
		}
		var zombie, owned bool
		for line := range strings.Lines(string(status)) {
			fields := strings.Fields(line)
			switch {
			case len(fields) > 1 && fields[0] == "State:":
				zombie = fields[1] == "Z" || fields[1] == "X"
			case len(fields) > 0 && fields[0] == "Uid:":
				owned = slices.Contains(fields[1:], want)
			}
		}
		if owned && !zombie {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
