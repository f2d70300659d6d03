// Package gpu reads the devices through NVML, which is opened at run time: a machine without the driver has no GPUs, and
// says why. It imports agent and domain.
package gpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpuaas/gpuaas/agent"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Devices is the machine's GPUs. It is safe for concurrent use.
type Devices struct {
	mu      sync.Mutex
	library nvml.Interface
	ready   bool
}

// Open looks for the driver's library; whether it is there is asked again at every inspection.
func Open(log *slog.Logger) *Devices {
	d := New(nvml.New())
	if absent := d.start(); absent != "" {
		log.Warn("no GPU can be read", "reason", absent)
	}
	return d
}

// New reads the devices of a given library.
func New(library nvml.Interface) *Devices { return &Devices{library: library} }

// Close lets go of the driver.
func (d *Devices) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready {
		_ = d.library.Shutdown() // the process ends
		d.ready = false
	}
}

// start opens the library once; it answers why it cannot.
func (d *Devices) start() string {
	if d.ready {
		return ""
	}
	switch code := d.library.Init(); code {
	case nvml.SUCCESS:
		d.ready = true
		return ""
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "the NVIDIA driver is not installed"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the NVIDIA driver is not loaded"
	default:
		return "NVML cannot be opened: " + d.library.ErrorString(code)
	}
}

// errFor is nothing when NVML succeeded.
func (d *Devices) errFor(what string, code nvml.Return) error {
	if code == nvml.SUCCESS {
		return nil
	}
	return fmt.Errorf("%s: %s", what, d.library.ErrorString(code))
}

// Inspect is agent.GPUs.
func (d *Devices) Inspect(context.Context) (agent.GPUReport, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if absent := d.start(); absent != "" {
		return agent.GPUReport{Absent: absent}, nil
	}
	var report agent.GPUReport
	var code nvml.Return
	if report.Driver, code = d.library.SystemGetDriverVersion(); code != nvml.SUCCESS {
		return report, d.errFor("read the driver's version", code)
	}
	cuda, code := d.library.SystemGetCudaDriverVersion()
	if err := d.errFor("read the CUDA version", code); err != nil {
		return report, err
	}
	report.CUDA = fmt.Sprintf("%d.%d", cuda/1000, cuda%1000/10)
	count, code := d.library.DeviceGetCount()
	if err := d.errFor("count the GPUs", code); err != nil {
		return report, err
	}
	for index := range count {
		device, code := d.library.DeviceGetHandleByIndex(index)
		if code != nvml.SUCCESS {
			// A device that fell off the bus is missing from the count that was sold, and named here.
			report.Degraded = append(report.Degraded, fmt.Sprintf("GPU %d cannot be opened: %s", index, d.library.ErrorString(code)))
			continue
		}
		read, degraded, err := d.read(index, device)
		if err != nil {
			return report, err
		}
		report.GPUs = append(report.GPUs, read)
		report.Degraded = append(report.Degraded, degraded...)
	}
	return report, nil
}

// read reads one device. What a model does not support passes; what cannot be read for another reason does not.
func (d *Devices) read(index int, device nvml.Device) (node.GPU, []string, error) {
	gpu := node.GPU{Index: index, RecoveryAction: agent.RecoveryNone}
	var nameCode, uuidCode nvml.Return
	gpu.Model, nameCode = device.GetName()
	gpu.UUID, uuidCode = device.GetUUID()
	memory, memoryCode := device.GetMemoryInfo()
	if err := errors.Join(d.errFor("read a GPU's name", nameCode), d.errFor("read a GPU's UUID", uuidCode), d.errFor("read a GPU's memory", memoryCode)); err != nil {
		return gpu, nil, err
	}
	gpu.MemoryBytes = int64(memory.Total)
	var degraded []string
	unread := func(what string, code nvml.Return) bool {
		if code != nvml.SUCCESS && code != nvml.ERROR_NOT_SUPPORTED {
			degraded = append(degraded, fmt.Sprintf("GPU %d: its %s cannot be read: %s", index, what, d.library.ErrorString(code)))
		}
		return code != nvml.SUCCESS
	}
	if errors, code := device.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); !unread("memory errors", code) {
		gpu.UncorrectedECC = int64(errors)
	}
	if _, _, pending, _, code := device.GetRemappedRows(); !unread("row remaps", code) {
		gpu.PendingRowRemap = pending
	}
	if action, known, code := d.recovery(device); !unread("recovery action", code) && known {
		gpu.RecoveryAction = action
	}
	current, currentCode := device.GetCurrPcieLinkWidth()
	widest, widestCode := device.GetMaxPcieLinkWidth()
	if !unread("PCIe width", currentCode) && !unread("full PCIe width", widestCode) && current < widest {
		degraded = append(degraded, fmt.Sprintf("GPU %d has %d PCIe lanes of %d", index, current, widest))
	}
	return gpu, degraded, nil
}

// recovery asks the driver what the device needs before it can be trusted again.
func (d *Devices) recovery(device nvml.Device) (action string, known bool, code nvml.Return) {
	values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
	if code := device.GetFieldValues(values); code != nvml.SUCCESS {
		return "", false, code
	}
	if code := nvml.Return(values[0].NvmlReturn); code != nvml.SUCCESS {
		// A driver that does not know the question says so as an invalid argument.
		if code == nvml.ERROR_INVALID_ARGUMENT {
			code = nvml.ERROR_NOT_SUPPORTED
		}
		return "", false, code
	}
	names := []string{agent.RecoveryNone, "gpu_reset", "node_reboot", "drain_p2p", "drain_and_reset"}
	value := int(values[0].Value[0])
	if value >= len(names) {
		return fmt.Sprintf("unknown (%d)", value), true, nvml.SUCCESS
	}
	return names[value], true, nvml.SUCCESS
}

// Processes lists the process ids that hold a GPU, with the device; none where there is no driver.
func (d *Devices) Processes() (map[int]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := map[int]string{}
	if d.start() != "" {
		return found, nil
	}
	count, code := d.library.DeviceGetCount()
	if err := d.errFor("count the GPUs", code); err != nil {
		return nil, err
	}
	for index := range count {
		device, code := d.library.DeviceGetHandleByIndex(index)
		if err := d.errFor("open a GPU", code); err != nil {
			return nil, err
		}
		for what, list := range map[string]func() ([]nvml.ProcessInfo, nvml.Return){
			"compute": device.GetComputeRunningProcesses, "graphics": device.GetGraphicsRunningProcesses,
		} {
			processes, code := list()
			if code == nvml.ERROR_NOT_SUPPORTED {
				continue
			}
			if err := d.errFor("list "+what+" processes", code); err != nil {
				return nil, err
			}
			for _, p := range processes {
				found[int(p.Pid)] = strings.TrimSpace(fmt.Sprintf("%s GPU %d %s", found[int(p.Pid)], index, what))
			}
		}
	}
	return found, nil
}
