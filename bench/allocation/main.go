// Command allocation measures how long a request takes to become an active allocation on the noop runtime, and how
// many do so a second, beside the limit: a bare workflow of the same shape whose steps do nothing, on the same server, with
// the same worker settings and the same number in flight. Rounds alternate; the medians are compared. It drives the
// workers directly and imports whatever it measures.
package main

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	warmUp           = 40
	allocationsEach  = 4 // of one tenant in one round
	roundPatience    = 5 * time.Minute
	settledInterval  = 500 * time.Millisecond
	aimLatencyFactor = 1.3
	aimRateFactor    = 0.75
)

func main() {
	count := flag.Int("allocations", 200, "allocations a round")
	inFlight := flag.Int("in-flight", 32, "requests in flight; more than the server can take up at once")
	rounds := flag.Int("rounds", 3, "rounds of each side, alternating")
	flag.Parse()
	if err := run(context.Background(), *count, *inFlight, *rounds); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, count, inFlight, rounds int) error {
	servers, err := rig.FromEnvironment()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	w, err := newWorld(ctx, servers, count*rounds+warmUp, (count+allocationsEach-1)/allocationsEach)
	if err != nil {
		return err
	}
	defer w.drop()
	ours, stopLedger, err := newOurs(ctx, w, log)
	if err != nil {
		return err
	}
	defer stopLedger()
	defer ours.stop()
	limit, err := newBare(ctx, w, log)
	if err != nil {
		return err
	}
	defer limit.stop()

	measured := map[*side][]round{}
	for _, s := range []*side{ours, limit} {
		if _, err := s.round(ctx, w.principals, warmUp, inFlight); err != nil {
			return fmt.Errorf("%s, warming up: %w", s.name, err)
		}
	}
	for n := range rounds {
		for _, s := range []*side{ours, limit} {
			result, err := s.round(ctx, w.principals, count, inFlight)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", s.name, n+1, err)
			}
			measured[s] = append(measured[s], result)
			fmt.Printf("%s round %d: %d allocations, %d in flight, p50 %s, p99 %s, %.1f a second, %d events each\n",
				s.name, n+1, count, inFlight, result.p50.Round(time.Millisecond), result.p99.Round(time.Millisecond), result.rate, result.events)
		}
	}
	report(measured[ours], measured[limit])
	return nil
}

func report(ours, limit []round) {
	p50 := func(r round) float64 { return r.p50.Seconds() }
	rate := func(r round) float64 { return r.rate }
	fmt.Printf("events: ours %d, bare %d (history of one allocation that waits for its window)\n", ours[0].events, limit[0].events)
	rig.AtMost("allocation_latency_p50", median(ours, p50)/median(limit, p50), aimLatencyFactor)
	rig.AtLeast("allocation_rate", median(ours, rate)/median(limit, rate), aimRateFactor)
}

// round is what one side did in one round.
type round struct {
	p50, p99 time.Duration
	// rate is allocations a second.
	rate   float64
	events int64
}

func median(rounds []round, of func(round) float64) float64 {
	values := make([]float64, 0, len(rounds))
	for _, one := range rounds {
		values = append(values, of(one))
	}
	return rig.Median(values)
}

// round keeps inFlight requests under way until count are active: each next request starts when one has become active.
func (s *side) round(ctx context.Context, principals []identity.Principal, count, inFlight int) (round, error) {
	ctx, cancel := context.WithTimeout(ctx, roundPatience)
	defer cancel()
	jobs := make(chan int)
	go func() {
		defer close(jobs)
		for n := range count {
			select {
			case jobs <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	var (
		working   sync.WaitGroup
		mutex     sync.Mutex
		latencies []time.Duration
		trouble   error
		last      id.Allocation
	)
	began := time.Now()
	for range inFlight {
		working.Go(func() {
			for n := range jobs {
				allocationID, latency, err := s.one(ctx, principals[n%len(principals)])
				mutex.Lock()
				if err != nil {
					trouble = err
					cancel()
				}
				latencies, last = append(latencies, latency), allocationID
				mutex.Unlock()
			}
		})
	}
	working.Wait()
	took := time.Since(began)
	if trouble != nil {
		return round{}, trouble
	}
	slices.Sort(latencies)
	events, err := s.events(ctx, last)
	return round{
		p50: latencies[len(latencies)/2], p99: latencies[len(latencies)*99/100], rate: float64(count) / took.Seconds(), events: events,
	}, err
}

// one makes a request as the API does and waits until its allocation is active.
func (s *side) one(ctx context.Context, principal identity.Principal) (id.Allocation, time.Duration, error) {
	allocationID, key, body := rig.NewID[id.Allocation](), hex.EncodeToString(rig.Entropy(16)), rig.Entropy(32)
	arrived := s.active.await(allocationID)
	began := time.Now()
	handle, err := s.cluster.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: s.cluster.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: workflows.AllocationWorkflowID(allocationID), TaskQueue: workflows.AllocationsQueue,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, workflows.AllocationType, workflows.AllocationInput{AllocationID: allocationID, AdmitBefore: began.Add(time.Minute)}),
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: key, UpdateName: workflows.AdmitUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
			Args: []any{workflows.AdmitRequest{
				AllocationID: allocationID, Principal: principal, ProjectID: principal.ProjectID, SKU: benchSKU, Name: "bench",
				IdempotencyKey: key, RequestHash: body, CorrelationID: key,
			}},
		},
	})
	if err != nil {
		return allocationID, 0, err
	}
	var reply workflows.AdmitReply
	if err := handle.Get(ctx, &reply); err != nil {
		return allocationID, 0, err
	}
	if !reply.Admitted {
		return allocationID, 0, fmt.Errorf("refused: %+v", reply.Fault)
	}
	select {
	case <-arrived:
		return allocationID, time.Since(began), nil
	case <-ctx.Done():
		return allocationID, 0, ctx.Err()
	}
}

// events is the length of an allocation's history once it waits for its window.
func (s *side) events(ctx context.Context, allocationID id.Allocation) (int64, error) {
	tick := time.NewTicker(settledInterval)
	defer tick.Stop()
	var before int64
	for {
		described, err := s.cluster.DescribeWorkflowExecution(ctx, workflows.AllocationWorkflowID(allocationID), "")
		if err != nil {
			return 0, err
		}
		length := described.GetWorkflowExecutionInfo().GetHistoryLength()
		if length == before && len(described.GetPendingActivities()) == 0 {
			return length, nil
		}
		before = length
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
