package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// OldestMajor is the oldest PostgreSQL that the schema runs on.
const OldestMajor = 15

// Binaries is one installed PostgreSQL server.
type Binaries struct {
	Dir   string
	Major int
	minor int
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// inspect reads the version of the server in dir; an error means dir holds no complete server.
func inspect(dir string) (Binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return Binaries{}, err
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, err
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return Binaries{}, fmt.Errorf("%s says %q", dir, out)
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return Binaries{}, err
	}
	minor, _ := strconv.Atoi(string(m[2])) // absent in betas
	return Binaries{Dir: dir, Major: major, minor: minor}, nil
}

// Installed lists the servers on this machine, newest first.
func Installed() []Binaries {
	seen := map[string]bool{}
	var found []Binaries
	for _, dir := range candidateDirs() {
		real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
		if err != nil || seen[real] {
			continue
		}
		seen[real] = true
		b, err := inspect(filepath.Dir(real))
		if err != nil {
			continue
		}
		found = append(found, b)
	}
	sort.SliceStable(found, func(i, j int) bool {
		if found[i].Major != found[j].Major {
			return found[i].Major > found[j].Major
		}
		return found[i].minor > found[j].minor
	})
	return found
}

func candidateDirs() []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/usr/local/pgsql/bin", "/usr/local/opt/postgresql*/bin", "/opt/homebrew/opt/postgresql*/bin",
	} {
		matches, _ := filepath.Glob(pattern)
		dirs = append(dirs, matches...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	return dirs
}

// chooseBinaries takes dir if given; else the newest server, or, for an existing cluster, one of its major
// version, because no other can open it. With no server on the machine it installs one when it is root.
func chooseBinaries(ctx context.Context, dir string, clusterMajor int, notice func(string)) (Binaries, error) {
	if dir != "" {
		b, err := inspect(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s holds no PostgreSQL server: %w", dir, err)
		}
		return b, fits(b, clusterMajor)
	}
	found := Installed()
	if len(found) == 0 {
		if err := install(ctx, notice); err != nil {
			return Binaries{}, err
		}
		found = Installed()
	}
	for _, b := range found {
		if fits(b, clusterMajor) == nil {
			return b, nil
		}
	}
	if len(found) == 0 {
		return Binaries{}, errors.New("no PostgreSQL server was found although one was installed: set GPUAAS_POSTGRES_BIN to its directory")
	}
	return Binaries{}, fits(found[0], clusterMajor)
}

func fits(b Binaries, clusterMajor int) error {
	if clusterMajor != 0 && b.Major != clusterMajor {
		return fmt.Errorf("the data was written by PostgreSQL %d and the server at hand is %d: install PostgreSQL %d or remove the data", clusterMajor, b.Major, clusterMajor)
	}
	if b.Major < OldestMajor {
		return fmt.Errorf("PostgreSQL %d in %s is too old: %d or later is needed", b.Major, b.Dir, OldestMajor)
	}
	return nil
}

const createClusterConf = "/etc/postgresql-common/createcluster.conf"

// install gets the distribution's server. Its packages would also make and start a cluster of their own on port
// 5432, which nobody asked for, so that is turned off first where no administrator has decided otherwise.
func install(ctx context.Context, notice func(string)) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return errors.New("no PostgreSQL server is on this machine: install PostgreSQL 15 or later, or set DATABASE_URL to one that is reachable")
	}
	notice("installing PostgreSQL by apt-get, because this machine has no server; this takes a minute")
	if _, err := os.Stat(createClusterConf); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(createClusterConf), 0o755); err != nil {
			return fmt.Errorf("apt-get cannot be prepared: %w", err)
		}
		if err := os.WriteFile(createClusterConf, []byte("create_main_cluster = false\n"), 0o644); err != nil { //nolint:gosec // a configuration file of the system, readable by all
			return fmt.Errorf("apt-get cannot be prepared: %w", err)
		}
	}
	for _, args := range [][]string{
		{"update", "-q"},
		{"install", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "postgresql"},
	} {
		if err := runAPT(ctx, apt, args...); err != nil {
			return err
		}
	}
	return nil
}

// aptGrace is how long apt-get may take to end in order once it is told to.
const aptGrace = time.Minute

// runAPT runs apt-get so that whoever stops us meanwhile leaves no package half installed: an interrupt has apt-get end after the package at hand, while
// a kill, or the terminal's own interrupt to dpkg, would leave dpkg to be repaired.
func runAPT(ctx context.Context, apt string, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = aptGrace
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("apt-get was stopped: %w", ctx.Err())
	}
	if err != nil {
		last := strings.TrimSpace(string(out))
		if i := strings.LastIndexByte(last, '\n'); i >= 0 {
			last = last[i+1:]
		}
		return fmt.Errorf("no PostgreSQL server is on this machine and apt-get %s did not work (%s): install PostgreSQL 15 or later, or set DATABASE_URL: %w", args[0], last, err)
	}
	return nil
}
