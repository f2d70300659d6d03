// Package sshtest gives a test what a tenant brings to a node: a key, a login, a command; and a real OpenSSH server on
// this machine. It imports domain/node.
package sshtest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/gpuaas/gpuaas/domain/node"
)

const (
	startPatience = 10 * time.Second
	startPoll     = 20 * time.Millisecond
	logInPatience = 10 * time.Second
)

// Server is a running sshd.
type Server struct {
	Port        int
	HostKeyFile string // the public key
}

// Start runs sshd with a configuration of its own on a free port of the loopback interface until t ends. Without sshd on
// the machine the test is skipped.
func Start(t testing.TB) Server {
	t.Helper()
	program, err := exec.LookPath("sshd")
	if err != nil {
		t.Skip("there is no sshd: install openssh-server")
	}
	directory := t.TempDir()
	key, config := filepath.Join(directory, "host_key"), filepath.Join(directory, "sshd_config")
	must(t, os.MkdirAll("/run/sshd", 0o755))
	must(t, exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Run())
	port := freePort(t)
	must(t, os.WriteFile(config, fmt.Appendf(nil, "Port %d\nListenAddress 127.0.0.1\nHostKey %s\nPidFile none\n"+
		"UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile .ssh/authorized_keys\nStrictModes yes\n", port, key), 0o600))
	server := exec.CommandContext(context.Background(), program, "-D", "-e", "-f", config)
	server.Stderr = t.Output()
	must(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Signal(syscall.SIGTERM); _ = server.Wait() })
	awaitListener(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return Server{Port: port, HostKeyFile: key + ".pub"}
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	address, _ := listener.Addr().(*net.TCPAddr)
	must(t, listener.Close())
	return address.Port
}

func awaitListener(t testing.TB, address string) {
	t.Helper()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	deadline := time.After(startPatience)
	for {
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			must(t, connection.Close())
			return
		}
		select {
		case <-deadline:
			t.Fatalf("sshd does not listen at %s: %v", address, err)
		case <-tick.C:
		}
	}
}

// NewKey makes a key and its line for authorized_keys.
func NewKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// LogIn connects as the user of a node, whose host key it insists on.
func LogIn(t testing.TB, access node.UserProvisionOut, signer ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(access.SSHHostKey))
	must(t, err)
	return ssh.Dial("tcp", net.JoinHostPort(access.SSHHost, strconv.Itoa(access.SSHPort)), &ssh.ClientConfig{
		User: access.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(hostKey), Timeout: logInPatience,
	})
}

// Say runs a command that must succeed and answers what it printed.
func Say(t testing.TB, client *ssh.Client, command string) string {
	t.Helper()
	session, err := client.NewSession()
	must(t, err)
	text, err := session.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, text)
	}
	return string(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
