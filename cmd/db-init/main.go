// Command db-init brings a database to the newest schema and, when asked, seeds it; configuration by environment,
// listed by --help. It may be run twice and by two at once.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("db-init", "applies the migrations that a database lacks", process.RunDatabaseInit))
}
