// Command gpuaas is the command line of the platform; all of it lives in internal/cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/gpuaas/gpuaas/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, cli.Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environment: os.Getenv}, os.Args[1:])
	stop()
	os.Exit(code)
}
