package sim

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// door is the node's SSH server. Who may enter is read from the simulated users' authorized keys at every attempt.
type door struct {
	machine  *machine
	hardware *hardware
	config   *ssh.ServerConfig
	listener net.Listener
	mu       sync.Mutex
	open     map[net.Conn]struct{} // nil once closed
	guests   sync.WaitGroup
}

// forcedCommand is where the options of the key that let somebody in travel to the session.
const forcedCommand = "command"

// openDoor listens where the node is told to. Told nothing, it listens on the port of its last life, so that what the platform knows of it stays true,
// and moves to a free one when that is taken: allocations in progress then keep an address at which nobody answers.
func openDoor(ctx context.Context, directory string, config Config, m *machine, h *hardware) (*door, error) {
	signer, err := hostKey(directory)
	if err != nil {
		return nil, err
	}
	listener, err := listen(ctx, directory, config)
	if err != nil {
		return nil, err
	}
	d := &door{machine: m, hardware: h, listener: listener, open: map[net.Conn]struct{}{}}
	d.config = &ssh.ServerConfig{ServerVersion: "SSH-2.0-gpuaas_sim", PublicKeyCallback: d.authorize}
	d.config.AddHostKey(signer)
	port := listener.Addr().(*net.TCPAddr).Port
	h.reachedAt(port, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))))
	go d.accept()
	return d, nil
}

func hostKey(directory string) (ssh.Signer, error) {
	path := filepath.Join(directory, "ssh_host_ed25519_key")
	content, err := os.ReadFile(path)
	if err == nil {
		return ssh.ParsePrivateKey(content)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the host key: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, fmt.Errorf("encode the host key: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, fmt.Errorf("keep the host key: %w", err)
	}
	return ssh.NewSignerFromKey(key)
}

func listen(ctx context.Context, directory string, config Config) (net.Listener, error) {
	path := filepath.Join(directory, "ssh_port")
	port := config.SSHPort
	if port == 0 {
		if content, err := os.ReadFile(path); err == nil {
			port, _ = strconv.Atoi(string(content)) // an unreadable number is any free port
		}
	}
	var opened net.ListenConfig
	listener, err := opened.Listen(ctx, "tcp", net.JoinHostPort(config.SSHHost, strconv.Itoa(port)))
	if err != nil && config.SSHPort == 0 && port != 0 {
		config.Log.WarnContext(ctx, "the SSH port of the node's last life is taken, and it moves to another", "port", port)
		listener, err = opened.Listen(ctx, "tcp", net.JoinHostPort(config.SSHHost, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("listen for SSH: %w", err)
	}
	port = listener.Addr().(*net.TCPAddr).Port
	if err := os.WriteFile(path, []byte(strconv.Itoa(port)), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the SSH port: %w", err), listener.Close())
	}
	return listener, nil
}

// authorize reads authorized_keys as OpenSSH does: the first line with this key decides, with its options.
func (d *door) authorize(conn ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
	a, found := d.machine.account(conn.User())
	if !found || a.Locked {
		return nil, fmt.Errorf("the user %s may not log in", conn.User())
	}
	for _, line := range a.Keys {
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || !bytes.Equal(key.Marshal(), offered.Marshal()) {
			continue
		}
		permissions := &ssh.Permissions{Extensions: map[string]string{}}
		for _, option := range options {
			if command, forced := strings.CutPrefix(option, "command="); forced {
				permissions.Extensions[forcedCommand] = strings.Trim(command, `"`)
			}
		}
		return permissions, nil
	}
	return nil, errors.New("the key is not among the authorized ones")
}

func (d *door) accept() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		if d.open == nil { // closed meanwhile
			d.mu.Unlock()
			_ = conn.Close()
			return
		}
		d.open[conn] = struct{}{}
		d.guests.Add(1)
		d.mu.Unlock()
		go d.admit(conn)
	}
}

func (d *door) admit(conn net.Conn) {
	defer d.guests.Done()
	defer func() {
		d.mu.Lock()
		delete(d.open, conn)
		d.mu.Unlock()
		_ = conn.Close()
	}()
	guest, channels, requests, err := ssh.NewServerConn(conn, d.config)
	if err != nil {
		return // refused, and the client was told
	}
	stop, err := d.machine.start(guest.User(), "sshd: "+guest.User(), func() { _ = conn.Close() })
	if err != nil {
		return
	}
	defer stop()
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		channel, wishes, err := offered.Accept()
		if err != nil {
			return
		}
		s := &session{door: d, user: guest.User(), forced: guest.Permissions.Extensions[forcedCommand], channel: channel}
		go s.serve(wishes)
	}
}

// close stops listening, ends every connection and waits until they have ended.
func (d *door) close() {
	_ = d.listener.Close()
	d.mu.Lock()
	open := d.open
	d.open = nil // whoever was accepted just now is turned away
	d.mu.Unlock()
	for conn := range open {
		_ = conn.Close()
	}
	d.guests.Wait()
}
