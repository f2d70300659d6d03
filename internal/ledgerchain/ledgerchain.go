// Package ledgerchain keeps the hash chain over the ledger: it cuts blocks of sealed entries, keeps signed heads outside the
// database, and verifies both. What a block's hash is, domain/hashchain says. It imports domain, schema/queries and
// internal/evidence.
package ledgerchain

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/hashchain"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	// mostEntries bounds a block, so that a broken one says something about where.
	mostEntries = 10_000
	// readAtOnce is how many entries are in memory at a time.
	readAtOnce = 1_000
	// cutInterval is how often a block is cut while there are new entries; an altered entry younger than that goes unnoticed.
	cutInterval = 10 * time.Second
)

// Chain is the chain of one database. Two may cut at once: one of them cuts each block.
type Chain struct {
	pool  *pgxpool.Pool
	heads *Heads
	log   *slog.Logger
	// most is how many entries a block holds at most.
	most int
}

// New makes one; heads may be nil where none are kept.
func New(pool *pgxpool.Pool, heads *Heads, log *slog.Logger) *Chain {
	return &Chain{pool: pool, heads: heads, log: log, most: mostEntries}
}

// Run cuts blocks and keeps heads until ctx ends. A database that is away is tried again.
func (c *Chain) Run(ctx context.Context) error {
	tick := time.NewTicker(cutInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := c.Cut(ctx); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "the ledger's chain had trouble and goes on", "error", err.Error())
			}
		}
	}
}

// Cut cuts blocks until every sealed entry lies in one, and keeps the head.
func (c *Chain) Cut(ctx context.Context) error {
	for {
		cut, err := c.cutOne(ctx)
		if err != nil {
			return err
		}
		if !cut {
			return c.keepHead(ctx)
		}
	}
}

// cutOne cuts the next block; false when nothing sealed is left. What it reads is final, so it needs no transaction around it, and
// one that writes would keep the ledger from being sealed while it reads. Whoever finds the number taken goes on behind it.
func (c *Chain) cutOne(ctx context.Context) (cut bool, err error) {
	sealed, err := queries.NewestSeal(ctx, c.pool, queries.SealedLedger)
	if err != nil {
		return false, err
	}
	next, err := nextBlock(ctx, c.pool)
	if err != nil || sealed <= next.AfterID {
		return false, err
	}
	hasher := hashchain.NewHasher()
	if err := add(ctx, c.pool, hasher, next.AfterID, sealed, c.most); err != nil || hasher.Entries == 0 {
		return false, err
	}
	next.UpToID, next.Entries = hasher.Last, hasher.Entries
	sum := hasher.Sum(next)
	_, err = queries.InsertLedgerBlock(ctx, c.pool, queries.LedgerBlock{
		Number: next.Number, AfterID: next.AfterID, UpToID: next.UpToID, Entries: next.Entries, Encoding: hashchain.Encoding,
		Previous: next.Previous[:], SHA256: sum[:],
	})
	return err == nil, err
}

// nextBlock is the header of the block that follows the newest, without its end.
func nextBlock(ctx context.Context, db queries.DB) (hashchain.Block, error) {
	newest, err := queries.NewestLedgerBlock(ctx, db)
	if err != nil || newest == nil {
		return hashchain.Block{Number: 1}, err
	}
	return following(*newest), nil
}

func following(block queries.LedgerBlock) hashchain.Block {
	next := hashchain.Block{Number: block.Number + 1, AfterID: block.UpToID}
	copy(next.Previous[:], block.SHA256)
	return next
}

// add gives the hasher the entries behind one id and up to another, at most a number of them.
func add(ctx context.Context, db queries.DB, hasher *hashchain.Hasher, after, upTo int64, most int) error {
	for most > 0 {
		entries, err := queries.HashedEntries(ctx, db, after, upTo, min(most, readAtOnce))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			hasher.Add(entry)
			after = entry.ID
		}
		if most -= len(entries); len(entries) < readAtOnce {
			return nil
		}
	}
	return nil
}

func (c *Chain) keepHead(ctx context.Context) error {
	if c.heads == nil {
		return nil
	}
	newest, err := queries.NewestLedgerBlock(ctx, c.pool)
	if err != nil || newest == nil {
		return err
	}
	return c.heads.Keep(ctx, HeadOf(*newest, time.Now()))
}

// HeadOf is a block as the head of its chain at an instant.
func HeadOf(block queries.LedgerBlock, at time.Time) hashchain.Head {
	var sum hashchain.Hash
	copy(sum[:], block.SHA256)
	return hashchain.Head{Number: block.Number, UpToID: block.UpToID, SHA256: sum.String(), Encoding: block.Encoding, At: at.UTC().Truncate(time.Millisecond)}
}

// Broken is a block that does not hold, and why.
type Broken struct {
	Number int64
	Reason string
}

// Verified is what a verification found out about a stretch of the chain.
type Verified struct {
	// Blocks are those that were recomputed, with the hashes that stand; Entries counts what lies in them.
	Blocks  []queries.LedgerBlock
	Entries int64
	Broken  []Broken
	// Next is the block to go on with; zero at the end of the chain. Uncovered is what lies behind the end.
	Next      int64
	Uncovered queries.Behind
}

// Verify recomputes at most limit blocks from a number on, and holds each to the one before it. The blocks it reads are a
// statement apart from their entries: neither ever changes.
func (c *Chain) Verify(ctx context.Context, from int64, limit int) (Verified, error) {
	var found Verified
	expected := hashchain.Block{Number: from}
	if from > 1 {
		before, err := queries.LedgerBlocks(ctx, c.pool, from-1, 1)
		if err != nil {
			return found, err
		}
		if len(before) == 1 && before[0].Number == from-1 {
			expected = following(before[0])
		} else {
			found.Broken = append(found.Broken, Broken{from - 1, "The block is missing."})
		}
	}
	blocks, err := queries.LedgerBlocks(ctx, c.pool, from, limit)
	if err != nil {
		return found, err
	}
	for _, block := range blocks {
		reason, entries, err := c.verifyOne(ctx, expected, block)
		if err != nil {
			return found, err
		}
		if reason != "" {
			found.Broken = append(found.Broken, Broken{block.Number, reason})
		}
		found.Entries += entries
		expected = following(block)
	}
	found.Blocks = blocks
	if len(blocks) == limit {
		found.Next = blocks[limit-1].Number + 1
	}
	found.Uncovered, err = queries.LedgerBehind(ctx, c.pool, expected.AfterID)
	return found, err
}

// verifyOne answers why a block does not hold, or nothing.
func (c *Chain) verifyOne(ctx context.Context, expected hashchain.Block, block queries.LedgerBlock) (reason string, entries int64, err error) {
	switch {
	case block.Number != expected.Number:
		return fmt.Sprintf("The blocks from %d to %d are missing.", expected.Number, block.Number-1), 0, nil
	case block.Encoding != hashchain.Encoding:
		return fmt.Sprintf("Its encoding is %d, which this version does not know.", block.Encoding), 0, nil
	case block.AfterID != expected.AfterID || !bytes.Equal(block.Previous, expected.Previous[:]):
		return "It does not continue the block before it.", 0, nil
	}
	hasher := hashchain.NewHasher()
	if err := add(ctx, c.pool, hasher, block.AfterID, block.UpToID, int(block.UpToID-block.AfterID)); err != nil {
		return "", 0, err
	}
	expected.UpToID, expected.Entries = block.UpToID, block.Entries
	switch sum := hasher.Sum(expected); {
	case hasher.Entries != block.Entries:
		return fmt.Sprintf("It was cut over %d entries, and %d stand there.", block.Entries, hasher.Entries), hasher.Entries, nil
	case !bytes.Equal(sum[:], block.SHA256):
		return fmt.Sprintf("An entry with an id above %d and up to %d was altered, or the block was.", block.AfterID, block.UpToID), hasher.Entries, nil
	}
	// What Postgres generated is not hashed, and constraints hang on it.
	underived, err := queries.UnderivedEntry(ctx, c.pool, block.AfterID, block.UpToID)
	if err != nil || underived == nil {
		return "", hasher.Entries, err
	}
	return fmt.Sprintf("What Postgres made from the columns of entry %d does not follow from them: it was altered.", *underived), hasher.Entries, nil
}
