// Command billing-worker runs the Allocation workflow and every step that touches Postgres; configuration by
// environment, listed by --help.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("billing-worker", "runs allocations and their ledger", process.RunBillingWorker))
}
