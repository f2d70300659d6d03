package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/workflows"
)

// side is one of the two that are compared: a client with its two workers, which tell when an allocation is active.
type side struct {
	name    string
	cluster client.Client
	active  *arrivals
	workers []worker.Worker
}

// newSide starts both workers with the settings of the product.
func newSide(ctx context.Context, name string, config temporal.Config, log *slog.Logger, bindAllocations, bindProvisioning func(client.Client, worker.Registry)) (*side, error) {
	cluster, err := temporal.Dial(ctx, config, log)
	if err != nil {
		return nil, err
	}
	s := &side{name: name, cluster: cluster, active: &arrivals{waiting: map[id.Allocation]chan struct{}{}}}
	_, failed := context.WithCancelCause(ctx)
	options := process.DefaultWorkerConfig().Options(log, failed)
	options.Interceptors = append(options.Interceptors, s.active)
	for queue, bind := range map[string]func(client.Client, worker.Registry){workflows.AllocationsQueue: bindAllocations, workflows.ProvisioningQueue: bindProvisioning} {
		polling := worker.New(cluster, queue, options)
		bind(cluster, polling)
		if err := polling.Start(); err != nil {
			return nil, err
		}
		s.workers = append(s.workers, polling)
	}
	return s, nil
}

func (s *side) stop() {
	for _, polling := range s.workers {
		polling.Stop()
	}
	s.cluster.Close()
}

func newOurs(ctx context.Context, w *world, log *slog.Logger) (*side, func(), error) {
	policies := policy.New(w.pool)
	ledger := activities.NewLedger(w.pool, policies, time.Now, log)
	sealing, stopSealing := context.WithCancel(ctx)
	go func() { _ = activities.NewSealer(w.pool, log).Run(sealing) }()
	probe := &activities.Provisioning{ProbeSecret: []byte(strings.Repeat("s", 32))}
	ours, err := newSide(ctx, "ours", w.ours, log, func(cluster client.Client, registry worker.Registry) {
		funds := &activities.Funds{Pool: w.pool, Cluster: cluster, Now: time.Now}
		allocations := &activities.Allocations{Pool: w.pool, Policy: policies, Now: time.Now, Funds: funds}
		registry.RegisterWorkflowWithOptions(workflows.Funds, workflow.RegisterOptions{Name: workflows.FundsType})
		funds.Bind(registry)
		registry.RegisterWorkflowWithOptions(workflows.Allocation, workflow.RegisterOptions{Name: workflows.AllocationType})
		allocations.Bind(registry)
		ledger.Bind(registry)
	}, func(_ client.Client, registry worker.Registry) {
		probe.Bind(registry)
		activities.NoopNode{}.Bind(registry)
	})
	return ours, func() { stopSealing(); ledger.Close() }, err
}

func newBare(ctx context.Context, w *world, log *slog.Logger) (*side, error) {
	return newSide(ctx, "bare", w.bare, log, func(cluster client.Client, registry worker.Registry) {
		registry.RegisterWorkflowWithOptions(bare, workflow.RegisterOptions{Name: workflows.AllocationType})
		registry.RegisterWorkflowWithOptions(bareFunds, workflow.RegisterOptions{Name: workflows.FundsType})
		bindBareAllocations(cluster, registry)
	}, func(_ client.Client, registry worker.Registry) {
		bindBareProvisioning(registry)
		activities.NoopNode{}.Bind(registry)
	})
}

// arrivals hears the step that makes an allocation active end, in the worker itself: asking from outside would cost
// either side something of its own.
type arrivals struct {
	interceptor.WorkerInterceptorBase
	mutex   sync.Mutex
	waiting map[id.Allocation]chan struct{}
}

func (a *arrivals) await(allocationID id.Allocation) <-chan struct{} {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	arrived := make(chan struct{})
	a.waiting[allocationID] = arrived
	return arrived
}

func (a *arrivals) arrive(allocationID id.Allocation) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if arrived, known := a.waiting[allocationID]; known {
		close(arrived)
		delete(a.waiting, allocationID)
	}
}

// InterceptActivity listens to the steps of this worker.
func (a *arrivals) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	listener := &arrivalListener{arrivals: a}
	listener.Next = next
	return listener
}

type arrivalListener struct {
	interceptor.ActivityInboundInterceptorBase
	arrivals *arrivals
}

// ExecuteActivity runs the step and tells of the arrow to active.
func (l *arrivalListener) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	out, err := l.Next.ExecuteActivity(ctx, in)
	if err == nil && len(in.Args) == 1 {
		if change, is := in.Args[0].(workflows.Transition); is && change.To == allocation.Active {
			l.arrivals.arrive(change.AllocationID)
		}
	}
	return out, err
}
