package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
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
	ports   Ports
	log     *slog.Logger
	running sync.WaitGroup
	failed  chan error
}

// The programs of ours, in the order of their health ports.
const (
	api                = "api"
	billingWorker      = "billing-worker"
	provisioningWorker = "provisioning-worker"
	outboxRelay        = "outbox-relay"
	notificationRelay  = "notification-relay"
	webhookWorker      = "webhook-worker"
	nodeAgent          = "node-agent"
)

// programNames lists them.
func programNames() []string {
	return []string{api, billingWorker, provisioningWorker, outboxRelay, notificationRelay, webhookWorker, nodeAgent}
}

// health is where a program says how it is, and serves its metrics.
func (p Ports) health(program string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Health(slices.Index(programNames(), program))))
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
	p := &Programs{values: values, ports: Ports{Base: e.PortBase}, log: log, failed: make(chan error, 8)}
	p.ctx, p.cancel = context.WithCancel(ctx)
	return p, nil
}

// StartPlatform runs the API with the node gateway, the workers and the relays.
func (p *Programs) StartPlatform() error {
	return errors.Join(
		start(p, webhookWorker, process.RunWebhookWorker, func(c *process.WebhookWorkerConfig) {
			c.Log.Logger, c.Health.Address = p.log, p.ports.health(webhookWorker)
		}),
		start(p, api, process.RunAPI, func(c *process.APIConfig) { c.Log.Logger, c.Health.Address = p.log, p.ports.health(api) }),
		start(p, billingWorker, process.RunBillingWorker, func(c *process.BillingWorkerConfig) {
			c.Log.Logger, c.Health.Address = p.log, p.ports.health(billingWorker)
		}),
		start(p, outboxRelay, process.RunOutboxRelay, func(c *process.OutboxRelayConfig) {
			c.Log.Logger, c.Health.Address = p.log, p.ports.health(outboxRelay)
		}),
		start(p, notificationRelay, process.RunNotificationRelay, func(c *process.NotificationRelayConfig) {
			c.Log.Logger, c.Health.Address = p.log, p.ports.health(notificationRelay)
		}),
		start(p, provisioningWorker, process.RunProvisioningWorker, func(c *process.ProvisioningWorkerConfig) {
			c.Log.Logger, c.Health.Address = p.log, p.ports.health(provisioningWorker)
		}),
	)
}

// StartNodes runs the simulated nodes of the fleet file.
func (p *Programs) StartNodes() error {
	return start(p, nodeAgent, process.RunNodeAgent, func(c *process.NodeAgentConfig) { c.Log.Logger, c.Health.Address = p.log, p.ports.health(nodeAgent) })
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
