package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses of every program.
const (
	exitFailed        = 1
	exitMisconfigured = 2
)

// Main is the whole of a program: it reads the configuration, runs until SIGINT or SIGTERM, and answers the exit status.
func Main[Config checked](program, summary string, run func(context.Context, Config) error) int {
	config, err := Configure[Config](program, summary, os.Args[1:], os.Stdout)
	var mistakes Mistakes
	switch {
	case errors.Is(err, ErrHelp):
		return 0
	case errors.As(err, &mistakes):
		_, _ = fmt.Fprintf(os.Stderr, "%s cannot start:\n%s\n", program, mistakes)
		return exitMisconfigured
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "%s cannot start: %v\n", program, err)
		return exitMisconfigured
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, config); err != nil && !errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintf(os.Stderr, "%s stopped: %v\n", program, err)
		return exitFailed
	}
	return 0
}
