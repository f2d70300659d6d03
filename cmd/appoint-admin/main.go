// Command appoint-admin makes somebody an operator of the platform on the database itself: the first one of an installation, and the
// way back in when nobody else is left who could. Configuration by environment, listed by --help; it may be run twice.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("appoint-admin", "makes somebody an operator of the platform, on the database itself", process.RunAppointAdmin))
}
