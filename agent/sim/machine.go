// Package sim is a node without a machine: the agent, its journal, its fence and its every decision are the real ones,
// and a real SSH server lets tenants and the login probe in; users, files, processes and GPUs are kept in memory, and
// in a file where they survive a kill. Drills tell it to be slow, to fail, to vanish, to come back and to lie.
// It imports agent and domain.
package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/gpuaas/gpuaas/agent"
)

// account is one operating-system user of the simulated machine.
type account struct {
	UID    int64    `json:"uid"`
	Home   string   `json:"home"`
	Locked bool     `json:"locked"`
	Keys   []string `json:"keys"` // lines of authorized_keys
}

// process is something that runs as a user; end stops it.
type process struct {
	uid     int64
	command string
	end     func()
}

// State is what is on a simulated machine, for whoever checks it from outside.
type State struct {
	NodeID  string `json:"node_id"`
	Name    string `json:"name"`
	Present bool   `json:"present"`
	// Users and Files are those of tenants, by name and path.
	Users     []string `json:"users"`
	Files     []string `json:"files"`
	Processes []string `json:"processes"`
}

// kept is the part of a machine that survives the end of its process.
type kept struct {
	NodeID string   `json:"node_id"`
	Users  []string `json:"users"`
	Files  []string `json:"files"`
	// Accounts and Owners are the same users and files with what belongs to them.
	Accounts map[string]account `json:"accounts"`
	Owners   map[string]int64   `json:"owners"`
}

// machine is the simulated hardware and operating system. It is safe for concurrent use.
type machine struct {
	mu        sync.Mutex
	path      string // of the state file; empty keeps nothing
	nodeID    string
	accounts  map[string]account
	owners    map[string]int64
	processes map[int]process
	nextPID   int
	// hold leaves files behind in a scrub; blind makes the check not see them.
	hold, blind bool
}

func openMachine(directory string) (*machine, error) {
	m := &machine{accounts: map[string]account{}, owners: map[string]int64{}, processes: map[int]process{}, nextPID: 1000}
	if directory == "" {
		return m, nil
	}
	m.path = filepath.Join(directory, "state.json")
	content, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, m.save()
	}
	if err != nil {
		return nil, fmt.Errorf("read the simulated machine: %w", err)
	}
	var k kept
	if err := json.Unmarshal(content, &k); err != nil {
		return nil, fmt.Errorf("the simulated machine in %s cannot be read: %w", m.path, err)
	}
	m.nodeID = k.NodeID
	maps.Copy(m.accounts, k.Accounts)
	maps.Copy(m.owners, k.Owners)
	return m, nil
}

// save writes the state whole; the caller holds the lock. It need not survive a power cut of the host.
func (m *machine) save() error {
	if m.path == "" {
		return nil
	}
	content, err := json.MarshalIndent(kept{
		NodeID: m.nodeID, Users: sorted(m.accounts), Files: sorted(m.owners), Accounts: m.accounts, Owners: m.owners,
	}, "", " ")
	if err != nil {
		return fmt.Errorf("encode the simulated machine: %w", err)
	}
	if err := errors.Join(os.WriteFile(m.path+".new", content, 0o600), os.Rename(m.path+".new", m.path)); err != nil {
		return fmt.Errorf("keep the simulated machine: %w", err)
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	names := slices.Sorted(maps.Keys(m))
	if names == nil {
		names = []string{} // an empty list in JSON, not null
	}
	return names
}

func (m *machine) named(nodeID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodeID = nodeID
	return m.save()
}

func (m *machine) state() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := State{NodeID: m.nodeID, Users: sorted(m.accounts), Files: sorted(m.owners), Processes: []string{}}
	for _, pid := range slices.Sorted(maps.Keys(m.processes)) {
		s.Processes = append(s.Processes, fmt.Sprintf("%d %d %s", pid, m.processes[pid].uid, m.processes[pid].command))
	}
	return s
}

// Provision is agent.Users.
func (m *machine) Provision(_ context.Context, user agent.User) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	home := "/home/" + user.Name
	present, found := m.accounts[user.Name]
	if found && present.UID != user.UID {
		return "", fmt.Errorf("the user %s exists with another number, %d", user.Name, present.UID)
	}
	present.UID, present.Home, present.Locked = user.UID, home, false
	m.accounts[user.Name] = present
	for _, file := range []string{"/.profile", "/.bashrc"} {
		m.owners[home+file] = user.UID
	}
	return home, m.save()
}

// Lock is agent.Users.
func (m *machine) Lock(_ context.Context, user agent.User) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if present, found := m.accounts[user.Name]; found {
		present.Locked = true
		m.accounts[user.Name] = present
	}
	return m.save()
}

// Suspend is agent.Users.
func (m *machine) Suspend(_ context.Context, user agent.User) error { return m.setLocked(user, true) }

// Resume is agent.Users.
func (m *machine) Resume(_ context.Context, user agent.User) error { return m.setLocked(user, false) }

func (m *machine) setLocked(user agent.User, locked bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	present, found := m.accounts[user.Name]
	if !found {
		return fmt.Errorf("there is no user %s", user.Name)
	}
	present.Locked = locked
	m.accounts[user.Name] = present
	return m.save()
}

// Tenants is agent.Users.
func (m *machine) Tenants(context.Context) ([]agent.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var users []agent.User
	for _, name := range sorted(m.accounts) {
		users = append(users, agent.User{Name: name, UID: m.accounts[name].UID})
	}
	return users, nil
}

// Set is agent.Keys.
func (m *machine) Set(_ context.Context, user agent.User, lines []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	present, found := m.accounts[user.Name]
	if !found {
		if len(lines) == 0 {
			return nil
		}
		return fmt.Errorf("there is no user %s to give keys to", user.Name)
	}
	present.Keys = lines
	m.accounts[user.Name] = present
	path := present.Home + "/.ssh/authorized_keys"
	if len(lines) == 0 {
		delete(m.owners, path)
	} else {
		m.owners[path] = user.UID
	}
	return m.save()
}

// Kill is agent.Processes.
func (m *machine) Kill(_ context.Context, user agent.User) (int, error) {
	m.mu.Lock()
	var ends []func()
	for pid, p := range m.processes {
		if p.uid == user.UID {
			ends = append(ends, p.end)
			delete(m.processes, pid)
		}
	}
	m.mu.Unlock()
	for _, end := range ends {
		end()
	}
	return len(ends), nil
}

// removeFiles and removeUser are agent.Files and agent.Users, whose methods share a name.
func (m *machine) removeFiles(user agent.User) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hold {
		return 0, nil
	}
	before := len(m.owners)
	maps.DeleteFunc(m.owners, func(_ string, uid int64) bool { return uid == user.UID })
	return int64(before - len(m.owners)), m.save()
}

func (m *machine) removeUser(user agent.User) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.accounts, user.Name)
	return m.save()
}

// Examine is agent.Examiner: it reads the machine, not what the scrub said of itself.
func (m *machine) Examine(_ context.Context, user agent.User) ([]agent.Finding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	processes := agent.Finding{Check: "no_process"}
	memory := agent.Finding{Check: "gpu_memory_free"}
	for pid, p := range m.processes {
		if p.uid == user.UID {
			processes.Remains = append(processes.Remains, fmt.Sprintf("%d %s", pid, p.command))
			memory.Remains = append(memory.Remains, fmt.Sprintf("process %d", pid))
		}
	}
	users := agent.Finding{Check: "no_user"}
	for name, a := range m.accounts {
		if a.UID == user.UID || name == user.Name {
			users.Remains = append(users.Remains, name)
		}
	}
	files := agent.Finding{Check: "no_file"}
	for _, path := range sorted(m.owners) {
		if m.owners[path] == user.UID && !m.blind {
			files.Remains = append(files.Remains, path)
		}
	}
	return []agent.Finding{processes, users, files, memory}, nil
}

// start notes a process of a user who may log in; stop forgets it.
func (m *machine) start(username, command string, end func()) (stop func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, found := m.accounts[username]
	if !found || a.Locked {
		return nil, fmt.Errorf("the user %s may not log in", username)
	}
	m.nextPID++
	pid := m.nextPID
	m.processes[pid] = process{uid: a.UID, command: command, end: end}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.processes, pid)
	}, nil
}

// touch makes a file of a user, below its home or at an absolute path.
func (m *machine) touch(username, path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, found := m.accounts[username]
	if !found {
		return fmt.Errorf("there is no user %s", username)
	}
	if !strings.HasPrefix(path, "/") {
		path = a.Home + "/" + path
	}
	path = filepath.Clean(path)
	if owner, taken := m.owners[path]; taken && owner != a.UID {
		return fs.ErrPermission
	}
	m.owners[path] = a.UID
	return m.save()
}

func (m *machine) account(username string) (account, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, found := m.accounts[username]
	return a, found
}

// lie sets what a scrub leaves and whether the check sees it.
func (m *machine) lie(hold, blind bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold, m.blind = hold, blind
}

// users and files give the machine the two methods named Remove.
type (
	users struct{ *machine }
	files struct{ *machine }
)

func (u users) Remove(_ context.Context, user agent.User) error { return u.removeUser(user) }

func (f files) Remove(_ context.Context, user agent.User) (int64, error) { return f.removeFiles(user) }
