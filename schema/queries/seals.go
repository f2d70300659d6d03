package queries

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// Relations that are sealed.
const (
	SealedLedger = "ledger_entries"
	SealedOutbox = "outbox"
)

// Observation is what a sealer sees at one moment: the highest visible ids, and the oldest transaction still running.
type Observation struct {
	LedgerID, OutboxID int64
	OldestRunning      uint64
}

// Observe looks at the sealed relations.
func Observe(ctx context.Context, db DB) (Observation, error) {
	row, err := one[struct {
		LedgerID, OutboxID int64
		OldestRunning      string
	}](ctx, db, "SealObserve")
	if err != nil {
		return Observation{}, err
	}
	oldest, err := strconv.ParseUint(row.OldestRunning, 10, 64)
	if err != nil {
		return Observation{}, fmt.Errorf("SealObserve: %w", err)
	}
	return Observation{LedgerID: row.LedgerID, OutboxID: row.OutboxID, OldestRunning: oldest}, nil
}

// NextTransactionID takes a transaction id of its own: it is higher than that of every transaction that had one before.
func NextTransactionID(ctx context.Context, db DB) (uint64, error) {
	var text string
	if err := db.QueryRow(ctx, statement("TransactionID").sql).Scan(&text); err != nil {
		return 0, fmt.Errorf("TransactionID: %w", err)
	}
	return strconv.ParseUint(text, 10, 64)
}

// InsertSeals records that every id up to these is final; lower than a known seal changes nothing.
func InsertSeals(ctx context.Context, db DB, ledgerID, outboxID int64) error {
	_, err := execute(ctx, db, "SealInsert", pgx.NamedArgs{"relations": []string{SealedLedger, SealedOutbox}, "sealed_ids": []int64{ledgerID, outboxID}})
	return err
}

// NewestSeal is the highest id of a relation up to which every id is final; zero before the first seal.
func NewestSeal(ctx context.Context, db DB, relation string) (int64, error) {
	row, err := one[struct{ SealedID int64 }](ctx, db, "SealNewest", pgx.NamedArgs{"relation": relation})
	return row.SealedID, err
}

// Tail is how many entries an account has that no checkpoint holds.
type Tail struct {
	AccountID id.Account
	Entries   int64
}

// Tails counts every account's sealed entries after its newest checkpoint.
func Tails(ctx context.Context, db DB, upToID int64) ([]Tail, error) {
	return many[Tail](ctx, db, "LedgerTails", pgx.NamedArgs{"up_to_id": upToID})
}

// Touched counts the entries each account got after one sealed id and up to another.
func Touched(ctx context.Context, db DB, afterID, upToID int64) ([]Tail, error) {
	return many[Tail](ctx, db, "LedgerTouched", pgx.NamedArgs{"after_id": afterID, "up_to_id": upToID})
}

// CutCheckpoints cuts a checkpoint for each account at a sealed id and says how many were cut.
func CutCheckpoints(ctx context.Context, db DB, accounts []id.Account, upToID int64) (int64, error) {
	return execute(ctx, db, "LedgerCutCheckpoints", pgx.NamedArgs{"account_ids": accounts, "up_to_id": upToID})
}

// ForgetOldMarks deletes seals and checkpoints of more than an hour ago that newer ones replace.
func ForgetOldMarks(ctx context.Context, db DB) error {
	if _, err := execute(ctx, db, "SealForget"); err != nil {
		return err
	}
	_, err := execute(ctx, db, "LedgerForgetCheckpoints")
	return err
}
