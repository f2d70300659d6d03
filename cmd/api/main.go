// Command api serves the public REST API and the node gateway.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("api", "the public REST API and the node gateway", process.RunAPI))
}
