// Command node-agent serves one node, or a fleet of simulated ones, to the platform; configuration by environment,
// listed by --help.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("node-agent", "runs the tasks of a node", process.RunNodeAgent))
}
