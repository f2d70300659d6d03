// Package natsserver embeds a real NATS server with JetStream in the development stack, on loopback and with a password. It
// knows nats-server and nothing of the platform.
package natsserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	user = "gpuaas"
	// readyDeadline is how long the server may take to recover its streams.
	readyDeadline = 20 * time.Second
)

// Config of a server.
type Config struct {
	// Directory holds the streams, which survive a restart.
	Directory string
	// Port on 127.0.0.1; 0 takes any that is free.
	Port int
	// Password of the one user there is.
	Password string
	Logger   *slog.Logger
}

// Server is a running server.
type Server struct {
	server   *server.Server
	password string
}

// Start answers when clients can connect. Stop ends it.
func Start(cfg Config) (*Server, error) {
	if cfg.Password == "" {
		return nil, errors.New("the NATS server needs a password")
	}
	if cfg.Port == 0 {
		cfg.Port = server.RANDOM_PORT
	}
	running, err := server.NewServer(&server.Options{
		ServerName: "gpuaas-devstack", Host: "127.0.0.1", Port: cfg.Port, Username: user, Password: cfg.Password,
		JetStream: true, StoreDir: cfg.Directory,
		// Signals are the stack's to answer.
		NoSigs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("the NATS server: %w", err)
	}
	if cfg.Logger != nil {
		running.SetLoggerV2(logger{cfg.Logger.With("part", "nats")}, false, false, false)
	}
	running.Start()
	if !running.ReadyForConnections(readyDeadline) {
		running.Shutdown()
		return nil, fmt.Errorf("the NATS server does not take connections on port %d within %s", cfg.Port, readyDeadline)
	}
	if !running.JetStreamEnabled() {
		running.Shutdown()
		return nil, fmt.Errorf("the NATS server runs without JetStream: its directory %s cannot be used", cfg.Directory)
	}
	return &Server{server: running, password: cfg.Password}, nil
}

// URL of the server with its password.
func (s *Server) URL() string {
	return (&url.URL{Scheme: "nats", User: url.UserPassword(user, s.password), Host: s.server.Addr().String()}).String()
}

// Stop ends it; what its streams hold stays on the disk.
func (s *Server) Stop() error {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return nil
}

// logger writes the server's own lines to ours.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l logger) Debugf(string, ...any)           {}
func (l logger) Tracef(string, ...any)           {}
