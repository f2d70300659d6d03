package sim

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/agent/gateway"
)

// PlantSkipWipe is the fault a drill plants to see whether its oracle notices: scrub.run and scrub.verify both lie.
const PlantSkipWipe = "skip-wipe"

// FleetConfig is what the nodes of a fleet have in common.
type FleetConfig struct {
	Directory  string
	GatewayURL string
	Trust      gateway.Trust
	SSHHost    string
	Version    string
	// Plant is empty or PlantSkipWipe.
	Plant string
	Log   *slog.Logger
}

// Member is one node of a fleet, as a fleet file lists it.
type Member struct {
	Name string `json:"name"`
	// EnrolToken is used at the node's first start alone.
	EnrolToken     string `json:"enrol_token,omitempty"`
	GPUModel       string `json:"gpu_model"`
	GPUCount       int    `json:"gpu_count"`
	GPUMemoryBytes int64  `json:"gpu_memory_bytes"`
	// SSHPort is where the node is logged into; 0 is the port of its last life, or any free one.
	SSHPort int `json:"ssh_port,omitempty"`
}

// Fleet is many simulated nodes in one process.
type Fleet struct{ nodes []*Node }

// OpenFleet reads what earlier lives of the members left.
func OpenFleet(config FleetConfig, members []Member) (*Fleet, error) {
	if config.Plant != "" && config.Plant != PlantSkipWipe {
		return nil, fmt.Errorf("a simulated node can plant %q, not %q", PlantSkipWipe, config.Plant)
	}
	fleet := &Fleet{}
	names := map[string]bool{}
	for _, member := range members {
		if names[member.Name] {
			return nil, fmt.Errorf("two simulated nodes are named %q", member.Name)
		}
		names[member.Name] = true
		opened, err := Open(Config{
			Name: member.Name, Directory: config.Directory, GatewayURL: config.GatewayURL, Trust: config.Trust,
			EnrolToken: member.EnrolToken, SSHHost: config.SSHHost, SSHPort: member.SSHPort, GPUModel: member.GPUModel, GPUCount: member.GPUCount,
			GPUMemoryBytes: member.GPUMemoryBytes, Version: config.Version, Log: config.Log,
		})
		if err != nil {
			return nil, err
		}
		opened.SkipWipe(config.Plant == PlantSkipWipe, true)
		fleet.nodes = append(fleet.nodes, opened)
	}
	return fleet, nil
}

// Run lives until ctx ends, or until a node cannot be enrolled.
func (f *Fleet) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, member := range f.nodes {
		group.Go(func() error { return member.Run(ctx) })
	}
	return group.Wait()
}

// Nodes lists the fleet in the order of its members.
func (f *Fleet) Nodes() []*Node { return f.nodes }

// Node finds a member by name or node id.
func (f *Fleet) Node(nameOrID string) (*Node, bool) {
	for _, member := range f.nodes {
		if s := member.State(); s.Name == nameOrID || s.NodeID == nameOrID && nameOrID != "" {
			return member, true
		}
	}
	return nil, false
}
