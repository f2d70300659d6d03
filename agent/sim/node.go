package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gpuaas/gpuaas/agent"
	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Config is one simulated node.
type Config struct {
	// Name is its hostname, unique in its fleet.
	Name string
	// Directory is the fleet's: the node keeps its things in a directory of its name there, which is linked under its
	// node id once it has one.
	Directory  string
	GatewayURL string
	Trust      gateway.Trust
	EnrolToken string
	// SSHHost is the address that the node listens on and reports.
	SSHHost string
	// SSHPort is where it listens there, and nowhere else; 0 is the port of its last life, or any free one when that is taken.
	SSHPort        int
	GPUModel       string
	GPUCount       int
	GPUMemoryBytes int64
	Version        string
	Log            *slog.Logger
}

// Node is one simulated node. Its methods may be called while it runs.
type Node struct {
	config   Config
	home     string
	machine  *machine
	hardware *hardware
	faults   *faults

	mu      sync.Mutex
	absent  bool
	changed chan struct{} // closed and replaced when absent changes
	sever   context.CancelCauseFunc
}

// Open reads what an earlier life left in the node's directory.
func Open(config Config) (*Node, error) {
	if config.Name == "" || config.Directory == "" {
		return nil, errors.New("a simulated node has a name and a directory")
	}
	if config.SSHHost == "" {
		config.SSHHost = "127.0.0.1"
	}
	config.Log = config.Log.With("node", config.Name)
	home := filepath.Join(config.Directory, config.Name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make the simulated node's directory: %w", err)
	}
	m, err := openMachine(home)
	if err != nil {
		return nil, err
	}
	return &Node{
		config: config, home: home, machine: m, hardware: newHardware(config), faults: newFaults(), changed: make(chan struct{}),
	}, nil
}

// Name is the node's hostname.
func (n *Node) Name() string { return n.config.Name }

// Run lives until ctx ends, through every time it is told to vanish and to come back. It ends with an error when the
// node cannot be enrolled.
func (n *Node) Run(ctx context.Context) error {
	for {
		if err := n.awaitPresence(ctx); err != nil {
			return err
		}
		life, sever := context.WithCancelCause(ctx)
		n.mu.Lock()
		n.sever = sever
		gone := n.absent
		n.mu.Unlock()
		if gone {
			sever(agent.ErrSevered)
		}
		err := n.live(life)
		severed := errors.Is(context.Cause(life), agent.ErrSevered)
		sever(nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !severed {
			return fmt.Errorf("the simulated node %s ended: %w", n.config.Name, err)
		}
	}
}

// live is one life of the node, from power-on to power-off.
func (n *Node) live(ctx context.Context) error {
	n.faults.born(ctx.Done())
	door, err := openDoor(ctx, n.home, n.config, n.machine, n.hardware)
	if err != nil {
		return err
	}
	defer door.close()
	// A guest must not outlast the machine's network.
	defer context.AfterFunc(ctx, door.close)()
	served, err := agent.Open(agent.Config{
		GatewayURL: n.config.GatewayURL, Trust: n.config.Trust, EnrolToken: n.config.EnrolToken,
		Directory: n.home, Version: n.config.Version, Log: n.config.Log, Hands: n.hands(), Enrolled: n.enrolled,
	})
	if err != nil {
		return err
	}
	return errors.Join(served.Run(ctx), served.Close())
}

func (n *Node) hands() agent.Hands {
	return agent.Hands{
		Readiness: n.faults, Users: users{n.machine}, Keys: n.machine, Processes: n.machine,
		Files: files{n.machine}, Examiner: n.machine, GPUs: n.hardware, Machine: n.hardware,
	}
}

// enrolled links the node's directory under its id, where a drill's oracle looks for state.json.
func (n *Node) enrolled(nodeID id.Node) error {
	link := filepath.Join(n.config.Directory, string(nodeID))
	if target, err := os.Readlink(link); err != nil || target != n.config.Name {
		if err := errors.Join(os.RemoveAll(link), os.Symlink(n.config.Name, link)); err != nil {
			return fmt.Errorf("link the simulated node under its id: %w", err)
		}
	}
	return n.machine.named(string(nodeID))
}

func (n *Node) awaitPresence(ctx context.Context) error {
	for {
		n.mu.Lock()
		absent, changed := n.absent, n.changed
		n.mu.Unlock()
		if !absent {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (n *Node) setAbsent(absent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.absent == absent {
		return
	}
	n.absent = absent
	close(n.changed)
	n.changed = make(chan struct{})
	if absent && n.sever != nil {
		n.sever(agent.ErrSevered)
	}
}

// Vanish makes the node fall silent at once: no polls, no heartbeats, no SSH, no answer to the task in hand.
func (n *Node) Vanish() { n.setAbsent(true) }

// Return brings a vanished node back, with the disk it had.
func (n *Node) Return() { n.setAbsent(false) }

// Slow delays every task of a kind; 0 ends it.
func (n *Node) Slow(kind node.TaskKind, delay time.Duration) { n.faults.slow(kind, delay) }

// Fail makes the next tasks of a kind fail, as often as given.
func (n *Node) Fail(kind node.TaskKind, times int) { n.faults.fail(kind, times) }

// SkipWipe makes scrub.run leave the tenant's files and say that it is done; with verifyToo, scrub.verify does not see them.
func (n *Node) SkipWipe(skip, verifyToo bool) { n.machine.lie(skip, skip && verifyToo) }

// DamageGPU gives a device uncorrected memory errors; 0 heals it.
func (n *Node) DamageGPU(index int, uncorrected int64) error {
	return n.hardware.damage(index, uncorrected)
}

// State is what is on the machine now.
func (n *Node) State() State {
	s := n.machine.state()
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Name, s.Present = n.config.Name, !n.absent
	return s
}
