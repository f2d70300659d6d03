package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/gpuaas/gpuaas/devstack/natsserver"
	"github.com/gpuaas/gpuaas/devstack/stack"
)

// natsProgram is the program that runs a NATS server alone, for tests that stop and kill one of their own: this one.
func natsProgram(e stack.Endpoints) string {
	if e.NATSURL == "" {
		return ""
	}
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return self
}

// runNATS runs a server alone and says its URL.
func runNATS(ctx context.Context, args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "devstack nats takes a directory and a port")
		return exitUsage
	}
	port, err := strconv.Atoi(args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "devstack nats: %q is no port\n", args[1])
		return exitUsage
	}
	running, err := natsserver.Start(natsserver.Config{Directory: args[0], Port: port, Password: os.Getenv("GPUAAS_NATS_PASSWORD")})
	if err != nil {
		return fail(err)
	}
	fmt.Println("ready " + running.URL())
	<-ctx.Done()
	if err := running.Stop(); err != nil {
		return fail(err)
	}
	return 0
}
