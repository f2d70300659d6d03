package stack

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

func occupy(t *testing.T, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func freePorts(t *testing.T) Ports {
	t.Helper()
	ports, err := randomPorts()
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

func TestAnAskedBaseIsTakenOrRefused(t *testing.T) {
	ports := freePorts(t)
	got, notice, err := choosePorts(wish{asked: ports.Base})
	if err != nil || got != ports || notice != "" {
		t.Fatalf("a free base gave %v, %q, %v", got, notice, err)
	}
	occupy(t, ports.Postgres())
	_, _, err = choosePorts(wish{asked: ports.Base})
	if err == nil || !strings.Contains(err.Error(), "port "+strconv.Itoa(ports.Postgres())+" is taken") {
		t.Errorf("a taken port gave %v", err)
	}
	if _, _, err := choosePorts(wish{asked: 80}); err == nil {
		t.Error("a privileged base is taken")
	}
}

func TestDataStaysOnItsPortsWhileItCan(t *testing.T) {
	ports, other := freePorts(t), freePorts(t)
	got, notice, err := choosePorts(wish{last: ports.Base})
	if err != nil || got != ports || !strings.Contains(notice, "as last time") {
		t.Fatalf("the last base gave %v, %q, %v", got, notice, err)
	}
	if got, notice, err := choosePorts(wish{asked: ports.Base, last: ports.Base}); err != nil || got != ports || notice != "" {
		t.Errorf("the last base, asked for, gave %v, %q, %v", got, notice, err)
	}
	if got, notice, err := choosePorts(wish{asked: other.Base, last: ports.Base}); err != nil || got != other || !strings.Contains(notice, "moves from the ports from "+strconv.Itoa(ports.Base)) {
		t.Errorf("another base beside data gave %v, %q, %v", got, notice, err)
	}
	occupy(t, ports.NodeSSH(2))
	got, notice, err = choosePorts(wish{last: ports.Base})
	if err != nil || got == ports || !strings.HasPrefix(notice, "port "+strconv.Itoa(ports.NodeSSH(2))+" is taken; the instance moves") {
		t.Errorf("a last base with a taken port gave %v, %q, %v", got, notice, err)
	}
	if _, _, err := choosePorts(wish{asked: ports.Base, last: ports.Base}); err == nil || !strings.Contains(err.Error(), "port "+strconv.Itoa(ports.NodeSSH(2))+" is taken") {
		t.Errorf("a last base with a taken port, asked for, gave %v", err)
	}
}

// Infrastructure that was killed comes back to the programs that wait for it on their ports, and to no port that somebody else has.
func TestInfrastructureComesBackToItsPrograms(t *testing.T) {
	ports := freePorts(t)
	occupy(t, ports.API())
	occupy(t, ports.NodeSSH(0))
	if _, _, err := choosePorts(wish{asked: ports.Base, last: ports.Base}); err == nil {
		t.Error("a whole instance starts on ports that somebody has")
	}
	if _, _, err := choosePorts(wish{asked: ports.Base, beside: true}); err == nil {
		t.Error("infrastructure that never ran starts on ports that somebody has")
	}
	for _, asked := range []int{0, ports.Base} {
		if got, _, err := choosePorts(wish{asked: asked, last: ports.Base, beside: true}); err != nil || got != ports {
			t.Errorf("asked for %d, it comes back to %v, %v", asked, got, err)
		}
	}
	occupy(t, ports.NATS())
	if _, _, err := choosePorts(wish{asked: ports.Base, last: ports.Base, beside: true}); err == nil {
		t.Error("infrastructure comes back although somebody else has one of its ports")
	}
}

func TestTheNextFreeBlockIsNamed(t *testing.T) {
	if (Ports{Base: DefaultPortBase}).taken() == 0 {
		occupy(t, DefaultPortBase+7)
	}
	got, notice, err := choosePorts(wish{})
	if err != nil || got.Base == DefaultPortBase || got.Base%blockSize != DefaultPortBase%blockSize || !strings.Contains(notice, strconv.Itoa(got.Base)) {
		t.Errorf("beside a taken block: %v, %q, %v", got, notice, err)
	}
}

func TestNoTwoPartsShareAPort(t *testing.T) {
	p := Ports{Base: 10_000}
	s := p.TemporalServer()
	seen := map[int]bool{}
	all := []int{
		p.OIDC(), p.API(), p.NodeAPI(), p.Temporal(), p.TemporalUI(), p.Postgres(), p.CA(), p.Redis(), p.NATS(), p.Stripe(), p.NodeControl(), s.History, s.Matching, s.Worker,
		s.FrontendMembership, s.HistoryMembership, s.MatchingMembership, s.WorkerMembership, s.Metrics, p.SMTP(), p.SMTPPage(), p.Health(0), p.Health(len(programNames()) - 1),
		p.NodeSSH(0), p.NodeSSH(59),
	}
	for _, port := range all {
		if seen[port] || port < p.Base || port >= p.Base+blockSize {
			t.Errorf("port %d is given twice or lies outside the block", port)
		}
		seen[port] = true
	}
	if port := p.NodeSSH(60); port != 0 {
		t.Errorf("a node that the block has no room for gets port %d", port)
	}
}
