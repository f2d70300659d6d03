package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/<pid>/stat, fixed for programs whatever the kernel's own clock.
const ticksPerSecond = 100

// cpuOver is how many CPU-seconds the platform used over a time: the development stack that holds Temporal, its PostgreSQL, and this
// program, with everything they started and that has ended since.
func cpuOver(ctx context.Context, length time.Duration) (float64, error) {
	before, err := platformCPU()
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, length); err != nil {
		return 0, err
	}
	after, err := platformCPU()
	return after - before, err
}

type running struct {
	parent int
	name   string
	ticks  int64
}

// platformCPU sums the processes below the development stack, of which this program is one.
func platformCPU() (float64, error) {
	processes, err := readProcesses()
	if err != nil {
		return 0, err
	}
	root := os.Getpid()
	for at := root; at > 1; at = processes[at].parent {
		if processes[at].name == "devstack" {
			root = at
		}
	}
	if processes[root].name != "devstack" {
		return 0, fmt.Errorf("this program does not run under the development stack: use make bench-funds")
	}
	var ticks int64
	for pid := range processes {
		for at := pid; at > 1; at = processes[at].parent {
			if at == root {
				ticks += processes[pid].ticks
				break
			}
		}
	}
	return float64(ticks) / ticksPerSecond, nil
}

func readProcesses() (map[int]running, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	processes := map[int]running{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid … utime stime cutime cstime: the name may hold anything, so fields count from its last parenthesis
		open, shut := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		fields := strings.Fields(string(text[shut+1:]))
		if open < 0 || len(fields) < 15 {
			return nil, fmt.Errorf("/proc/%d/stat reads %q", pid, text)
		}
		p := running{name: string(text[open+1 : shut])}
		if p.parent, err = strconv.Atoi(fields[1]); err != nil {
			return nil, err
		}
		for _, field := range fields[11:15] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return nil, err
			}
			p.ticks += ticks
		}
		processes[pid] = p
	}
	return processes, nil
}
