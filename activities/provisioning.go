package activities

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/worker"
	"golang.org/x/crypto/ssh"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/workflows"
)

// Provisioning proves that a node is usable by logging in to it. Its tools are the deployment's probe secret and
// the network; it holds no key: the key of a lease derives from the secret and the lease.
type Provisioning struct {
	// ProbeSecret is GPUAAS_PROBE_SECRET, at least 32 bytes, the same on every provisioning worker.
	ProbeSecret []byte
}

// Bind registers the probe steps.
func (p *Provisioning) Bind(registry worker.ActivityRegistry) {
	workflows.StepProbeKey.Bind(registry, p.ProbeKey)
	workflows.StepLoginProbe.Bind(registry, p.LoginProbe)
}

// ProbeKey answers the public half of the login-probe key of a lease. The agent installs it with options that allow
// one forced command and nothing else.
func (p *Provisioning) ProbeKey(_ context.Context, in workflows.ProbeKeyIn) (workflows.ProbeKeyOut, error) {
	signer, err := p.signer(in.Lease)
	if err != nil {
		return workflows.ProbeKeyOut{}, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return workflows.ProbeKeyOut{PublicKey: line + " gpuaas-login-probe"}, nil
}

// signer derives the ed25519 key of a lease: another lease, or another secret, is another key.
func (p *Provisioning) signer(lease node.Lease) (ssh.Signer, error) {
	mac := hmac.New(sha256.New, p.ProbeSecret)
	_, _ = fmt.Fprintf(mac, "gpuaas login probe\x00%s\x00%s\x00%d", lease.NodeID, lease.AllocationID, lease.Generation)
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(mac.Sum(nil)))
	if err != nil {
		return nil, fmt.Errorf("the probe key of %s: %w", lease.NodeID, err)
	}
	return signer, nil
}

// probeMargin is what is left of the attempt's deadline for the answer to arrive in time.
const probeMargin = time.Second

// LoginProbe logs in over SSH as the tenant's user would, at the host key the node reported, runs the probe's forced
// command and closes. It waits for a server that is not listening yet, up to the attempt's deadline; every other
// refusal is fault.LoginProbeFailed at once. In noop mode there is no node, and nothing is dialled.
func (p *Provisioning) LoginProbe(ctx context.Context, in workflows.LoginProbeIn) (workflows.LoginProbeOut, error) {
	if in.RuntimeMode == workflows.RuntimeNoop {
		return workflows.LoginProbeOut{}, nil
	}
	signer, err := p.signer(in.Lease)
	if err != nil {
		return workflows.LoginProbeOut{}, err
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(in.Access.SSHHostKey))
	if err != nil {
		return workflows.LoginProbeOut{}, fault.Wrap(err, fault.LoginProbeFailed, "The node reported no usable SSH host key.")
	}
	if deadline, bounded := ctx.Deadline(); bounded && time.Until(deadline) > 2*probeMargin {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-probeMargin))
		defer cancel()
	}
	began := time.Now()
	connection, err := dialUntil(ctx, net.JoinHostPort(in.Access.SSHHost, strconv.Itoa(in.Access.SSHPort)))
	if err != nil {
		return workflows.LoginProbeOut{}, fault.Wrap(err, fault.LoginProbeFailed, "Nothing answered at the node's SSH address in time.")
	}
	// Closing the connection is what ends a handshake or a command that hangs.
	stop := context.AfterFunc(ctx, func() { _ = connection.Close() })
	defer stop()
	defer func() { _ = connection.Close() }()

	if err := logIn(connection, in.Access.Username, hostKey, signer); err != nil {
		return workflows.LoginProbeOut{}, fault.Wrap(err, fault.LoginProbeFailed, "The login as "+in.Access.Username+" did not succeed: "+err.Error())
	}
	return workflows.LoginProbeOut{LoginMS: time.Since(began).Milliseconds()}, nil
}

// dialPause is the wait between two tries to reach a server that is not listening yet.
const dialPause = 250 * time.Millisecond

func dialUntil(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	for {
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return connection, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(dialPause):
		}
	}
}

// logIn makes a session with a public key and runs a command in it; the node's options replace the command by theirs.
func logIn(connection net.Conn, username string, hostKey ssh.PublicKey, signer ssh.Signer) error {
	client, channels, requests, err := ssh.NewClientConn(connection, connection.RemoteAddr().String(), &ssh.ClientConfig{
		User:              username,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: hostKeyAlgorithms(hostKey),
		HostKeyCallback: func(_ string, _ net.Addr, offered ssh.PublicKey) error {
			if !bytes.Equal(offered.Marshal(), hostKey.Marshal()) {
				return errors.New("the host key is not the one that the node reported")
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	session := ssh.NewClient(client, channels, requests)
	defer func() { _ = session.Close() }()
	command, err := session.NewSession()
	if err != nil {
		return err
	}
	return command.Run("true")
}

// hostKeyAlgorithms asks the server for the key it reported and no other; an RSA key signs with SHA-2.
func hostKeyAlgorithms(hostKey ssh.PublicKey) []string {
	if hostKey.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{hostKey.Type()}
}
