// Command notification-relay tells people of events; configuration by environment, listed by --help.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("notification-relay", "tells people of events", process.RunNotificationRelay))
}
