// Command drill runs the restart drill: at least twenty allocations on simulated nodes, kills -9 at random moments of
// the whole process, of single programs and of Postgres, an outage longer than three windows, a node that is silent
// through a release; then an oracle that shares no code with the platform judges what is left. PLANT plants a fault that
// the oracle must find: double-window, skip-wipe, lost-window. It exits 0 when nothing is broken.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	os.Exit(command())
}

func command() int {
	config := settings{}
	flag.IntVar(&config.allocations, "allocations", 20, "allocations to hold at once")
	flag.IntVar(&config.nodes, "nodes", 26, "simulated nodes")
	flag.IntVar(&config.kills, "kills", 14, "kills -9, at least 10")
	flag.DurationVar(&config.limit, "limit", 20*time.Minute, "give up after this long")
	flag.Parse()
	config.plant = os.Getenv("PLANT")
	config.seed = seed()
	if config.kills < 10 || config.allocations < 20 || config.nodes <= config.allocations {
		fmt.Fprintln(os.Stderr, "drill: it takes at least 20 allocations, more nodes than allocations, and 10 kills")
		return 2
	}
	switch config.plant {
	case "", plantDoubleWindow, plantSkipWipe, plantLostWindow:
	default:
		fmt.Fprintf(os.Stderr, "drill: PLANT knows %s, %s and %s, not %q\n", plantDoubleWindow, plantSkipWipe, plantLostWindow, config.plant)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, config.limit)
	defer cancel()
	fmt.Printf("drill: seed %d, %d allocations on %d nodes, %d kills, plant %q\n", config.seed, config.allocations, config.nodes, config.kills, config.plant)
	broken, err := run(ctx, config, mathrand.New(mathrand.NewPCG(config.seed, 0)))
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "drill: it could not be run to its end:", err)
		return 1
	case broken > 0:
		return 1
	}
	return 0
}

// Faults that can be planted.
const (
	plantDoubleWindow = "double-window"
	plantSkipWipe     = "skip-wipe"
	plantLostWindow   = "lost-window"
)

type settings struct {
	allocations, nodes, kills int
	limit                     time.Duration
	plant                     string
	seed                      uint64
}

// seed is SEED, or a fresh one that is printed so that a storm can be repeated.
func seed() uint64 {
	if text := os.Getenv("SEED"); text != "" {
		if value, err := strconv.ParseUint(text, 10, 64); err == nil {
			return value
		}
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails since Go 1.24
	return binary.LittleEndian.Uint64(random[:])
}

// run drives the storm and asks the oracle; it answers how many invariants are broken.
func run(ctx context.Context, config settings, random *mathrand.Rand) (broken int, err error) {
	storm, err := newStorm(config, random)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, storm.close(err == nil && broken == 0)) }()
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"start everything in one process", storm.startWhole},
		{"rent a node for each allocation", storm.fill},
		{"kill the whole process at random moments", storm.killWhole},
		{"start every program by itself", storm.startSeparate},
		{"kill single programs and Postgres at random moments", storm.killSingles},
		{"be away for longer than three windows", storm.outage},
		{"silence a node through a release, until release_failed, and bring it back", storm.silentRelease},
		{"release half, rent again, release everything", storm.churn},
		{"plant what was asked for", storm.plantFault},
	} {
		began := time.Now()
		if err := phase.run(ctx); err != nil {
			return 0, fmt.Errorf("%s: %w", phase.name, err)
		}
		fmt.Printf("%8.1fs  %s\n", time.Since(began).Seconds(), phase.name)
	}
	return storm.judge(ctx)
}
