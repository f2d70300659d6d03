// Command provisioning-worker runs the Node workflow, the login probe and the noop runtime; configuration by
// environment, listed by --help.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("provisioning-worker", "watches nodes and proves that they can be logged in to", process.RunProvisioningWorker))
}
