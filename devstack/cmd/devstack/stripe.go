package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/gpuaas/gpuaas/devstack/stack"
	"github.com/gpuaas/gpuaas/devstack/stripe"
	provider "github.com/gpuaas/gpuaas/internal/stripe"
)

// runStripe runs a stand-in for Stripe alone and says its URL.
func runStripe(ctx context.Context, cfg stack.Config, args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "devstack stripe takes a directory and a port")
		return exitUsage
	}
	port, err := strconv.Atoi(args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "devstack stripe: %q is no port\n", args[1])
		return exitUsage
	}
	config := stripe.Config{Port: port, Directory: args[0], Faults: cfg.StripeFaults, Seed: cfg.StripeSeed}
	if address := os.Getenv("GPUAAS_STRIPE_WEBHOOK_URL"); address != "" {
		config.Endpoints = []stripe.Endpoint{{
			Key: os.Getenv("STRIPE_SECRET_KEY"), URL: address, Secret: os.Getenv("STRIPE_WEBHOOK_SECRET"), Events: provider.EventTypes(),
		}}
	}
	running, err := stripe.Start(config)
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
