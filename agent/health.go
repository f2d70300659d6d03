package agent

import (
	"fmt"
	"strings"

	"github.com/gpuaas/gpuaas/domain/node"
)

// unfit says, a sentence a fault, why the devices must not be handed over: another number or model than was sold, an
// uncorrected memory error, a row remap that waits for a reset, or a recovery action that the driver asks for.
func unfit(report GPUReport, model string, count int) []string {
	var faults []string
	if len(report.GPUs) != count {
		fault := fmt.Sprintf("%d GPUs are sold and %d were found", count, len(report.GPUs))
		if report.Absent != "" {
			fault += " (" + report.Absent + ")"
		}
		faults = append(faults, fault)
	}
	for _, gpu := range report.GPUs {
		if !sameModel(gpu.Model, model) {
			faults = append(faults, fmt.Sprintf("GPU %d is %q and %q is sold", gpu.Index, gpu.Model, model))
		}
		if gpu.UncorrectedECC > 0 {
			faults = append(faults, fmt.Sprintf("GPU %d has %d uncorrected memory errors", gpu.Index, gpu.UncorrectedECC))
		}
		if gpu.PendingRowRemap {
			faults = append(faults, fmt.Sprintf("GPU %d has a row remap pending", gpu.Index))
		}
		if gpu.RecoveryAction != "" && gpu.RecoveryAction != RecoveryNone {
			faults = append(faults, fmt.Sprintf("GPU %d asks for the recovery action %s", gpu.Index, gpu.RecoveryAction))
		}
	}
	return append(faults, report.Degraded...)
}

// RecoveryNone is the recovery action of a device that asks for none.
const RecoveryNone = "none"

// sameModel compares names as NVML gives them, whatever their case, blanks and vendor prefix.
func sameModel(found, sold string) bool { return modelName(found) == modelName(sold) }

func modelName(name string) string {
	return strings.TrimPrefix(strings.Join(strings.Fields(strings.ToLower(name)), " "), "nvidia ")
}

// inventoryWith completes a machine's inventory by its devices.
func inventoryWith(inventory node.Inventory, report GPUReport) node.Inventory {
	inventory.GPUs, inventory.Driver, inventory.CUDA = report.GPUs, report.Driver, report.CUDA
	return inventory
}
