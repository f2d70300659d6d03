package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/gpuaas/gpuaas/devstack/stack"
	"github.com/gpuaas/gpuaas/internal/redis/redisserver"
)

const signalExitBase = 128

// run starts a passing instance of the asked parts, runs the command with variables that name them, and leaves
// nothing behind. It answers the command's exit status.
func run(cfg stack.Config, args []string) int {
	parts, command, err := runArguments(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "devstack run: %v\n", err)
		return exitUsage
	}
	dir, err := os.MkdirTemp("", "gpuaas-run-")
	if err != nil {
		return fail(err)
	}
	cfg.DataDir, cfg.PortBase, cfg.PassingPorts, cfg.Parts, cfg.Product = dir, 0, true, parts, false
	if cfg.Redis == "" && slices.Contains(parts, stack.Redis) {
		cfg.Redis = redisAtHand(cfg)
	}
	closeLog, err := openLog(&cfg)
	if err != nil {
		return fail(err)
	}
	status := runOn(cfg, command)
	closeLog()
	if err := stack.Clean(context.Background(), dir, cfg.DatabaseURL); err != nil {
		return fail(err)
	}
	return status
}

// redisAtHand is the real server where there is one: tests should meet what production runs.
func redisAtHand(cfg stack.Config) stack.RedisKind {
	if _, err := redisserver.Find(cfg.RedisBin); err != nil {
		cfg.Notice(fmt.Sprintf("%v; tests get the embedded server, and those that need a real one are skipped", err))
		return stack.RedisEmbedded
	}
	return stack.RedisReal
}

func runOn(cfg stack.Config, command []string) int {
	// Signals are the command's to answer; while the infrastructure starts, they end us.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	running, err := stack.Start(ctx, cfg)
	if err != nil {
		return fail(err)
	}
	status, err := execute(running, command)
	if stopped := running.Stop(); err != nil || stopped != nil {
		code := fail(errors.Join(err, stopped))
		if status == 0 {
			return code
		}
	}
	return status
}

// execute runs the command and passes a signal that we get on to it.
func execute(running *stack.Stack, command []string) (int, error) {
	endpoints := running.Endpoints()
	if err := running.Announce(endpoints); err != nil {
		return exitFailed, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), testEnvironment(endpoints, running.EndpointsFile())...)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return exitFailed, fmt.Errorf("%s cannot be run: %w", command[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case received := <-signals:
			_ = cmd.Process.Signal(received)
		case err := <-ended:
			return exitStatus(err)
		}
	}
}

func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return signalExitBase + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

func testEnvironment(e stack.Endpoints, file string) []string {
	var lines []string
	for _, pair := range [][2]string{
		{"GPUAAS_ENDPOINTS", file},
		{"GPUAAS_TEST_DATABASE_URL", e.DatabaseAdminURL},
		{"GPUAAS_TEST_TEMPORAL_ADDRESS", e.TemporalAddress},
		{"GPUAAS_TEST_TEMPORAL_UI_URL", e.TemporalUIInternalURL},
		{"GPUAAS_TEST_REDIS_URL", e.RedisURL},
		{"GPUAAS_TEST_REDIS_SERVER", e.RedisServer},
		{"GPUAAS_TEST_NATS_URL", e.NATSURL},
		{"GPUAAS_TEST_STRIPE_URL", e.StripeURL},
		{"GPUAAS_TEST_NATS_SERVER", natsProgram(e)},
		{"GPUAAS_TEST_OIDC_ISSUER", e.IssuerURL},
		{"GPUAAS_TEST_OIDC_REDIRECT", e.RedirectURL},
		{"GPUAAS_TEST_CA_URL", e.CAURL},
		{"GPUAAS_TEST_CA_ROOT_FILE", e.CARootFile},
		{"GPUAAS_TEST_CA_PROVISIONER", e.CAProvisioner},
		{"GPUAAS_TEST_CA_PROVISIONER_KEY_FILE", e.CAProvisionerKey},
	} {
		if pair[1] != "" {
			lines = append(lines, pair[0]+"="+pair[1])
		}
	}
	return lines
}

func runArguments(args []string) (parts []stack.Part, command []string, err error) {
	parts = []stack.Part{stack.Postgres, stack.Temporal, stack.OIDC, stack.CA, stack.Redis, stack.NATS, stack.Stripe}
	for len(args) > 0 && args[0] != "--" {
		list, given := strings.CutPrefix(args[0], "--parts=")
		switch {
		case given:
			args = args[1:]
		case args[0] == "--parts" && len(args) > 1:
			list, args = args[1], args[2:]
		default:
			return nil, nil, fmt.Errorf("%q is not understood: devstack run [--parts LIST] -- CMD", args[0])
		}
		parts = nil
		for _, name := range strings.Split(list, ",") {
			part := stack.Part(strings.TrimSpace(name))
			if !slices.Contains(stack.AllParts(), part) {
				return nil, nil, fmt.Errorf("there is no part %q", name)
			}
			parts = append(parts, part)
		}
	}
	if len(args) < 2 {
		return nil, nil, errors.New("a command must follow --")
	}
	return parts, args[1:], nil
}
