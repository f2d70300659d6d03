package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/caarlos0/env/v11"

	"github.com/gpuaas/gpuaas/internal/process"
)

// Programs are those of ours that run inside this process, each with the environment that it would have as a process
// of its own.
type Programs struct {
	cancel  context.CancelFunc
	ctx     context.Context
	values  map[string]string
	log     *slog.Logger
	running sync.WaitGroup
	failed  chan error
}

// NewPrograms prepares to run programs against the instance in dataDir.
func NewPrograms(ctx context.Context, dataDir string, e Endpoints, log *slog.Logger) (*Programs, error) {
	variables, err := ProgramEnvironment(dataDir, e)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, line := range os.Environ() {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	for _, v := range variables {
		values[v.Name] = v.Value
	}
	values["GPUAAS_NODE_MODE"] = "sim"
	p := &Programs{values: values, log: log, failed: make(chan error, 8)}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p, nil
}

// StartPlatform runs the API with the node gateway, the workers and the relays.
func (p *Programs) StartPlatform() error {
	return errors.Join(
		start(p, "webhook-worker", process.RunWebhookWorker, func(c *process.WebhookWorkerConfig) { c.Log.Logger = p.log }),
		start(p, "api", process.RunAPI, func(c *process.APIConfig) { c.Log.Logger = p.log }),
		start(p, "billing-worker", process.RunBillingWorker, func(c *process.BillingWorkerConfig) { c.Log.Logger = p.log }),
		start(p, "outbox-relay", process.RunOutboxRelay, func(c *process.OutboxRelayConfig) { c.Log.Logger = p.log }),
		start(p, "notification-relay", process.RunNotificationRelay, func(c *process.NotificationRelayConfig) { c.Log.Logger = p.log }),
		start(p, "provisioning-worker", process.RunProvisioningWorker, func(c *process.ProvisioningWorkerConfig) { c.Log.Logger = p.log }),
	)
}

// StartNodes runs the simulated nodes of the fleet file.
func (p *Programs) StartNodes() error {
	return start(p, "node-agent", process.RunNodeAgent, func(c *process.NodeAgentConfig) { c.Log.Logger = p.log })
}

// Failed delivers the error of a program that ended although nobody stopped it.
func (p *Programs) Failed() <-chan error { return p.failed }

// Stop ends all programs and waits for them.
func (p *Programs) Stop() {
	p.cancel()
	p.running.Wait()
}

// start reads one program's configuration and runs it.
func start[Config interface{ Check() []string }](p *Programs, name string, run func(context.Context, Config) error, adjust func(*Config)) error {
	var config Config
	if err := env.ParseWithOptions(&config, env.Options{Environment: p.values}); err != nil {
		return fmt.Errorf("the configuration of %s: %w", name, err)
	}
	if mistakes := config.Check(); len(mistakes) > 0 {
		return fmt.Errorf("the configuration of %s: %s", name, strings.Join(mistakes, " "))
	}
	adjust(&config)
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		err := run(p.ctx, config)
		if p.ctx.Err() == nil {
			p.failed <- fmt.Errorf("%s ended: %w", name, errors.Join(errors.New("it was not stopped"), err))
		}
	}()
	return nil
}
