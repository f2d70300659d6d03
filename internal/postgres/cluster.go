package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// outsideRoot is where a cluster lies that its user could not enter inside the data directory. It survives a
// reboot, unlike /tmp on many machines.
const outsideRoot = "/var/tmp"

// state is what must survive a restart of the instance: DataDir/postgres.json, 0600.
type state struct {
	path string
	// Cluster is the absolute directory of the private cluster; empty before the first start and when the
	// instance lives on a given server.
	Cluster      string `json:"cluster,omitempty"`
	RootPassword string `json:"root_password,omitempty"`
	// OwnerPassword is the password of the role that owns the databases of a private cluster.
	OwnerPassword string `json:"owner_password,omitempty"`
	// ProgramPassword is the password of the programs' login role.
	ProgramPassword string `json:"program_password,omitempty"`
	// Suffix tells the databases of this instance from others on a given server.
	Suffix string `json:"suffix,omitempty"`
}

func openState(dataDir string) (*state, error) {
	s := &state{path: filepath.Join(dataDir, "postgres.json")}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the record of the database cannot be read: %w", err)
	}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("%s is not readable as JSON: %w", s.path, err)
	}
	return s, nil
}

// save replaces the file in one rename, so that a kill between two writes leaves the old one.
func (s *state) save() error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	next := s.path + ".new"
	if err := os.WriteFile(next, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("the record of the database cannot be written: %w", err)
	}
	return os.Rename(next, s.path)
}

func secret() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return hex.EncodeToString(b[:])
}

// lockInstance makes sure that one process at a time uses a data directory. The kernel releases the lock when
// its holder dies, so a kill -9 leaves nothing to clean up.
func lockInstance(dataDir string) (*os.File, error) {
	path := filepath.Join(dataDir, "postgres.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data directory cannot be locked: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another instance uses the data directory %s: stop it or choose another by GPUAAS_DATA", dataDir)
	}
	return f, nil
}

// openCluster settles binaries, user and place, and makes the cluster if there is none yet.
func (s *Server) openCluster(ctx context.Context) error {
	st, err := openState(s.cfg.DataDir)
	if err != nil {
		return err
	}
	s.state = st
	bin, err := chooseBinaries(ctx, s.cfg.BinDir, majorOf(st.Cluster), s.cfg.Notice)
	if err != nil {
		return err
	}
	s.binDir = bin.Dir
	if s.account, err = chooseAccount(st.Cluster, bin.Dir); err != nil {
		return err
	}
	if st.Cluster != "" && majorOf(st.Cluster) != 0 {
		return nil
	}
	return s.makeCluster(ctx)
}

// majorOf is the major version that wrote the cluster, 0 when there is no complete one.
func majorOf(cluster string) int {
	if cluster == "" {
		return 0
	}
	raw, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return major
}

// makeCluster runs initdb beside the final place and renames the result: a cluster that exists is complete.
func (s *Server) makeCluster(ctx context.Context) error {
	place, err := s.place()
	if err != nil {
		return err
	}
	if s.state.RootPassword == "" {
		s.state.RootPassword = secret()
	}
	s.state.Cluster = filepath.Join(place, "cluster")
	if err := s.state.save(); err != nil {
		return err
	}
	unfinished := filepath.Join(place, "cluster.new")
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("an unfinished cluster cannot be removed: %w", err)
	}
	passwordFile := filepath.Join(place, "password")
	if err := s.writeForAccount(passwordFile, s.state.RootPassword); err != nil {
		return err
	}
	defer func() { _ = os.Remove(passwordFile) }()
	cmd := exec.CommandContext(ctx, filepath.Join(s.binDir, "initdb"), "-D", unfinished, "-U", Superuser,
		"--pwfile="+passwordFile, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C")
	cmd.Dir = place
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.account.credential()}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb ended with %w: %s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(unfinished, s.state.Cluster); err != nil {
		return fmt.Errorf("the new cluster cannot be put in place: %w", err)
	}
	s.log.Info("a private Postgres cluster was made", "cluster", s.state.Cluster, "binaries", s.binDir, "os_user", s.account.name)
	return nil
}

// place makes the directory that holds the cluster: inside the data directory where the server's user can
// enter it, else under /var/tmp.
func (s *Server) place() (string, error) {
	inside := filepath.Join(s.cfg.DataDir, "postgres")
	if recorded := filepath.Dir(s.state.Cluster); s.state.Cluster != "" && s.enterable(recorded) == nil {
		return recorded, nil
	}
	refusal := s.enterable(inside)
	if refusal == nil {
		return inside, nil
	}
	outside, err := os.MkdirTemp(outsideRoot, "gpuaas-postgres-")
	if err != nil {
		return "", fmt.Errorf("the user %s that runs Postgres cannot enter %s, and %s takes no directory: %w", s.account.name, inside, outsideRoot, err)
	}
	if err := s.enterable(outside); err != nil {
		return "", fmt.Errorf("the user %s that runs Postgres can enter neither %s nor %s: %w", s.account.name, inside, outside, errors.Join(refusal, err))
	}
	s.log.Info("the cluster lies outside the data directory, because the user that runs it cannot enter that", "os_user", s.account.name, "place", outside)
	return outside, nil
}

// enterable makes dir for the server's user alone and tries whether that user gets there.
func (s *Server) enterable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if s.account.switched {
		if err := os.Chown(dir, s.account.uid, s.account.gid); err != nil {
			return err
		}
	}
	err := canRun(s.account, s.binDir, dir)
	if err != nil {
		_ = os.Remove(dir) // only if empty; a directory nobody can use says nothing
	}
	return err
}

func (s *Server) writeForAccount(path, text string) error {
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		return err
	}
	if !s.account.switched {
		return nil
	}
	return os.Chown(path, s.account.uid, s.account.gid)
}

// Remove stops what still runs of the instance in dataDir and removes its cluster and records. It refuses while
// the instance is in use, and while its databases are on a given server: nobody else knows their names. DropGiven goes first there.
func Remove(ctx context.Context, dataDir string) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockInstance(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	st, err := openState(dir)
	if err != nil {
		return err
	}
	if st.Suffix != "" {
		d := named("", st)
		return fmt.Errorf("the databases %s, %s and %s of this instance are on a given server: set DATABASE_URL to that server, so that they are dropped; if it is gone for good, remove %s",
			d.Product, d.Temporal, d.Visibility, st.path)
	}
	if st.Cluster != "" {
		if err := stopLeftover(ctx, st.Cluster, nil); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Dir(st.Cluster)); err != nil {
			return fmt.Errorf("the cluster cannot be removed: %w", err)
		}
	}
	for _, name := range []string{"postgres.json", "postgres.log", "postgres.lock"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// StopLeftover stops a server that a killed owner of dataDir left running, so that its port is free again. It
// refuses while the instance is in use.
func StopLeftover(ctx context.Context, dataDir string) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	lock, err := lockInstance(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	st, err := openState(dir)
	if err != nil || st.Cluster == "" {
		return err
	}
	return stopLeftover(ctx, st.Cluster, nil)
}
