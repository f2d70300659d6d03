package activities_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

var probeLease = node.Lease{NodeID: "node_a", AllocationID: "alloc_a", Generation: 3}

// sshServer is a real SSH server that accepts one key for one user, runs nothing, and answers status to every command.
type sshServer struct {
	address  *net.TCPAddr
	hostKey  ssh.Signer
	commands chan string
}

func newSSHServer(t *testing.T, username, authorized string, status uint32) *sshServer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	hostKey, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	allowed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorized))
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if meta.User() != username || !bytes.Equal(key.Marshal(), allowed.Marshal()) {
			return nil, errors.New("not this key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	server := &sshServer{address: listener.Addr().(*net.TCPAddr), hostKey: hostKey, commands: make(chan string, 4)}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go server.serve(connection, config, status)
		}
	}()
	return server
}

func (s *sshServer) serve(connection net.Conn, config *ssh.ServerConfig, status uint32) {
	defer func() { _ = connection.Close() }()
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, asked, err := offered.Accept()
		if err != nil {
			return
		}
		for request := range asked {
			if request.Type != "exec" {
				_ = request.Reply(false, nil)
				continue
			}
			s.commands <- string(request.Payload)
			_ = request.Reply(true, nil)
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			_ = channel.Close()
			break
		}
	}
}

func (s *sshServer) access(username string) workflows.Access {
	return workflows.Access{
		Username: username, SSHHost: s.address.IP.String(), SSHPort: s.address.Port,
		SSHHostKey: string(ssh.MarshalAuthorizedKey(s.hostKey.PublicKey())),
	}
}

func probeKey(t *testing.T, tools *activities.Provisioning, lease node.Lease) string {
	t.Helper()
	out, err := tools.ProbeKey(t.Context(), workflows.ProbeKeyIn{Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	return out.PublicKey
}

func TestLoginProbe(t *testing.T) {
	tools := &activities.Provisioning{ProbeSecret: []byte(strings.Repeat("s", 32))}
	authorized := probeKey(t, tools, probeLease)
	nextLease := probeLease
	nextLease.Generation++
	stranger := newSSHServer(t, "gpu3", authorized, 0)

	cases := map[string]struct {
		status uint32
		change func(in *workflows.LoginProbeIn)
		want   fault.Code
	}{
		"a login succeeds":            {},
		"the command fails":           {status: 1, want: fault.LoginProbeFailed},
		"the user does not exist":     {change: func(in *workflows.LoginProbeIn) { in.Access.Username = "gpu4" }, want: fault.LoginProbeFailed},
		"the key is of another lease": {change: func(in *workflows.LoginProbeIn) { in.Lease = nextLease }, want: fault.LoginProbeFailed},
		"the host is another":         {change: func(in *workflows.LoginProbeIn) { in.Access.SSHPort = stranger.address.Port }, want: fault.LoginProbeFailed},
		"no host key was reported":    {change: func(in *workflows.LoginProbeIn) { in.Access.SSHHostKey = "" }, want: fault.LoginProbeFailed},
		"an agent cannot claim noop":  {change: func(in *workflows.LoginProbeIn) { in.Access = workflows.Access{} }, want: fault.LoginProbeFailed},
		"noop was pinned by admission": {change: func(in *workflows.LoginProbeIn) {
			in.Access, in.RuntimeMode = workflows.Access{}, workflows.RuntimeNoop
		}},
		"agent was pinned by admission": {change: func(in *workflows.LoginProbeIn) { in.RuntimeMode = workflows.RuntimeAgent }},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			server := newSSHServer(t, "gpu3", authorized, test.status)
			in := workflows.LoginProbeIn{Lease: probeLease, Access: server.access("gpu3")}
			if test.change != nil {
				test.change(&in)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := tools.LoginProbe(ctx, in); fault.CodeOf(err) != test.want {
				t.Fatalf("the probe answers %v, not %q", err, test.want)
			}
			if test.want == "" && in.RuntimeMode != workflows.RuntimeNoop {
				if command := <-server.commands; !strings.HasSuffix(command, "true") {
					t.Errorf("the probe ran %q", command)
				}
			}
		})
	}
}

func TestLoginProbeEndsWithItsTime(t *testing.T) {
	tools := &activities.Provisioning{ProbeSecret: []byte(strings.Repeat("s", 32))}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	number, _ := strconv.Atoi(port)
	server := newSSHServer(t, "gpu3", probeKey(t, tools, probeLease), 0)
	access := server.access("gpu3")
	access.SSHPort = number
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := tools.LoginProbe(ctx, workflows.LoginProbeIn{Lease: probeLease, Access: access}); fault.CodeOf(err) != fault.LoginProbeFailed {
		t.Fatalf("a silent server answers %v", err)
	}
}

func TestProbeKeysDeriveFromSecretAndLease(t *testing.T) {
	tools := &activities.Provisioning{ProbeSecret: []byte(strings.Repeat("s", 32))}
	other := &activities.Provisioning{ProbeSecret: []byte(strings.Repeat("t", 32))}
	first := probeKey(t, tools, probeLease)
	if again := probeKey(t, tools, probeLease); again != first {
		t.Error("the same lease has two keys")
	}
	next := probeLease
	next.Generation++
	if first == probeKey(t, tools, next) || first == probeKey(t, other, probeLease) {
		t.Error("another lease or another secret has the same key")
	}
}
