package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/gpuaas/gpuaas/agent/durable"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Fence keeps late messages of an ended lease from touching the machine of the next one. The floor is the newest
// generation the node has heard of, from a task or from the platform; it only rises, and is on disk before anything is
// done at it. Within a generation there is one more step that cannot be undone: once its user was revoked or scrubbed,
// nothing may make or open that user again.
type Fence struct {
	mu   sync.Mutex
	path string
	mark mark
}

type mark struct {
	Floor int64 `json:"floor"`
	// Ending is the newest generation whose end has begun.
	Ending int64 `json:"ending"`
}

// OpenFence reads the fence in a directory. A damaged file is an error: a node that has forgotten its floor must hear
// it from a person, not guess.
func OpenFence(directory string) (*Fence, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's directory: %w", err)
	}
	f := &Fence{path: filepath.Join(directory, "fence")}
	content, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the fence: %w", err)
	}
	if err := unseal(bytes.TrimSuffix(content, []byte("\n")), &f.mark); err != nil {
		return nil, fmt.Errorf("the fence in %s cannot be read; re-image the node, or remove the file once the node is known to be clean: %w", f.path, err)
	}
	return f, nil
}

// Floor is the oldest generation that is served.
func (f *Fence) Floor() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mark.Floor
}

// Refuses says why a task must not run now, or nothing.
func (f *Fence) Refuses(generation int64, kind node.TaskKind) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case generation < f.mark.Floor:
		return fmt.Sprintf("generation %d is over; this node serves %d", generation, f.mark.Floor)
	case opens(kind) && generation <= f.mark.Ending:
		return fmt.Sprintf("the end of generation %d has begun, so %s comes too late", generation, kind)
	default:
		return ""
	}
}

// Enter raises the floor to the task's generation and notes an end that begins, on disk. It answers whether the floor
// rose. The caller asked Refuses under the same turn.
func (f *Fence) Enter(generation int64, kind node.TaskKind) (raised bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.mark
	next.Floor = max(next.Floor, generation)
	if ends(kind) {
		next.Ending = max(next.Ending, generation)
	}
	return f.set(next)
}

// Raise is the platform's word: generations below this floor are over.
func (f *Fence) Raise(floor int64) (raised bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.mark
	next.Floor = max(next.Floor, floor)
	return f.set(next)
}

func (f *Fence) set(next mark) (bool, error) {
	if next == f.mark {
		return false, nil
	}
	line, err := seal(next)
	if err != nil {
		return false, err
	}
	if err := durable.Replace(f.path, line); err != nil {
		return false, err
	}
	raised := next.Floor > f.mark.Floor
	f.mark = next
	return raised, nil
}

// opens says whether a task gives a tenant something; ends, whether it takes the lease's user away.
func opens(kind node.TaskKind) bool {
	return kind == node.UserProvision || kind == node.SSHKeysSync || kind == node.UserResume
}

func ends(kind node.TaskKind) bool { return kind == node.UserRevoke || kind == node.ScrubRun }
