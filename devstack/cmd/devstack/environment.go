package main

import (
	"fmt"
	"os"

	"github.com/gpuaas/gpuaas/devstack/stack"
)

// printEnvironment prints lines for `eval` in a shell, or for an env file.
func printEnvironment(cfg stack.Config) int {
	endpoints, err := stack.ReadEndpoints(cfg.DataDir)
	if err != nil {
		return fail(err)
	}
	lines, err := stack.ProgramEnvironment(cfg.DataDir, endpoints)
	if err != nil {
		return fail(err)
	}
	for _, line := range lines {
		fmt.Fprintf(os.Stdout, "export %s='%s'\n", line.Name, line.Value)
	}
	return 0
}
