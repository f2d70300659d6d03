package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/devstack/stack"
)

// How long it may take until the nodes work: a while for the platform, and a moment for each node on a slow machine.
const (
	openingDeadline = 3 * time.Minute
	nodeDeadline    = time.Second
)

// up runs the infrastructure and all programs of ours in this process, until a signal.
func up(ctx context.Context, cfg stack.Config, nodes int) int {
	return hold(ctx, cfg, func(cfg stack.Config, running *stack.Stack) error {
		return runPrograms(ctx, cfg, running, nodes)
	})
}

func runPrograms(ctx context.Context, cfg stack.Config, running *stack.Stack, nodes int) error {
	endpoints := running.Endpoints()
	programs, err := stack.NewPrograms(ctx, cfg.DataDir, endpoints, cfg.Logger)
	if err != nil {
		return err
	}
	defer programs.Stop()
	if err := programs.StartPlatform(); err != nil {
		return err
	}
	opened := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, openingDeadline+time.Duration(nodes)*nodeDeadline)
		defer cancel()
		opened <- open(ctx, programs, stack.NewOpening(endpoints, nodes), cfg.Notice)
	}()
	select {
	case err := <-programs.Failed():
		return err
	case err := <-opened:
		if err != nil {
			return err
		}
	}
	if err := running.Announce(endpoints); err != nil {
		return err
	}
	fmt.Println(readyText(fmt.Sprintf("the whole platform with %d simulated nodes", nodes), endpoints, running.EndpointsFile()))
	select {
	case err := <-programs.Failed():
		return err
	case <-ctx.Done():
		return nil
	}
}

func open(ctx context.Context, programs *stack.Programs, opening *stack.Opening, notice func(string)) error {
	if err := opening.Prepare(ctx); err != nil {
		return err
	}
	if err := programs.StartNodes(); err != nil {
		return err
	}
	denied, err := opening.AwaitNodes(ctx)
	if len(denied) > 0 && err == nil {
		notice("denied, and therefore not waited for: " + strings.Join(denied, ", "))
	}
	return err
}
