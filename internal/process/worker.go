package process

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/internal/temporal"
)

// WorkerConfig bounds what one Temporal worker does at a time.
type WorkerConfig struct {
	MaxActivities    int `env:"WORKER_MAX_CONCURRENT_ACTIVITIES" envDefault:"200" usage:"steps in hand at once"`
	MaxWorkflowTasks int `env:"WORKER_MAX_CONCURRENT_WORKFLOW_TASKS" envDefault:"200" usage:"workflow tasks in hand at once"`
	ActivityPollers  int `env:"WORKER_ACTIVITY_POLLERS" envDefault:"8" usage:"long polls for steps"`
	WorkflowPollers  int `env:"WORKER_WORKFLOW_POLLERS" envDefault:"8" usage:"long polls for workflow tasks"`
	// StopTimeout is how long steps in hand may finish after a stop was asked for.
	StopTimeout time.Duration `env:"WORKER_STOP_TIMEOUT" envDefault:"10s" usage:"how long steps in hand may finish at a stop"`
}

// DefaultWorkerConfig is what an empty environment gives, for whoever assembles a program in Go.
func DefaultWorkerConfig() WorkerConfig {
	return WorkerConfig{MaxActivities: 200, MaxWorkflowTasks: 200, ActivityPollers: 8, WorkflowPollers: 8, StopTimeout: 10 * time.Second}
}

// Check says what is wrong with it.
func (c WorkerConfig) Check() []string {
	var mistakes []string
	for _, bound := range []struct {
		name  string
		value int
		least int
	}{
		{"WORKER_MAX_CONCURRENT_ACTIVITIES", c.MaxActivities, 1},
		{"WORKER_MAX_CONCURRENT_WORKFLOW_TASKS", c.MaxWorkflowTasks, 2},
		{"WORKER_ACTIVITY_POLLERS", c.ActivityPollers, 1},
		{"WORKER_WORKFLOW_POLLERS", c.WorkflowPollers, 2},
	} {
		if bound.value < bound.least {
			mistakes = append(mistakes, fmt.Sprintf("%s must be at least %d.", bound.name, bound.least))
		}
	}
	return mistakes
}

// Options are the settings of every worker of ours; a benchmark of a bare worker uses the same. failed hears why a worker
// ended for good.
func (c WorkerConfig) Options(log *slog.Logger, failed context.CancelCauseFunc) worker.Options {
	return worker.Options{
		MaxConcurrentActivityExecutionSize:      c.MaxActivities,
		MaxConcurrentLocalActivityExecutionSize: c.MaxActivities,
		MaxConcurrentWorkflowTaskExecutionSize:  c.MaxWorkflowTasks,
		MaxConcurrentActivityTaskPollers:        c.ActivityPollers,
		MaxConcurrentWorkflowTaskPollers:        c.WorkflowPollers,
		WorkerStopTimeout:                       c.StopTimeout,
		Interceptors:                            []interceptor.WorkerInterceptor{temporal.Interceptor(log)},
		OnFatalError:                            func(err error) { failed(fmt.Errorf("the Temporal worker ended: %w", err)) },
	}
}

// work runs a worker on a queue until ctx ends or the worker fails for good.
func work(ctx context.Context, cluster client.Client, queue string, config WorkerConfig, log *slog.Logger, bind func(worker.Registry)) error {
	ctx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	polling := worker.New(cluster, queue, config.Options(log, failed))
	bind(polling)
	if err := polling.Start(); err != nil {
		return fmt.Errorf("start polling %s: %w", queue, err)
	}
	defer polling.Stop()
	log.InfoContext(ctx, "polling", "queue", queue)
	<-ctx.Done()
	return context.Cause(ctx)
}
