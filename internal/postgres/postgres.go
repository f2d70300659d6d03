// Package postgres runs a private PostgreSQL server for one instance of the platform, and prepares the
// databases and roles an instance needs on that server or on one that is given. The development stack and
// the tests use it; product programs only ever get a URL. It imports the standard library and pgx.
//
// A private server listens on loopback alone, takes no password-less connection, lives in a session of its
// own (a SIGTERM to the process group of its owner would otherwise put it into smart shutdown, which waits
// for every client to leave), and never runs as root, because PostgreSQL refuses that.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Superuser is the role initdb makes. Only this package and tests sign in as it.
	Superuser = "gpuaas_root"

	startDeadline       = 60 * time.Second
	stopDeadline        = 30 * time.Second
	restartPause        = 500 * time.Millisecond
	connectPoll         = 50 * time.Millisecond
	maintenanceDatabase = "postgres"
)

// Config says where a private server keeps its data and where it listens.
type Config struct {
	// DataDir is the directory of the instance. The cluster lies in DataDir/postgres, unless the user that
	// runs it cannot enter that; then it lies under /var/tmp and DataDir/postgres.json records where.
	DataDir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// BinDir holds initdb and postgres; empty looks for the newest on this machine.
	BinDir string
	// MaxConnections of the server; 0 means 300.
	MaxConnections int
	// Logger receives what happens to the server; nil discards it.
	Logger *slog.Logger
	// Notice tells a person what takes long; nil drops it.
	Notice func(string)
}

// Server is a running private server. It restarts itself when the postmaster dies, until Stop.
type Server struct {
	cfg     Config
	binDir  string
	account account
	state   *state
	lock    *os.File
	log     *slog.Logger
	version string

	stop     chan struct{}
	stopped  chan struct{}
	stopOnce sync.Once

	mu  sync.Mutex
	pid int
}

// Start takes the instance's lock, stops a server that a killed owner left behind, makes the cluster on first
// use, and returns once the server answers. The error is one sentence that says what to do.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.begin(ctx); err != nil {
		_ = s.lock.Close()
		return nil, err
	}
	return s, nil
}

func prepare(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 300
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("the data directory %q has no absolute path: %w", cfg.DataDir, err)
	}
	cfg.DataDir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the data directory cannot be made: %w", err)
	}
	lock, err := lockInstance(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock, log: cfg.Logger, stop: make(chan struct{}), stopped: make(chan struct{})}
	if err := s.openCluster(ctx); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return s, nil
}

// begin runs the first postmaster in the caller's time, so that a mistake in the set-up is the caller's error
// and not a line in a log.
func (s *Server) begin(ctx context.Context) error {
	if err := stopLeftover(ctx, s.state.Cluster, s.log); err != nil {
		return err
	}
	if s.cfg.Port == 0 {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.cfg.Port = port
	}
	first := make(chan error, 1)
	go s.supervise(first)
	if err := <-first; err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	if err := s.awaitAnswer(ctx); err != nil {
		_ = s.Stop()
		return err
	}
	return nil
}

// supervise owns the postmaster: it starts it, waits for it, and starts it again when it was not Stop that
// ended it. The first start is reported on first.
func (s *Server) supervise(first chan<- error) {
	defer close(s.stopped)
	// The parent-death signal follows the thread that forked, so this goroutine keeps one thread to itself.
	unlock := pinThread()
	defer unlock()
	report := func(err error) {
		if first != nil {
			first <- err
			first = nil
		}
	}
	for {
		cmd, err := s.spawn()
		if err != nil {
			report(err)
			s.log.Error("the private Postgres does not start", "error", err.Error())
			return
		}
		s.setPID(cmd.Process.Pid)
		report(nil)
		exit := s.watch(cmd)
		s.setPID(0)
		select {
		case <-s.stop:
			return
		default:
		}
		s.log.Warn("the private Postgres ended and is started again", "exit", exit)
		select {
		case <-s.stop:
			return
		case <-time.After(restartPause):
		}
		// A killed postmaster leaves backends that hold its shared memory; a new one refuses to start beside them.
		ctx, cancel := context.WithTimeout(context.Background(), stopDeadline)
		if err := stopLeftover(ctx, s.state.Cluster, s.log); err != nil {
			s.log.Error("backends of the ended Postgres remain", "error", err.Error())
		}
		cancel()
	}
}

// watch waits for the postmaster's end; when Stop asks, it orders a fast shutdown and, past the deadline, an
// immediate one.
func (s *Server) watch(cmd *exec.Cmd) string {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return exitWords(err)
	case <-s.stop:
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	select {
	case err := <-ended:
		return exitWords(err)
	case <-time.After(stopDeadline):
	}
	s.log.Warn("the private Postgres did not shut down in time and is stopped at once")
	_ = cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case err := <-ended:
		return exitWords(err)
	case <-time.After(stopDeadline):
		_ = cmd.Process.Kill()
		return exitWords(<-ended)
	}
}

func (s *Server) spawn() (*exec.Cmd, error) {
	logFile, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the log of the private Postgres cannot be opened: %w", err)
	}
	defer func() { _ = logFile.Close() }()
	cmd := exec.Command(filepath.Join(s.binDir, "postgres"), s.settings()...)
	cmd.Dir = s.state.Cluster
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGDATA="+s.state.Cluster)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = ownSession(s.account)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s cannot be run: %w", cmd.Path, err)
	}
	return cmd, nil
}

func (s *Server) settings() []string {
	args := []string{"-D", s.state.Cluster}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(s.cfg.Port),
		"unix_socket_directories=",
		"max_connections=" + strconv.Itoa(s.cfg.MaxConnections),
		"shared_buffers=256MB",
		"max_wal_size=2GB",
		"password_encryption=scram-sha-256",
		"timezone=UTC",
		"log_timezone=UTC",
		"log_line_prefix=%m [%p] %u@%d ",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// awaitAnswer polls until the server takes the superuser's connection or its process has ended.
func (s *Server) awaitAnswer(ctx context.Context) error {
	tick := time.NewTicker(connectPoll)
	defer tick.Stop()
	var last error
	for {
		conn, err := pgx.Connect(ctx, s.URL(maintenanceDatabase))
		if err == nil {
			err = conn.QueryRow(ctx, "SELECT current_setting('server_version')").Scan(&s.version)
			_ = conn.Close(ctx)
			if err == nil {
				return nil
			}
		}
		last = err
		if s.PID() == 0 {
			return fmt.Errorf("the private Postgres ended while it started; its log %s ends: %s", s.LogFile(), tail(s.LogFile(), 600))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the private Postgres does not answer on port %d (log: %s): %w", s.cfg.Port, s.LogFile(), errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

// Stop orders a fast shutdown, waits for it and releases the instance. It is safe to call twice.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() { close(s.stop) })
	<-s.stopped
	return s.lock.Close()
}

// URL is a superuser's URL of one database, for tests and for preparing roles.
func (s *Server) URL(database string) string {
	return s.roleURL(Superuser, s.state.RootPassword, database)
}

func (s *Server) roleURL(role, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.cfg.Port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port the server listens on, on 127.0.0.1.
func (s *Server) Port() int { return s.cfg.Port }

// Version is the server's own version, such as "15.13".
func (s *Server) Version() string { return s.version }

// Cluster is the directory of the cluster's files.
func (s *Server) Cluster() string { return s.state.Cluster }

// LogFile is where the server writes its log.
func (s *Server) LogFile() string { return filepath.Join(s.cfg.DataDir, "postgres.log") }

// PID of the postmaster, 0 while there is none.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

func (s *Server) setPID(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("no free port on loopback: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func exitWords(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		_, _ = f.Seek(-n, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}
