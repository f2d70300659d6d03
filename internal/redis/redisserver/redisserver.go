// Package redisserver runs a private redis-server on loopback, that keeps nothing on disk and ends with its owner: for the
// development stack and for tests. It imports go-redis only.
package redisserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// oldestMajor is the oldest Redis that the platform runs on.
	oldestMajor   = 7
	startDeadline = 20 * time.Second
	stopDeadline  = 5 * time.Second
	poll          = 20 * time.Millisecond
)

// Config of a private server.
type Config struct {
	// Binary is the path of redis-server; empty looks for it on the PATH.
	Binary string
	// Directory for its log; it is made.
	Directory string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Password of the default user; empty makes one.
	Password string
}

// Server is a running redis-server.
type Server struct {
	config Config
	cmd    *exec.Cmd
	ended  chan struct{}
	exit   error
}

var versionPattern = regexp.MustCompile(`v=(\d+)\.`)

// Find answers the path of a usable redis-server: binary, or the one on the PATH where that is empty.
func Find(binary string) (string, error) {
	if binary == "" {
		found, err := exec.LookPath("redis-server")
		if err != nil {
			return "", errors.New("no redis-server is on this machine: install Redis 7 or later")
		}
		binary = found
	}
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s cannot be run: %w", binary, err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s is no redis-server: it says %q", binary, out)
	}
	if major, _ := strconv.Atoi(string(m[1])); major < oldestMajor {
		return "", fmt.Errorf("%s is Redis %s: %d or later is needed", binary, m[1], oldestMajor)
	}
	return binary, nil
}

// Start runs a server and waits until it answers.
func Start(ctx context.Context, config Config) (*Server, error) {
	binary, err := Find(config.Binary)
	if err != nil {
		return nil, err
	}
	config.Binary = binary
	if config.Directory, err = filepath.Abs(config.Directory); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(config.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("the directory of Redis cannot be made: %w", err)
	}
	if config.Port == 0 {
		if config.Port, err = freePort(); err != nil {
			return nil, err
		}
	}
	if config.Password == "" {
		config.Password = rand.Text()
	}
	s := &Server{config: config, ended: make(chan struct{})}
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := s.awaitAnswer(ctx); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// run starts the process on a thread of its own: the parent-death signal follows the thread that forked.
func (s *Server) run() error {
	started := make(chan error, 1)
	go func() {
		unpin := pinThread()
		defer unpin()
		err := s.spawn()
		started <- err
		if err == nil {
			s.exit = s.cmd.Wait()
			close(s.ended)
		}
	}()
	return <-started
}

func (s *Server) spawn() error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("the log of Redis cannot be opened: %w", err)
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command(s.config.Binary, "-")
	s.cmd.Dir = s.config.Directory
	s.cmd.Stdin = strings.NewReader(s.settings()) // not arguments, which everybody on the machine can read
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = ownSession()
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("%s cannot be run: %w", s.config.Binary, err)
	}
	return nil
}

func (s *Server) settings() string {
	return strings.Join([]string{
		"bind 127.0.0.1", "port " + strconv.Itoa(s.config.Port), "requirepass " + s.config.Password,
		`save ""`, "appendonly no", "daemonize no", "maxmemory-policy noeviction", "",
	}, "\n")
}

func (s *Server) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	client := goredis.NewClient(&goredis.Options{Addr: s.address(), Password: s.config.Password, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})
	defer func() { _ = client.Close() }()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := s.ask(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("the private Redis ended while it started (%w); see %s", s.exit, s.logFile())
		case <-ctx.Done():
			return fmt.Errorf("the private Redis does not answer at %s: %w", s.address(), errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// ask dials first: the library would write a line to standard error for every server that does not listen yet.
func (s *Server) ask(ctx context.Context, client *goredis.Client) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address())
	if err != nil {
		return err
	}
	_ = conn.Close()
	return client.Ping(ctx).Err()
}

func (s *Server) logFile() string { return filepath.Join(s.config.Directory, "redis.log") }

func (s *Server) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.Port))
}

// URL of the server with its password.
func (s *Server) URL() string {
	return (&url.URL{Scheme: "redis", User: url.UserPassword("default", s.config.Password), Host: s.address(), Path: "/0"}).String()
}

// Config it runs with: a Start with it after Kill or Stop is the same server again, empty.
func (s *Server) Config() Config { return s.config }

// Kill ends it as a crash does and waits for its end.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// Stop asks it to end and waits for that.
func (s *Server) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		return nil
	case <-time.After(stopDeadline):
		s.Kill()
		return errors.New("the private Redis did not stop when it was told to, and was killed")
	}
}

// Signal sends a signal to the process, such as SIGSTOP in a test of a Redis that hangs.
func (s *Server) Signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("no free port on loopback: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
