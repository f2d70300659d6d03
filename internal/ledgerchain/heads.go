package ledgerchain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gpuaas/gpuaas/domain/hashchain"
	"github.com/gpuaas/gpuaas/internal/evidence"
)

// keepInterval is how often a head is kept at most; a minute of heads fills half a megabyte a day.
const keepInterval = time.Minute

// Heads keeps signed heads of the chain in files outside the database, a line each and a file a day: whoever rewrites the
// chain in the database cannot rewrite what was signed before.
type Heads struct {
	directory string
	keys      *evidence.Keys

	mutex  sync.Mutex
	number int64
	at     time.Time
}

// NewHeads keeps heads in a directory, which is made when it is missing.
func NewHeads(directory string, keys *evidence.Keys) (*Heads, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the ledger's heads: %w", err)
	}
	return &Heads{directory: directory, keys: keys}, nil
}

// Keep signs a head and adds it to the file of its day, unless it is the one kept last or that was a moment ago.
func (h *Heads) Keep(ctx context.Context, head hashchain.Head) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if head.Number == h.number || head.At.Sub(h.at) < keepInterval {
		return nil
	}
	envelope, err := h.keys.SealHead(ctx, head)
	if err != nil {
		return err
	}
	line, err := json.Marshal(envelope)
	if err != nil {
		return fmt.Errorf("encode a head of the ledger: %w", err)
	}
	name := filepath.Join(h.directory, "ledger-heads-"+head.At.Format(time.DateOnly)+".jsonl")
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the operator's own directory
	if err != nil {
		return fmt.Errorf("keep a head of the ledger: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("keep a head of the ledger: %w", err)
	}
	h.number, h.at = head.Number, head.At
	return nil
}
