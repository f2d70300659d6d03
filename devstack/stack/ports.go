package stack

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"github.com/gpuaas/gpuaas/devstack/temporalserver"
)

const (
	// DefaultPortBase is where an instance lies when nobody says otherwise and the block is free.
	DefaultPortBase = 8080

	blockSize  = 100
	lastBase   = 65_500 - blockSize
	randomLow  = 12_000
	randomHigh = 32_000
)

// Ports is the one table of an instance's ports: base + 0…99 on 127.0.0.1.
type Ports struct{ Base int }

// OIDC issuer.
func (p Ports) OIDC() int { return p.Base }

// API is the public REST API.
func (p Ports) API() int { return p.Base + 1 }

// NodeAPI is the internal mTLS listener for nodes.
func (p Ports) NodeAPI() int { return p.Base + 2 }

// Temporal is the frontend's gRPC port.
func (p Ports) Temporal() int { return p.Base + 3 }

// TemporalUI is Temporal's console.
func (p Ports) TemporalUI() int { return p.Base + 4 }

// Postgres is the private server.
func (p Ports) Postgres() int { return p.Base + 5 }

// CA is step-ca.
func (p Ports) CA() int { return p.Base + 6 }

// Redis is the private server, embedded or real.
func (p Ports) Redis() int { return p.Base + 7 }

// NATS is the event bus.
func (p Ports) NATS() int { return p.Base + 8 }

// Stripe is the stand-in for the payment provider.
func (p Ports) Stripe() int { return p.Base + 9 }

// TemporalServer are the ports between Temporal's own services.
func (p Ports) TemporalServer() temporalserver.Ports {
	return temporalserver.Ports{
		Frontend: p.Temporal(), History: p.Base + 10, Matching: p.Base + 11, Worker: p.Base + 12,
		FrontendMembership: p.Base + 13, HistoryMembership: p.Base + 14, MatchingMembership: p.Base + 15, WorkerMembership: p.Base + 16,
		Metrics: p.Base + 17,
	}
}

// SMTP is the sink that takes every mail, SMTPPage where people read them.
func (p Ports) SMTP() int { return p.Base + 18 }

// SMTPPage is the sink's page.
func (p Ports) SMTPPage() int { return p.Base + 19 }

// Health is the health port of the n-th program.
func (p Ports) Health(n int) int { return p.Base + 20 + n }

// NodeControl is the control endpoint of the simulated nodes.
func (p Ports) NodeControl() int { return p.Base + 39 }

// firstNodeSSH is where the ports of the simulated nodes begin, up to the end of the block.
const firstNodeSSH = 40

// NodeSSH is the SSH port of the n-th simulated node, n from 0; 0, any free one, for those that the block has no room for.
func (p Ports) NodeSSH(n int) int {
	if firstNodeSSH+n >= blockSize {
		return 0
	}
	return p.Base + firstNodeSSH + n
}

// taken is the first port of the block that somebody listens on, 0 if none. The whole block is looked at: a port
// that is unused today may be used by another part of this instance tomorrow.
func (p Ports) taken() int { return p.takenExcept(nil) }

// takenByOthers is taken while programs of this instance run as processes of their own, and have their ports.
func (p Ports) takenByOthers() int {
	return p.takenExcept(func(port int) bool { return port == p.API() || port == p.NodeAPI() || port >= p.Health(0) })
}

func (p Ports) takenExcept(ours func(port int) bool) int {
	for port := p.Base; port < p.Base+blockSize; port++ {
		if ours != nil && ours(port) {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return port
		}
		_ = l.Close()
	}
	return 0
}

// wish is what is asked of an instance's ports, and what it has had.
type wish struct {
	// asked is the base that was asked for, 0 for any; last the one of the instance's data, 0 without data.
	asked, last int
	// beside says that programs of this instance may run on already: infrastructure that comes back comes back to them.
	beside bool
}

// choosePorts settles the block. A base that was asked for is taken or refused; else it is the one that the data has had, the default, or the next
// free block. Infrastructure beside its programs comes back where they look for it or not at all. notice says when it is not the default, and when
// data moves.
func choosePorts(w wish) (ports Ports, notice string, err error) {
	last := Ports{Base: w.last}
	var taken int
	switch {
	case w.last == 0:
	case w.beside:
		taken = last.takenByOthers()
	default:
		taken = last.taken()
	}
	switch {
	case w.last != 0 && taken == 0 && (w.asked == 0 || w.asked == w.last):
		if w.asked == 0 && w.last != DefaultPortBase {
			notice = fmt.Sprintf("using the ports from %d on, as last time", w.last)
		}
		return last, notice, nil
	case w.asked != 0:
		ports, err = askedPorts(w.asked)
	case w.last != 0 && w.beside:
		return Ports{}, "", fmt.Errorf("port %d is taken, and the programs of this instance look for it there: free it", taken)
	default:
		ports, notice, err = nextFreePorts()
	}
	if err != nil || w.last == 0 {
		return ports, notice, err
	}
	notice = fmt.Sprintf("the instance moves from the ports from %d on to those from %d on; addresses that it gave out, such as those of nodes in use, are the old ones", w.last, ports.Base)
	if taken != 0 {
		notice = fmt.Sprintf("port %d is taken; %s", taken, notice)
	}
	return ports, notice, nil
}

// askedPorts is a block that somebody asked for.
func askedPorts(base int) (Ports, error) {
	if base < 1024 || base > lastBase {
		return Ports{}, fmt.Errorf("GPUAAS_PORT_BASE must lie between 1024 and %d, not %d", lastBase, base)
	}
	ports := Ports{Base: base}
	if port := ports.taken(); port != 0 {
		return Ports{}, fmt.Errorf("port %d is taken (base %d + %d): free it or choose another GPUAAS_PORT_BASE", port, base, port-base)
	}
	return ports, nil
}

// nextFreePorts is the default block, or the first free one after it.
func nextFreePorts() (Ports, string, error) {
	first := 0
	for base := DefaultPortBase; base <= lastBase; base += blockSize {
		ports := Ports{Base: base}
		port := ports.taken()
		if port != 0 {
			first = cmp.Or(first, port)
			continue
		}
		if first == 0 {
			return ports, "", nil
		}
		return ports, fmt.Sprintf("port %d is taken; using the ports from %d on", first, base), nil
	}
	return Ports{}, "", errors.New("no free block of 100 ports was found on loopback")
}

// randomPorts is a free block for a passing instance, away from the range that outgoing connections use.
func randomPorts() (Ports, error) {
	for range 200 {
		ports := Ports{Base: randomLow + rand.IntN((randomHigh-randomLow)/blockSize)*blockSize} //nolint:gosec // spreads instances, guards nothing
		if ports.taken() == 0 {
			return ports, nil
		}
	}
	return Ports{}, errors.New("no free block of 100 ports was found on loopback")
}
