package queries

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/hashchain"
)

// LedgerBlock is one block of the chain as it stands.
type LedgerBlock struct {
	Number    int64
	AfterID   int64
	UpToID    int64
	Entries   int64
	Encoding  int
	Previous  []byte `db:"previous_sha256"`
	SHA256    []byte `db:"sha256"`
	CreatedAt time.Time
}

// NewestLedgerBlock reads the end of the chain; nil before the first block.
func NewestLedgerBlock(ctx context.Context, db DB) (*LedgerBlock, error) {
	block, err := one[LedgerBlock](ctx, db, "LedgerBlockNewest")
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &block, err
}

// LedgerBlocks reads blocks in their order, from a number on.
func LedgerBlocks(ctx context.Context, db DB, from int64, limit int) ([]LedgerBlock, error) {
	return many[LedgerBlock](ctx, db, "LedgerBlocks", pgx.NamedArgs{"from_number": from, "limit": limit})
}

// InsertLedgerBlock adds a block; false where its number is taken.
func InsertLedgerBlock(ctx context.Context, db DB, block LedgerBlock) (bool, error) {
	inserted, err := execute(ctx, db, "LedgerBlockInsert", pgx.NamedArgs{
		"number": block.Number, "after_id": block.AfterID, "up_to_id": block.UpToID, "entries": block.Entries, "encoding": block.Encoding,
		"previous_sha256": block.Previous, "sha256": block.SHA256,
	})
	return inserted == 1, err
}

// HashedEntries reads entries behind an id and up to another, as the chain hashes them.
func HashedEntries(ctx context.Context, db DB, after, upTo int64, limit int) ([]hashchain.Entry, error) {
	return many[hashchain.Entry](ctx, db, "LedgerHashed", pgx.NamedArgs{"after_id": after, "up_to_id": upTo, "limit": limit})
}

// UnderivedEntry is the first entry behind an id and up to another whose generated columns do not follow from the written ones; nil when all do.
func UnderivedEntry(ctx context.Context, db DB, after, upTo int64) (*int64, error) {
	row, err := one[struct{ ID *int64 }](ctx, db, "LedgerUnderived", pgx.NamedArgs{"after_id": after, "up_to_id": upTo})
	return row.ID, err
}

// Behind is how many entries lie behind an id, and the highest of them; zero when there are none.
type Behind struct {
	UpToID  int64
	Entries int64
}

// LedgerBehind counts the entries behind an id, sealed or not.
func LedgerBehind(ctx context.Context, db DB, after int64) (Behind, error) {
	return one[Behind](ctx, db, "LedgerHighest", pgx.NamedArgs{"after_id": after})
}
