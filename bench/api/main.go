// Command api measures what the public API costs: reading an allocation, a list and a balance, and creating, at 1, 16 and
// 64 connections, beside the limit: bare net/http handlers that make the same statements through pgx on the same database
// and check nothing. Authentication, authorisation, rate limit, log and tracing are on. Rounds of both sides alternate; the medians
// are compared. Then one read is measured layer by layer. Both sides and the load run in this process. It imports what it measures.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/gpuaas/gpuaas/bench/rig"
)

const (
	aimRead = 0.6
	warmUp  = 200 * time.Millisecond
)

type settings struct {
	rounds, creates int
	lasting         time.Duration
	connections     []int
	layers          bool
}

func main() {
	s := settings{connections: []int{1, 16, 64}}
	flag.IntVar(&s.rounds, "rounds", 3, "rounds of each side, alternating")
	flag.DurationVar(&s.lasting, "round", time.Second, "how long a round of reads lasts")
	flag.IntVar(&s.creates, "creates", 32, "allocations created in a round; 0 leaves creating out")
	flag.BoolVar(&s.layers, "layers", true, "also measure a read layer by layer")
	flag.Parse()
	if err := run(context.Background(), s); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	w, err := newWorld(ctx, s)
	if err != nil {
		return err
	}
	defer w.drop()
	fmt.Printf("one database, one Redis, tracing on; %d rounds of %s each side, alternating; medians\n", s.rounds, s.lasting)
	var ratios []float64
	for _, read := range w.reads() {
		for _, connections := range s.connections {
			ratio, err := compare(read.name, connections, s.rounds, func(bare bool) (sample, error) {
				return load(ctx, connections, s.lasting, read.request(bare))
			})
			if err != nil {
				return err
			}
			ratios = append(ratios, ratio)
		}
	}
	if s.creates > 0 {
		for _, connections := range s.connections {
			if _, err := compare("create", connections, s.rounds, func(bare bool) (sample, error) {
				return w.createMany(ctx, connections, s.creates, bare)
			}); err != nil {
				return err
			}
		}
	}
	if s.layers {
		if err := w.layers(ctx, s); err != nil {
			return err
		}
	}
	fmt.Printf("aim: api_read_vs_bare ≥ %.2f; it is the geometric mean of the %d reads, the lowest is %.3f\n", aimRead, len(ratios), slices.Min(ratios))
	fmt.Printf("ratio api_read_vs_bare %.3f\n", geometricMean(ratios))
	return nil
}

// compare measures both sides in turn and prints their medians.
func compare(name string, connections, rounds int, measure func(bare bool) (sample, error)) (float64, error) {
	measured := map[bool][]sample{}
	for range rounds {
		for _, bare := range []bool{false, true} {
			one, err := measure(bare)
			if err != nil {
				return 0, fmt.Errorf("%s at %d connections: %w", name, connections, err)
			}
			measured[bare] = append(measured[bare], one)
		}
	}
	ours, limit := middle(measured[false]), middle(measured[true])
	ratio := ours.rate / limit.rate
	fmt.Printf("%-15s %2d connections: ours %7.0f/s p50 %8s p99 %8s; bare %7.0f/s p50 %8s p99 %8s\n", name, connections,
		ours.rate, ours.p50.Round(time.Microsecond), ours.p99.Round(time.Microsecond), limit.rate, limit.p50.Round(time.Microsecond), limit.p99.Round(time.Microsecond))
	fmt.Printf("ratio api_%s_%d %.3f\n", name, connections, ratio)
	return ratio, nil
}

// middle is the median of each figure.
func middle(samples []sample) sample {
	of := func(figure func(sample) float64) float64 {
		values := make([]float64, len(samples))
		for i, one := range samples {
			values[i] = figure(one)
		}
		return rig.Median(values)
	}
	return sample{
		rate: of(func(s sample) float64 { return s.rate }),
		p50:  time.Duration(of(func(s sample) float64 { return float64(s.p50) })),
		p99:  time.Duration(of(func(s sample) float64 { return float64(s.p99) })),
	}
}
