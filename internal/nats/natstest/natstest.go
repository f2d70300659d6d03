// Package natstest gives a test a NATS server of its own to stop and kill. It needs GPUAAS_TEST_NATS_SERVER, the program that runs
// one, which `bin/devstack run` sets with the part nats.
package natstest

import (
	"bufio"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/nats"
)

// Server is a real server in a process of its own, with its streams in a directory of the test's.
type Server struct {
	t         testing.TB
	directory string
	port      string
	url       string
	process   *exec.Cmd
}

// Available says whether a server can be started here.
func Available() bool { return os.Getenv("GPUAAS_TEST_NATS_SERVER") != "" }

// Start runs a server until t ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, directory: t.TempDir(), port: "0"}
	s.Again()
	t.Cleanup(s.Kill)
	return s
}

// Again starts a server that was killed, at the same address and with what its streams hold.
func (s *Server) Again() {
	s.t.Helper()
	program := os.Getenv("GPUAAS_TEST_NATS_SERVER")
	if program == "" {
		s.t.Fatal("GPUAAS_TEST_NATS_SERVER is not set: run `make test-integration`, or `bin/devstack run` with the part nats")
	}
	s.process = exec.Command(program, "nats", s.directory, s.port)
	s.process.Env = append(os.Environ(), "GPUAAS_NATS_PASSWORD=test")
	s.process.Stderr = os.Stderr
	output, err := s.process.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ready {
		s.t.Fatalf("the NATS server says %q (%v)", line, err)
	}
	parsed, err := url.Parse(address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.url, s.port = address, parsed.Port()
}

// Kill is kill -9; it returns when the process is gone.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.process = nil
}

// Config of a client of the server.
func (s *Server) Config() nats.Config { return nats.Config{URL: s.url, Streams: nats.DefaultStreams()} }

// Open makes a client until t ends.
func (s *Server) Open() *nats.Client { return Open(s.t, s.Config()) }

// Open makes a client until t ends.
func Open(t testing.TB, config nats.Config) *nats.Client {
	t.Helper()
	client, err := nats.Open(config, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// AwaitReady returns when JetStream answers.
func AwaitReady(t testing.TB, client *nats.Client) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		err := client.Ready(t.Context())
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
