package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Config is what an agent needs to run one node.
type Config struct {
	// GatewayURL is https://host:port of the node gateway; Trust is how it is known before enrolment.
	GatewayURL string
	Trust      gateway.Trust
	// EnrolToken is the one-time token; not needed once the node is enrolled.
	EnrolToken string
	// Directory holds identity, journal and fence; root only.
	Directory string
	// Version is the agent's, as heartbeats and inventory tell it.
	Version string
	Hands   Hands
	Log     *slog.Logger
	// Enrolled, if set, is told the node's id before the first task.
	Enrolled func(id.Node) error
}

// ErrSevered is the cause to cancel Run with to have the node fall silent at once, as a machine that lost its power:
// tasks in hand are not answered.
var ErrSevered = errors.New("the node was severed from the platform")

// Agent runs the tasks of one node.
type Agent struct {
	config  Config
	log     *slog.Logger
	runner  *runner
	journal *Journal
}

// Open reads journal and fence; nothing is dialled yet.
func Open(config Config) (*Agent, error) {
	journal, err := OpenJournal(config.Directory)
	if err != nil {
		return nil, err
	}
	fence, err := OpenFence(config.Directory)
	if err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	hands := config.Hands
	hands.Machine = describedMachine{Machine: hands.Machine, gpus: hands.GPUs, version: config.Version}
	config.Hands = hands
	return &Agent{config: config, log: config.Log, journal: journal, runner: newRunner(hands, journal, fence, config.Log)}, nil
}

// Close ends the journal. Run has returned.
func (a *Agent) Close() error { return a.journal.Close() }

// Run enrols the node if it must, and serves it until ctx ends. It reconnects for ever; what cannot heal by itself, an
// enrolment token that is not valid or a journal that cannot be written, ends it with an error.
func (a *Agent) Run(ctx context.Context) error {
	files := gateway.Files{Directory: a.config.Directory}
	if !files.Enrolled() {
		if err := a.enrol(ctx, files); err != nil {
			return err
		}
	}
	platform, err := gateway.Connect(a.config.GatewayURL, files, a.log)
	if err != nil {
		return err
	}
	defer platform.Close()
	nodeID := platform.NodeID()
	a.runner.nodeID.Store(&nodeID)
	if a.config.Enrolled != nil {
		if err := a.config.Enrolled(nodeID); err != nil {
			return err
		}
	}
	return a.serve(ctx, platform)
}

func (a *Agent) enrol(ctx context.Context, files gateway.Files) error {
	if a.config.EnrolToken == "" {
		return errors.New("the node is not enrolled: give it a one-time enrolment token")
	}
	return a.insist(ctx, "enrol at the node gateway", func(ctx context.Context) error {
		inventory, err := a.config.Hands.Machine.Inventory(ctx)
		if err != nil {
			return err
		}
		answer, err := gateway.Enrol(ctx, a.config.GatewayURL, a.config.Trust, a.config.EnrolToken, inventory, files)
		if err != nil {
			if code := fault.CodeOf(err); code == fault.EnrolTokenInvalid || code == fault.NodeDenied {
				return hopeless{err}
			}
			return err
		}
		a.log.InfoContext(ctx, "the node is enrolled", "node_id", answer.NodeID)
		return a.heed(answer.Settings)
	})
}

// serve keeps the certificate fresh, the heart beating and a worker polling.
func (a *Agent) serve(ctx context.Context, platform *gateway.Client) error {
	renewing, stopRenewing := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() { defer close(renewed); _ = platform.KeepRenewed(renewing) }() // it ends by its context alone
	defer func() { stopRenewing(); <-renewed }()

	var settings gateway.Settings
	beatOnce := func(ctx context.Context) (err error) { settings, err = a.beat(ctx, platform); return err }
	if err := a.insist(ctx, "send the first heartbeat", beatOnce); err != nil {
		return err
	}
	reported := make(chan error, 1)
	go func() { reported <- a.reportInventory(ctx, platform) }()
	hearts := make(chan error, 1)
	beating, stopBeating := context.WithCancel(ctx)
	go func() { hearts <- a.keepBeating(beating, platform, settings) }()

	err := a.keepWorking(ctx, platform, settings)
	stopBeating()
	<-hearts
	<-reported
	return err
}

// reportInventory tells the platform what the node has now: it may have changed since enrolment.
func (a *Agent) reportInventory(ctx context.Context, platform *gateway.Client) error {
	return a.insist(ctx, "report the inventory", func(ctx context.Context) error {
		inventory, err := a.config.Hands.Machine.Inventory(ctx)
		if err != nil {
			return err
		}
		return platform.ReportInventory(ctx, inventory)
	})
}

func (a *Agent) keepBeating(ctx context.Context, platform *gateway.Client, settings gateway.Settings) error {
	for {
		if err := pause(ctx, settings.HeartbeatInterval()); err != nil {
			return err
		}
		fresh, err := a.beat(ctx, platform)
		if err != nil {
			if ctx.Err() == nil {
				a.log.WarnContext(ctx, "a heartbeat did not arrive", "error", err)
			}
			continue
		}
		settings = fresh
	}
}

// heartbeatTimeout bounds one heartbeat: a hung connection must not silence the node for longer.
const heartbeatTimeout = 10 * time.Second

func (a *Agent) beat(ctx context.Context, platform *gateway.Client) (gateway.Settings, error) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	settings, err := platform.Heartbeat(ctx, gateway.HeartbeatRequest{
		AgentVersion:  a.config.Version,
		RunningTasks:  int(a.runner.running.Load()),
		FreeDiskBytes: a.config.Hands.Machine.FreeDiskBytes(),
	})
	if err != nil {
		return gateway.Settings{}, err
	}
	return settings, a.heed(settings)
}

// heed takes the platform's floor and clock.
func (a *Agent) heed(settings gateway.Settings) error {
	if !settings.ServerTime.IsZero() {
		a.runner.drift.Store(int64(time.Until(settings.ServerTime)))
	}
	raised, err := a.runner.fence.Raise(settings.FloorGeneration)
	if err != nil || !raised {
		return err
	}
	return a.journal.Prune(settings.FloorGeneration)
}

// keepWorking polls the node's queue; a worker that meets a fatal error is replaced after a wait.
func (a *Agent) keepWorking(ctx context.Context, platform *gateway.Client, settings gateway.Settings) error {
	return a.insist(ctx, "work on the node's tasks", func(ctx context.Context) error {
		cluster, err := platform.TemporalClient(ctx, settings.Namespace)
		if err != nil {
			return err
		}
		defer cluster.Close()
		return a.work(ctx, cluster, settings.TaskQueue)
	})
}

const (
	// heartbeatThrottle bounds how late a cancellation arrives.
	heartbeatThrottle = 5 * time.Second
	// workerStopTimeout is how long tasks in hand may go on once the agent is asked to stop.
	workerStopTimeout = 20 * time.Second
	// tasksAtOnce: one works, the others wait for their turn and keep their heartbeats up.
	tasksAtOnce = 4
)

func (a *Agent) work(ctx context.Context, cluster client.Client, queue string) error {
	fatal := make(chan error, 1)
	w := worker.New(cluster, queue, worker.Options{
		DisableWorkflowWorker:              true,
		MaxConcurrentActivityExecutionSize: tasksAtOnce,
		MaxConcurrentActivityTaskPollers:   1,
		DisableEagerActivities:             true,
		MaxHeartbeatThrottleInterval:       heartbeatThrottle,
		DefaultHeartbeatThrottleInterval:   heartbeatThrottle,
		WorkerStopTimeout:                  workerStopTimeout,
		OnFatalError: func(err error) {
			select {
			case fatal <- err:
			default:
			}
		},
	})
	a.Bind(w)
	if err := w.Start(); err != nil {
		return fmt.Errorf("start to poll %s: %w", queue, err)
	}
	a.log.InfoContext(ctx, "the node takes tasks", "task_queue", queue)
	select {
	case err := <-fatal:
		w.Stop()
		return fmt.Errorf("poll %s: %w", queue, err)
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), ErrSevered) {
			cluster.Close()
		}
		w.Stop()
		return ctx.Err()
	}
}

// Back-off of everything that is tried until it works.
const (
	firstWait = 200 * time.Millisecond
	longWait  = 15 * time.Second
	// settledAfter: an attempt that held this long was a success, and the next wait is short again.
	settledAfter = time.Minute
)

// hopeless marks an error that no further attempt can heal.
type hopeless struct{ error }

func (h hopeless) Unwrap() error { return h.error }

// insist tries until it works, with a back-off that grows and jitters so that a fleet does not return in step.
func (a *Agent) insist(ctx context.Context, what string, try func(context.Context) error) error {
	wait := firstWait
	for {
		began := time.Now()
		err := try(ctx)
		var never hopeless
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &never):
			return fmt.Errorf("%s: %w", what, never.error)
		}
		if time.Since(began) > settledAfter {
			wait = firstWait
		}
		a.log.WarnContext(ctx, "the agent tries again", "what", what, "error", err, "wait_ms", wait.Milliseconds())
		if err := pause(ctx, wait/2+rand.N(wait/2+1)); err != nil {
			return err
		}
		wait = min(2*wait, longWait)
	}
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// describedMachine completes what the machine says of itself by its devices and the agent's version.
type describedMachine struct {
	Machine
	gpus    GPUs
	version string
}

func (m describedMachine) Inventory(ctx context.Context) (node.Inventory, error) {
	inventory, err := m.Machine.Inventory(ctx)
	if err != nil {
		return node.Inventory{}, err
	}
	report, err := m.gpus.Inspect(ctx)
	if err != nil {
		return node.Inventory{}, err
	}
	inventory = inventoryWith(inventory, report)
	inventory.AgentVersion = m.version
	return inventory, nil
}
