// Package machine says what this Linux host has and how it is reached. It imports agent and domain.
package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gpuaas/gpuaas/domain/node"
)

// Host is this machine.
type Host struct {
	// SSHHost is the address for tenants; the hostname when empty.
	SSHHost        string
	SSHPort        int
	SSHHostKeyFile string
	HomeRoot       string
}

// Inventory reads the machine. A host key that cannot be read is an error: nobody could know the node by it.
func (h Host) Inventory(context.Context) (node.Inventory, error) {
	name, err := os.Hostname()
	if err != nil {
		return node.Inventory{}, fmt.Errorf("read the hostname: %w", err)
	}
	key, err := os.ReadFile(h.SSHHostKeyFile)
	if err != nil {
		return node.Inventory{}, fmt.Errorf("read the SSH host key: %w", err)
	}
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		return node.Inventory{}, fmt.Errorf("read the size of the memory: %w", err)
	}
	disk, err := h.disk()
	if err != nil {
		return node.Inventory{}, err
	}
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return node.Inventory{}, fmt.Errorf("read the kernel's name: %w", err)
	}
	host := h.SSHHost
	if host == "" {
		host = name
	}
	fields := strings.Fields(string(key))
	if len(fields) < 2 {
		return node.Inventory{}, errors.New(h.SSHHostKeyFile + " holds no public key")
	}
	return node.Inventory{
		Hostname: name, CPUs: runtime.NumCPU(),
		MemoryBytes: int64(memory.Totalram) * int64(memory.Unit),
		DiskBytes:   int64(disk.Blocks) * disk.Bsize,
		OS:          operatingSystem(), Kernel: unix.ByteSliceToString(kernel.Release[:]),
		SSHHost: host, SSHPort: h.SSHPort, SSHHostKey: fields[0] + " " + fields[1],
	}, nil
}

// FreeDiskBytes is what is left where homes lie; 0 when it cannot be read.
func (h Host) FreeDiskBytes() int64 {
	disk, err := h.disk()
	if err != nil {
		return 0
	}
	return int64(disk.Bavail) * disk.Bsize
}

func (h Host) disk() (unix.Statfs_t, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(h.HomeRoot, &disk); err != nil {
		return disk, fmt.Errorf("read the size of %s: %w", h.HomeRoot, err)
	}
	return disk, nil
}

// operatingSystem is the name in os-release; "Linux" where there is none.
func operatingSystem() string {
	file, err := os.Open("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	defer func() { _ = file.Close() }() // it was only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, found := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); found {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}

// Readiness says whether this process can do its work on the machine.
type Readiness struct{}

// Ready refuses what needs root when the agent is not.
func (Readiness) Ready(_ context.Context, kind node.TaskKind) error {
	if kind != node.InventoryReport && kind != node.GPUHealth && os.Geteuid() != 0 {
		return errors.New("the agent does not run as root")
	}
	return nil
}
