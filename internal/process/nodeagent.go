package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/agent"
	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/agent/gpu"
	"github.com/gpuaas/gpuaas/agent/machine"
	"github.com/gpuaas/gpuaas/agent/sim"
	"github.com/gpuaas/gpuaas/agent/users"
	"github.com/gpuaas/gpuaas/agent/wipe"
)

// Modes of a node agent.
const (
	nodeModeReal = "real"
	nodeModeSim  = "sim"
)

// agentVersion is what agents of this build report.
const agentVersion = "1.0.0"

// NodeAgentConfig is what a node agent needs: the way to the gateway, and what it is the agent of.
type NodeAgentConfig struct {
	Mode            string `env:"GPUAAS_NODE_MODE" envDefault:"real" usage:"real: this machine; sim: simulated nodes of a fleet file"`
	GatewayURL      string `env:"GPUAAS_NODE_GATEWAY_URL,required" usage:"https://host:port of the node gateway"`
	RootFile        string `env:"GPUAAS_CA_ROOT_FILE" usage:"file with the platform's root certificate, PEM"`
	RootFingerprint string `env:"GPUAAS_CA_ROOT_FINGERPRINT" usage:"SHA-256 of the root certificate, instead of the file"`
	Directory       string `env:"GPUAAS_NODE_DIRECTORY" envDefault:"/var/lib/gpuaas" usage:"where identity, journal and fence are kept; root only"`
	Real            RealNodeConfig
	Sim             SimFleetConfig
	Health          HealthConfig
	Log             LogConfig
}

// RealNodeConfig is about this machine.
type RealNodeConfig struct {
	EnrolToken     string   `env:"GPUAAS_ENROL_TOKEN" usage:"one-time enrolment token; not needed once enrolled"`
	EnrolTokenFile string   `env:"GPUAAS_ENROL_TOKEN_FILE" usage:"file that holds the token, instead"`
	SSHHost        string   `env:"GPUAAS_SSH_HOST" usage:"address at which tenants reach this node (default: the hostname)"`
	SSHPort        int      `env:"GPUAAS_SSH_PORT" envDefault:"22" usage:"port at which tenants reach this node"`
	SSHHostKeyFile string   `env:"GPUAAS_SSH_HOST_KEY_FILE" envDefault:"/etc/ssh/ssh_host_ed25519_key.pub" usage:"public host key of the node's sshd"`
	HomeRoot       string   `env:"GPUAAS_HOME_ROOT" envDefault:"/home" usage:"where tenants' home directories are made"`
	ScrubRoots     []string `env:"GPUAAS_SCRUB_ROOTS" envDefault:"/home,/tmp,/var/tmp,/dev/shm,/dev/mqueue,/var/spool/cron,/var/spool/at,/var/mail,/var/lib/systemd/linger,/run/user,/run/lock" usage:"directories a tenant can write to; scrubbed and verified"`
}

// SimFleetConfig is about simulated nodes.
type SimFleetConfig struct {
	FleetFile      string `env:"GPUAAS_SIM_FLEET_FILE" usage:"JSON list of simulated nodes: name, enrol_token, gpu_model, gpu_count, gpu_memory_bytes, ssh_port"`
	SSHHost        string `env:"GPUAAS_SIM_SSH_HOST" envDefault:"127.0.0.1" usage:"address at which simulated nodes listen for SSH"`
	ControlAddress string `env:"GPUAAS_SIM_CONTROL_ADDRESS" usage:"loopback address for a drill's orders; empty serves none"`
	Plant          string `env:"PLANT" usage:"fault that a drill plants: skip-wipe"`
}

// Check says what is wrong with it.
func (c NodeAgentConfig) Check() []string {
	mistakes := c.Health.Check()
	if c.Mode != nodeModeReal && c.Mode != nodeModeSim {
		mistakes = append(mistakes, "GPUAAS_NODE_MODE is real or sim.")
	}
	if !strings.HasPrefix(c.GatewayURL, "https://") {
		mistakes = append(mistakes, "GPUAAS_NODE_GATEWAY_URL must look like https://host:port.")
	}
	if c.RootFile == "" && c.RootFingerprint == "" {
		mistakes = append(mistakes, "GPUAAS_CA_ROOT_FILE or GPUAAS_CA_ROOT_FINGERPRINT must be set.")
	}
	if c.Mode == nodeModeSim && c.Sim.FleetFile == "" {
		mistakes = append(mistakes, "GPUAAS_SIM_FLEET_FILE must be set when GPUAAS_NODE_MODE is sim.")
	}
	if c.Mode == nodeModeReal && os.Geteuid() != 0 {
		mistakes = append(mistakes, "A real node agent makes and removes users: it must run as root.")
	}
	return mistakes
}

// RunNodeAgent serves this machine, or a fleet of simulated ones, until ctx ends.
func RunNodeAgent(ctx context.Context, config NodeAgentConfig) error {
	trust := gateway.Trust{Fingerprint: config.RootFingerprint}
	if config.RootFile != "" {
		roots, err := os.ReadFile(config.RootFile)
		if err != nil {
			return fmt.Errorf("read GPUAAS_CA_ROOT_FILE: %w", err)
		}
		trust.RootPEM = roots
	}
	const program = "node-agent"
	shown, err := newInternals(config.Health, program, config.Log.logger(program))
	if err != nil {
		return err
	}
	return shown.beside(ctx, nil, func(ctx context.Context) error {
		if config.Mode == nodeModeSim {
			return runSimFleet(ctx, config, trust, shown.log)
		}
		return runRealNode(ctx, config, trust, shown.log)
	})
}

func runSimFleet(ctx context.Context, config NodeAgentConfig, trust gateway.Trust, log *slog.Logger) error {
	content, err := awaitFile(ctx, config.Sim.FleetFile)
	if err != nil {
		return fmt.Errorf("read GPUAAS_SIM_FLEET_FILE: %w", err)
	}
	var members []sim.Member
	if err := json.Unmarshal(content, &members); err != nil {
		return fmt.Errorf("GPUAAS_SIM_FLEET_FILE is not a list of simulated nodes: %w", err)
	}
	fleet, err := sim.OpenFleet(sim.FleetConfig{
		Directory: config.Directory, GatewayURL: config.GatewayURL, Trust: trust, SSHHost: config.Sim.SSHHost,
		Version: agentVersion, Plant: config.Sim.Plant, Log: log,
	}, members)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return fleet.Run(ctx) })
	if config.Sim.ControlAddress != "" {
		group.Go(func() error {
			return fleet.ServeControl(ctx, config.Sim.ControlAddress, func(address string) {
				log.InfoContext(ctx, "simulated nodes take orders", "address", address)
			})
		})
	}
	return group.Wait()
}

// awaitFile reads a file as soon as it exists: programs are started in any order, and the fleet file is written when
// the API has minted its enrolment tokens.
func awaitFile(ctx context.Context, path string) ([]byte, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		content, err := os.ReadFile(path)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return content, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func runRealNode(ctx context.Context, config NodeAgentConfig, trust gateway.Trust, log *slog.Logger) error {
	token := config.Real.EnrolToken
	if config.Real.EnrolTokenFile != "" {
		content, err := os.ReadFile(config.Real.EnrolTokenFile)
		// The file may be gone once the node is enrolled: a one-time token is best not kept.
		if err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("read GPUAAS_ENROL_TOKEN_FILE: %w", err)
		}
		token = strings.TrimSpace(string(content))
	}
	devices := gpu.Open(log)
	defer devices.Close()
	accounts := users.Accounts{HomeRoot: config.Real.HomeRoot}
	scrubber := wipe.Scrubber{Roots: config.Real.ScrubRoots, HomeRoot: config.Real.HomeRoot}
	served, err := agent.Open(agent.Config{
		GatewayURL: config.GatewayURL, Trust: trust, EnrolToken: token, Directory: config.Directory, Version: agentVersion, Log: log,
		Hands: agent.Hands{
			Readiness: machine.Readiness{},
			Users:     accounts,
			Keys:      accounts,
			Processes: wipe.Processes{},
			Files:     scrubber,
			Examiner:  wipe.Examiner{Roots: config.Real.ScrubRoots, HomeRoot: config.Real.HomeRoot, GPUProcesses: devices.Processes},
			GPUs:      devices,
			Machine: machine.Host{
				SSHHost: config.Real.SSHHost, SSHPort: config.Real.SSHPort, SSHHostKeyFile: config.Real.SSHHostKeyFile, HomeRoot: config.Real.HomeRoot,
			},
		},
	})
	if err != nil {
		return err
	}
	return errors.Join(served.Run(ctx), served.Close())
}
