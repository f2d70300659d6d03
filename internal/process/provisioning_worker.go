package process

import (
	"context"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/workflows"
)

// leastProbeSecret is the shortest probe secret, in bytes: an HMAC key shorter than its hash is a weaker one.
const leastProbeSecret = 32

// ProvisioningWorkerConfig is what a provisioning worker needs: the cluster and the probe secret. It needs no database.
type ProvisioningWorkerConfig struct {
	Temporal    temporal.Config
	Worker      WorkerConfig
	Health      HealthConfig
	Log         LogConfig
	ProbeSecret string `env:"GPUAAS_PROBE_SECRET,required" usage:"secret that login-probe keys derive from, at least 32 bytes, the same on every provisioning worker"`
}

// Check says what is wrong with it.
func (c ProvisioningWorkerConfig) Check() []string {
	mistakes := append(append(c.Temporal.Check(), c.Worker.Check()...), c.Health.Check()...)
	if len(c.ProbeSecret) < leastProbeSecret {
		mistakes = append(mistakes, "GPUAAS_PROBE_SECRET must be at least 32 bytes long.")
	}
	return mistakes
}

// RunProvisioningWorker runs Node, the login probe and, for allocations pinned to the noop runtime, the node tasks,
// until ctx ends.
func RunProvisioningWorker(ctx context.Context, config ProvisioningWorkerConfig) error {
	const program = "provisioning-worker"
	log := config.Log.logger(program)
	shown, err := newInternals(config.Health, program, log)
	if err != nil {
		return err
	}
	connection := &reached{}
	return shown.beside(ctx, []probe{connection.probe()}, func(ctx context.Context) error {
		cluster, err := connection.dial(ctx, config.Temporal, shown)
		if err != nil {
			return err
		}
		defer cluster.Close()
		probing := &activities.Provisioning{ProbeSecret: []byte(config.ProbeSecret)}
		return work(ctx, cluster, workflows.ProvisioningQueue, config.Worker, log, func(registry worker.Registry) {
			registry.RegisterWorkflowWithOptions(workflows.Node, workflow.RegisterOptions{Name: workflows.NodeType})
			probing.Bind(registry)
			activities.NoopNode{}.Bind(registry)
		})
	})
}
