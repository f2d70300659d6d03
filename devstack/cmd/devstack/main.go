// Command devstack runs a whole development instance of the platform, or the infrastructure of one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gpuaas/gpuaas/devstack/stack"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

const usage = `devstack runs a development instance of the platform on this machine.

  devstack up                            the whole platform in one process, until it is stopped
  devstack infra                         the infrastructure of an instance, until it is stopped
  devstack run [--parts LIST] -- CMD...  a passing infrastructure for CMD, named by GPUAAS_TEST_* variables
  devstack stripe DIRECTORY PORT         a stand-in for Stripe alone, until it is stopped; $STRIPE_SECRET_KEY's account sends its webhooks,
                                         signed with $STRIPE_WEBHOOK_SECRET, to $GPUAAS_STRIPE_WEBHOOK_URL; port 0 takes any
  devstack env                           prints the variables that start programs separately against this instance
  devstack down-clean                    removes the data of this instance
  devstack nats DIRECTORY PORT           a NATS server alone, until it is stopped; $GPUAAS_NATS_PASSWORD lets one in, port 0 takes any

LIST is any of postgres,temporal,ui,oidc,ca,redis,nats,stripe,smtp (default all but ui and smtp).

Environment:
  GPUAAS_DATA             directory of the instance (default ./.data/dev)
  GPUAAS_PORT_BASE        first of its 100 ports (default 8080, or the next free block; data stays on the ports it has had while they are free)
  GPUAAS_SIM_NODES        simulated nodes (default 3)
  DATABASE_URL            a PostgreSQL server to use instead of a private one; its role needs CREATEDB and CREATEROLE
  GPUAAS_POSTGRES_BIN     directory of initdb and postgres (default: the newest on this machine)
  GPUAAS_REDIS            embedded, or real for a redis-server of this machine (default embedded; for run, real where there is one)
  GPUAAS_REDIS_BIN        path of redis-server (default: on the PATH)
  GPUAAS_STRIPE_FAULTS    the trouble that the stand-in for Stripe makes, JSON: probabilities duplicate, lose, reorder, fail, cut; delay_ms, slow_ms
  GPUAAS_STRIPE_SEED      a number that makes the same trouble again
  GPUAAS_TEMPORAL_CONFIG  path of temporal-dev.yaml (default: found upward from here)
  LOG_LEVEL               debug, info, warn or error (default info), for the log in $GPUAAS_DATA/devstack.log
`

const (
	exitFailed = 1
	exitUsage  = 2
	usualNodes = 3
)

func main() { os.Exit(dispatch(os.Args[1:])) }

func dispatch(args []string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Print(usage)
		return 0
	}
	cfg, err := instanceConfig()
	if err != nil {
		return fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	nodes, err := simulatedNodes()
	if err != nil {
		return fail(err)
	}
	switch args[0] {
	case "up":
		return up(ctx, cfg, nodes)
	case "infra":
		return infra(ctx, cfg, nodes)
	case "run":
		return run(cfg, args[1:])
	case "nats":
		return runNATS(ctx, args[1:])
	case "stripe":
		return runStripe(ctx, cfg, args[1:])
	case "env":
		return printEnvironment(cfg)
	case "down-clean":
		if err := stack.Clean(ctx, cfg.DataDir, cfg.DatabaseURL); err != nil {
			return fail(err)
		}
		return 0
	default:
		fmt.Fprintf(os.Stderr, "devstack knows no command %q; see devstack --help\n", args[0])
		return exitUsage
	}
}

func fail(err error) int {
	fmt.Fprintf(os.Stderr, "devstack: %v\n", err)
	return exitFailed
}

// instanceConfig reads the environment that names an instance.
func instanceConfig() (stack.Config, error) {
	cfg := stack.Config{
		DataDir: os.Getenv("GPUAAS_DATA"), DatabaseURL: os.Getenv("DATABASE_URL"),
		PostgresBin: os.Getenv("GPUAAS_POSTGRES_BIN"), RedisBin: os.Getenv("GPUAAS_REDIS_BIN"), TemporalConfig: os.Getenv("GPUAAS_TEMPORAL_CONFIG"),
		Parts: stack.AllParts(), Product: true,
		Notice: func(s string) { fmt.Fprintln(os.Stderr, "devstack: "+s) },
	}
	if cfg.DataDir == "" {
		cfg.DataDir = filepath.Join(".data", "dev")
	}
	var err error
	if cfg.Redis, err = stack.ParseRedisKind(os.Getenv("GPUAAS_REDIS")); err != nil {
		return cfg, err
	}
	if text := os.Getenv("GPUAAS_STRIPE_FAULTS"); text != "" {
		if err := json.Unmarshal([]byte(text), &cfg.StripeFaults); err != nil {
			return cfg, fmt.Errorf("GPUAAS_STRIPE_FAULTS must be JSON such as {\"duplicate\":0.3}: %w", err)
		}
	}
	if text := os.Getenv("GPUAAS_STRIPE_SEED"); text != "" {
		if cfg.StripeSeed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return cfg, fmt.Errorf("GPUAAS_STRIPE_SEED must be a number, not %q", text)
		}
	}
	if text := os.Getenv("GPUAAS_PORT_BASE"); text != "" {
		base, err := strconv.Atoi(text)
		if err != nil {
			return cfg, fmt.Errorf("GPUAAS_PORT_BASE must be a number, not %q", text)
		}
		cfg.PortBase = base
	}
	return cfg, nil
}

func simulatedNodes() (int, error) {
	text := os.Getenv("GPUAAS_SIM_NODES")
	if text == "" {
		return usualNodes, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("GPUAAS_SIM_NODES must be a number of nodes, not %q", text)
	}
	return n, nil
}

// openLog sends our log, and that of libraries that write to the standard loggers, to the instance's file.
func openLog(cfg *stack.Config) (func(), error) {
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("the data directory cannot be made: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(cfg.DataDir, "devstack.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the log cannot be opened: %w", err)
	}
	var level slog.Level
	if text := os.Getenv("LOG_LEVEL"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			return nil, fmt.Errorf("LOG_LEVEL must be debug, info, warn or error, not %q", text)
		}
	}
	cfg.Logger = telemetry.NewLogger(file, level)
	slog.SetDefault(cfg.Logger)
	stdlog.SetOutput(file)
	stdlog.SetFlags(0)
	return func() { _ = file.Close() }, nil
}

// infra runs the infrastructure until a signal. When programs of ours are started beside it, it opens the instance
// through their API as `up` does: credit for the development users, enrolment tokens for the simulated nodes.
func infra(ctx context.Context, cfg stack.Config, nodes int) int {
	cfg.Beside = true
	return hold(ctx, cfg, func(_ stack.Config, running *stack.Stack) error {
		endpoints := running.Endpoints()
		if err := running.Announce(endpoints); err != nil {
			return err
		}
		fmt.Println(readyText("infrastructure; `devstack env` prints what the programs need", endpoints, running.EndpointsFile()))
		if err := stack.NewOpening(endpoints, nodes).Prepare(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "devstack: the instance cannot be opened: %v\n", err)
		}
		<-ctx.Done()
		return nil
	})
}

// hold starts the infrastructure, runs what is to run on it until that ends or a signal comes, and stops everything.
func hold(ctx context.Context, cfg stack.Config, run func(stack.Config, *stack.Stack) error) int {
	closeLog, err := openLog(&cfg)
	if err != nil {
		return fail(err)
	}
	defer closeLog()
	running, err := stack.Start(ctx, cfg)
	if ctx.Err() != nil && running == nil {
		return 0 // told to stop while it started; what had started is stopped again
	}
	if err != nil {
		return fail(err)
	}
	err = run(cfg, running)
	if ctx.Err() != nil {
		err = nil // a signal ended it, whatever was under way
	}
	if err = errors.Join(err, running.Stop()); err != nil {
		return fail(err)
	}
	return 0
}

func readyText(what string, e stack.Endpoints, file string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ready: %s\n", what)
	for _, line := range [][2]string{
		{"API", e.APIURL}, {"node API (mTLS)", e.APIInternalURL}, {"OIDC issuer", e.IssuerURL}, {"Temporal UI", e.TemporalUIURL},
		{"Temporal", e.TemporalAddress}, {"Postgres", e.DatabaseURL}, {"Redis", e.RedisURL}, {"NATS", e.NATSURL}, {"Stripe stand-in", e.StripeURL}, {"mail", e.MailURL}, {"step-ca", e.CAURL}, {"endpoints", file},
	} {
		if line[1] != "" {
			fmt.Fprintf(&b, "  %-16s %s\n", line[0], line[1])
		}
	}
	for _, u := range e.Users {
		fmt.Fprintf(&b, "  %-16s %s / %s (%s)\n", "login", u.Username, u.Password, strings.Join(u.Roles, ", "))
	}
	return strings.TrimRight(b.String(), "\n")
}
