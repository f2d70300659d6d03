package agent

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/gpuaas/gpuaas/agent/durable"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Journal remembers on disk what the agent began and what it finished, under allocation/generation/step/attempt. It is
// written before the machine is touched. Only a success is replayed: what was begun and not finished is run again, and
// every task converges. It holds no keys and no names of people; it is safe for concurrent use.
type Journal struct {
	mu      sync.Mutex
	path    string
	file    *os.File
	entries map[string]entry
	written int
	order   int64
}

// entry is one line: a task that began, or one that succeeded with its answer.
type entry struct {
	Key        string          `json:"key"`
	Kind       node.TaskKind   `json:"kind"`
	Generation int64           `json:"generation"`
	Input      string          `json:"input"` // SHA-256: the same key with another input is another task
	Done       bool            `json:"done"`
	Out        json.RawMessage `json:"out,omitempty"`
	Order      int64           `json:"order"`
}

// Bounds of the journal: when the file is rewritten, and how many entries it keeps then.
const (
	journalRewriteAfter = 1024
	journalKeeps        = 256
)

// OpenJournal reads the journal in a directory, or begins one. A torn last line is a task whose beginning was never
// acknowledged to anybody, and is dropped; a damaged line elsewhere loses that entry alone, so its task is run again.
func OpenJournal(directory string) (*Journal, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's directory: %w", err)
	}
	j := &Journal{path: filepath.Join(directory, "journal"), entries: map[string]entry{}}
	content, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		var e entry
		if len(line) > 0 && unseal(line, &e) == nil {
			j.entries[e.Key] = e
			j.order = max(j.order, e.Order)
		}
	}
	// Rewriting at every start repairs a torn end, so that the next line is not appended to half of one.
	return j, j.rewrite(0)
}

// Replay answers the stored outcome of a task that succeeded under this key with this input.
func (j *Journal) Replay(task node.Task, kind node.TaskKind, input []byte) (json.RawMessage, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, found := j.entries[task.Key()]
	if !found || !e.Done || e.Kind != kind || e.Input != digest(input) {
		return nil, false
	}
	return e.Out, true
}

// Begin writes that a task begins. The machine may be touched once it has returned without an error.
func (j *Journal) Begin(task node.Task, kind node.TaskKind, input []byte) error {
	return j.append(entry{Key: task.Key(), Kind: kind, Generation: task.Generation, Input: digest(input)})
}

// Finish writes that a task succeeded with this answer.
func (j *Journal) Finish(task node.Task, kind node.TaskKind, input, out []byte) error {
	return j.append(entry{Key: task.Key(), Kind: kind, Generation: task.Generation, Input: digest(input), Done: true, Out: out})
}

// Prune forgets the generations below the floor: the fence refuses them before the journal is asked.
func (j *Journal) Prune(floor int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rewrite(floor)
}

// Close ends writing.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}

func (j *Journal) append(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.order++
	e.Order = j.order
	line, err := seal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(line)
	if err := errors.Join(err, j.file.Sync()); err != nil {
		// What was written of the line is unknown, so the next one must not follow it.
		return errors.Join(fmt.Errorf("write the journal: %w", err), j.rewrite(0))
	}
	j.entries[e.Key] = e
	if j.written++; j.written > journalRewriteAfter {
		return j.rewrite(0)
	}
	return nil
}

// rewrite replaces the file by one with the newest entries at or above the floor, one line each.
func (j *Journal) rewrite(floor int64) error {
	var kept []entry
	for _, e := range j.entries {
		if e.Generation >= floor {
			kept = append(kept, e)
		}
	}
	slices.SortFunc(kept, func(a, b entry) int { return cmp.Compare(a.Order, b.Order) })
	kept = kept[max(0, len(kept)-journalKeeps):]
	var content []byte
	entries := make(map[string]entry, len(kept))
	for _, e := range kept {
		line, err := seal(e)
		if err != nil {
			return err
		}
		content, entries[e.Key] = append(content, line...), e
	}
	if err := durable.Replace(j.path, content); err != nil {
		return err
	}
	file, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	if j.file != nil {
		_ = j.file.Close() // it was synced at every line and is no longer the journal
	}
	j.file, j.entries, j.written = file, entries, len(kept)
	return nil
}

func digest(input []byte) string {
	sum := sha256.Sum256(input)
	return hex.EncodeToString(sum[:])
}
