package sim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"

	"github.com/gpuaas/gpuaas/agent"
	"github.com/gpuaas/gpuaas/domain/node"
)

// hardware is the simulated devices and what the node says of itself. What a real machine reads from the driver is
// given here by configuration; the health gate that judges it is the agent's own.
type hardware struct {
	name, sshHost string
	mu            sync.Mutex
	gpus          []node.GPU
	sshPort       int
	sshHostKey    string
}

func newHardware(config Config) *hardware {
	h := &hardware{name: config.Name, sshHost: config.SSHHost}
	for index := range config.GPUCount {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", config.Name, index))
		h.gpus = append(h.gpus, node.GPU{
			Index: index, UUID: fmt.Sprintf("GPU-%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]),
			Model: config.GPUModel, MemoryBytes: config.GPUMemoryBytes, RecoveryAction: agent.RecoveryNone,
		})
	}
	return h
}

// Inspect is agent.GPUs.
func (h *hardware) Inspect(context.Context) (agent.GPUReport, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	report := agent.GPUReport{GPUs: append([]node.GPU(nil), h.gpus...), Driver: "570.124.06", CUDA: "12.8"}
	if len(report.GPUs) == 0 {
		report.Absent = "the simulated node was given no GPU"
	}
	return report, nil
}

// Inventory is agent.Machine.
func (h *hardware) Inventory(context.Context) (node.Inventory, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return node.Inventory{
		Hostname: h.name, CPUs: runtime.NumCPU(), MemoryBytes: 2 << 40, DiskBytes: 28 << 40, OS: "simulated", Kernel: "simulated",
		SSHHost: h.sshHost, SSHPort: h.sshPort, SSHHostKey: h.sshHostKey,
	}, nil
}

// FreeDiskBytes is agent.Machine.
func (h *hardware) FreeDiskBytes() int64 { return 28 << 40 }

func (h *hardware) reachedAt(port int, hostKey string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sshPort, h.sshHostKey = port, hostKey
}

// damage gives a device uncorrected memory errors; 0 heals it.
func (h *hardware) damage(index int, uncorrected int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if index < 0 || index >= len(h.gpus) {
		return fmt.Errorf("there is no GPU %d", index)
	}
	h.gpus[index].UncorrectedECC = uncorrected
	return nil
}

// smi prints the devices as nvidia-smi -L does.
func (h *hardware) smi() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var text string
	for _, gpu := range h.gpus {
		text += fmt.Sprintf("GPU %d: %s (UUID: %s)\n", gpu.Index, gpu.Model, gpu.UUID)
	}
	return text
}
