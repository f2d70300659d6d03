// Command funds measures what it costs to bill allocations whose accounts are watched: the same meters over the same accounts,
// settled one window at a time and fifteen, beside each other in one run. It counts Temporal's state transitions and the CPU of the
// whole platform (worker, Temporal, PostgreSQL, Funds) a billed window, less what the same processes use while nothing runs, and
// compares the entries that both leave. It may import anything below internal/process.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/gpuaas/gpuaas/bench/rig"
)

// settings are what the command line decides.
type settings struct {
	allocations, accounts int
	// settlement is how many windows of the second side are settled at once, rounds how often each side is measured.
	settlement int64
	rounds     int
	measured   time.Duration
}

const (
	// window is that of every allocation; minute-long ones cost the same a window and take sixty times as long to measure.
	window  = time.Second
	warmUp  = 6 * time.Second
	quiet   = 15 * time.Second
	aimedAt = 8
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench funds:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	var chosen settings
	flags := flag.NewFlagSet("funds", flag.ContinueOnError)
	flags.IntVar(&chosen.allocations, "allocations", 110, "allocations that are billed; more than the machine carries at a window a settlement is refused")
	flags.IntVar(&chosen.accounts, "accounts", 20, "accounts they are spread over, each with its Funds")
	flags.Int64Var(&chosen.settlement, "settlement", 15, "windows a settlement of the side that is compared with one")
	flags.IntVar(&chosen.rounds, "rounds", 3, "rounds of each side, alternating; the median counts")
	flags.DurationVar(&chosen.measured, "measured", 30*time.Second, "how long each round is measured: a multiple of settlement windows")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if chosen.rounds < 1 || chosen.allocations < chosen.accounts || chosen.accounts < 1 || chosen.settlement < 2 ||
		chosen.measured < window || chosen.measured%(time.Duration(chosen.settlement)*window) != 0 {
		return fmt.Errorf("%+v cannot be measured", chosen)
	}
	return measure(ctx, chosen)
}

// measured is what one round of a side came to.
type measured struct {
	windows                 int64
	transitions, cpuSeconds float64
	entries                 []entry
}

func measure(ctx context.Context, chosen settings) error {
	servers, err := rig.FromEnvironment()
	if err != nil {
		return err
	}
	sides := []int64{1, chosen.settlement}
	transitions, cpu := map[int64][]float64{}, map[int64][]float64{}
	for round := range chosen.rounds {
		var left [][]entry
		for _, settlement := range sides {
			got, err := oneRound(ctx, servers, chosen, settlement)
			if err != nil {
				return fmt.Errorf("%d windows a settlement, round %d: %w", settlement, round+1, err)
			}
			windows := float64(got.windows)
			transitions[settlement] = append(transitions[settlement], got.transitions/windows)
			cpu[settlement] = append(cpu[settlement], 1000*got.cpuSeconds/windows)
			left = append(left, got.entries)
			fmt.Printf("%2d windows a settlement, round %d: %d allocations over %d accounts, %.1f windows a second, %.3f state transitions and %.3f CPU-ms a window\n",
				settlement, round+1, chosen.allocations, chosen.accounts, windows/chosen.measured.Seconds(),
				got.transitions/windows, 1000*got.cpuSeconds/windows)
		}
		same, err := compare(left[0], left[1])
		if err != nil {
			return err
		}
		fmt.Printf("entries identical: %d of each side\n", same)
	}
	one, many := sides[0], sides[1]
	fmt.Printf("state transitions a window: %.3f at 1, %.3f at %d\nCPU-ms a window: %.3f at 1, %.3f at %d\n",
		rig.Median(transitions[one]), rig.Median(transitions[many]), many, rig.Median(cpu[one]), rig.Median(cpu[many]), many)
	fmt.Printf("ratio settlement_transitions_1_vs_%d %.3f\n", many, rig.Median(transitions[one])/rig.Median(transitions[many]))
	rig.AtLeast(fmt.Sprintf("settlement_cpu_1_vs_%d", many), rig.Median(cpu[one])/rig.Median(cpu[many]), aimedAt)
	return nil
}

// entry is one window of one allocation, by its place on the meter: what both sides must leave alike.
type entry struct {
	allocation     int
	startMS, endMS int64
	amountMicros   int64
}

// compare holds the entries of both sides against each other, as far as both have come, and says how many there were.
func compare(one, many []entry) (int, error) {
	byPlace := map[[2]int64]entry{}
	for _, e := range one {
		byPlace[[2]int64{int64(e.allocation), e.startMS}] = e
	}
	same := 0
	for _, e := range many {
		other, both := byPlace[[2]int64{int64(e.allocation), e.startMS}]
		if !both {
			continue
		}
		if other != e {
			return same, fmt.Errorf("an entry differs: %+v at one window a settlement, %+v at many", other, e)
		}
		same++
	}
	if same == 0 || !slices.ContainsFunc(many, func(e entry) bool { return e.startMS > 0 }) {
		return same, fmt.Errorf("%d entries were compared", same)
	}
	return same, nil
}
