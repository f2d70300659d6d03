// Command drill runs one of two drills on the programs themselves, and then has an oracle judge what is left that shares no code with the
// platform. It exits 0 when nothing is broken, and PLANT plants a fault that the oracle must find.
//
//	drill restart   at least twenty allocations on simulated nodes, kills -9 at random moments of the whole process, of single programs and
//	                of Postgres, an outage longer than three windows, workflows that are lost and resumed, a node that is
//	                silent through a release
//	drill money     hundreds of allocations over accounts that pay, are refunded and dispute, with Stripe's webhooks duplicated, reordered,
//	                delayed and lost, kills -9 of every program, and NATS and Redis restarted
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(command())
}

func command() int {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: drill restart|money [flags]")
		return 2
	}
	config, storm, err := parse(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "drill:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, config.limit)
	defer cancel()
	fmt.Printf("drill: seed %d, %d allocations on %d nodes, %d kills, plant %q\n", config.seed, config.allocations, config.nodes, config.kills, config.plant)
	broken, err := storm(ctx, config, mathrand.New(mathrand.NewPCG(config.seed, 0)))
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "drill: it could not be run to its end:", err)
		return 1
	case broken > 0:
		return 1
	}
	return 0
}

type drill func(context.Context, settings, *mathrand.Rand) (broken int, err error)

// parse reads which drill is to be run, and how: PLANT and SEED from the environment, the rest from flags.
func parse(name string, arguments []string) (config settings, storm drill, err error) {
	config.plant = os.Getenv("PLANT")
	if config.seed, err = seed(os.Getenv("SEED")); err != nil {
		return config, nil, err
	}
	switch name {
	case "restart":
		err = config.parseRestart(arguments)
		return config, run, err
	case "money":
		err = config.parseMoney(arguments)
		return config, runMoney, err
	default:
		return config, nil, fmt.Errorf("there is no drill %q, only restart and money", name)
	}
}

// parseRestart reads the flags of the restart drill.
func (c *settings) parseRestart(arguments []string) error {
	flags := flag.NewFlagSet("restart", flag.ContinueOnError)
	flags.IntVar(&c.allocations, "allocations", 22, "allocations to hold at once; at least 20 are active whenever something is killed")
	flags.IntVar(&c.nodes, "nodes", 28, "simulated nodes")
	flags.IntVar(&c.kills, "kills", 14, "kills -9, at least 10")
	flags.DurationVar(&c.limit, "limit", 20*time.Minute, "give up after this long")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if c.kills < 10 || c.allocations <= fewest || c.nodes <= c.allocations {
		return errors.New("it takes at least 21 allocations, more nodes than allocations, and 10 kills")
	}
	return c.knows(plantDoubleWindow, plantSkipWipe, plantLostWindow)
}

// knows refuses a plant that is none of these.
func (c *settings) knows(plants ...string) error {
	if c.plant != "" && !slices.Contains(plants, c.plant) {
		return fmt.Errorf("PLANT knows %s, not %q", strings.Join(plants, ", "), c.plant)
	}
	return nil
}

// Faults that can be planted.
const (
	plantDoubleWindow = "double-window"
	plantSkipWipe     = "skip-wipe"
	plantLostWindow   = "lost-window"
	plantDoubleCredit = "double-credit"
	plantLostEvent    = "lost-event"
)

type settings struct {
	allocations, nodes, kills int
	accounts                  int // of the money drill
	limit                     time.Duration
	plant                     string
	seed                      uint64
}

// seed is what is asked for, or a fresh one that is printed so that a storm can be repeated. Another storm than the one that was meant would
// say nothing about it, so what is no number is refused.
func seed(text string) (uint64, error) {
	if text == "" {
		var random [8]byte
		_, _ = rand.Read(random[:]) // never fails since Go 1.24
		return binary.LittleEndian.Uint64(random[:]), nil
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("SEED is a number from 0 to 18446744073709551615, not %q", text)
	}
	return value, nil
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
		{"find the API answering", storm.waitAnswering},
		{"kill single programs and Postgres at random moments", storm.killSingles},
		{"be away for longer than three windows", storm.outage},
		{"lose the workflows of allocations, and resume what a reconciliation finds", storm.loseWorkflows},
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
