// Command billing measures the ledger beside its limits, on a private PostgreSQL of its own with fsync on: the posting of
// windows through the ledger's writer against the bare statement and against COPY, and the reading of a balance against
// a plain lookup. Runs alternate and the median of at least three counts. The windows through Temporal are a
// subcommand of their own. It may import anything below internal/process.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/gpuaas/gpuaas/internal/postgres"
	"github.com/gpuaas/gpuaas/internal/store"
)

// benchmarks are the subcommands, in the order in which "all" runs them.
var benchmarks = []struct {
	name string
	run  func(ctx context.Context, databases databaseURLs, settings settings) error
}{
	{"ledger", benchLedger},
	{"balance", benchBalance},
	{"temporal", benchTemporal},
}

// settings are what the command line decides.
type settings struct {
	runs        int
	accounts    int
	allocations int
	windows     int
	entries     int
}

type databaseURLs struct{ owner, program string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench billing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("billing [ledger|balance|temporal|all]", flag.ContinueOnError)
	var chosen settings
	flags.IntVar(&chosen.runs, "runs", 9, "runs of each contender, alternating; the median counts")
	flags.IntVar(&chosen.accounts, "accounts", 250, "accounts that are billed")
	flags.IntVar(&chosen.allocations, "allocations", 6000, "allocations that are billed, spread over the accounts")
	flags.IntVar(&chosen.windows, "windows", 10, "windows of each allocation in one run")
	flags.IntVar(&chosen.entries, "entries", 1_000_000, "ledger entries behind the balance")
	wanted := "all"
	if len(arguments) > 0 && arguments[0] != "" && arguments[0][0] != '-' {
		wanted, arguments = arguments[0], arguments[1:]
	}
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if chosen.runs < 3 {
		return fmt.Errorf("a median needs at least 3 runs, not %d", chosen.runs)
	}
	known := false
	for _, benchmark := range benchmarks {
		if wanted != "all" && wanted != benchmark.name {
			continue
		}
		known = true
		if err := onFreshDatabase(ctx, func(databases databaseURLs) error { return benchmark.run(ctx, databases, chosen) }); err != nil {
			return fmt.Errorf("%s: %w", benchmark.name, err)
		}
	}
	if !known {
		return fmt.Errorf("there is no benchmark %q", wanted)
	}
	return nil
}

// onFreshDatabase starts a private server with a migrated database, and removes both.
func onFreshDatabase(ctx context.Context, do func(databaseURLs) error) (err error) {
	dir, err := os.MkdirTemp("/var/tmp", "gpuaas-bench-")
	if err != nil {
		return err
	}
	server, err := postgres.Start(ctx, postgres.Config{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if stopErr := server.Stop(); stopErr != nil && err == nil {
			err = stopErr
		}
		_ = postgres.Remove(clean, dir)
		_ = os.RemoveAll(filepath.Clean(dir))
	}()
	databases, err := server.Databases(ctx)
	if err != nil {
		return err
	}
	owner := databases.OwnerURL(databases.Product)
	if _, err := store.Migrate(ctx, owner); err != nil {
		return err
	}
	if err := databases.AdmitPrograms(ctx); err != nil {
		return err
	}
	return do(databaseURLs{owner: owner, program: databases.ProgramURL()})
}

func median[Number int64 | float64 | time.Duration](values []Number) Number {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
