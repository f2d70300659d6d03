// Command outbox-relay publishes committed events to NATS JetStream; configuration by environment, listed by --help.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("outbox-relay", "publishes committed events to NATS JetStream", process.RunOutboxRelay))
}
