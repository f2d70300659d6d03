package queries

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// RelayTerm is what a relay begins with when it leads.
type RelayTerm struct {
	Epoch    int64
	CursorID int64
}

// LeadOutbox begins an epoch for a leader; false while somebody else leads.
func LeadOutbox(ctx context.Context, db DB, leader string, lease time.Duration) (RelayTerm, bool, error) {
	terms, err := many[RelayTerm](ctx, db, "OutboxLead", pgx.NamedArgs{"leader": leader, "lease": lease})
	if err != nil || len(terms) == 0 {
		return RelayTerm{}, false, err
	}
	return terms[0], true, nil
}

// KeepOutboxLead prolongs an epoch; false when it is over.
func KeepOutboxLead(ctx context.Context, db DB, epoch int64, lease time.Duration) (bool, error) {
	kept, err := execute(ctx, db, "OutboxKeepLead", pgx.NamedArgs{"epoch": epoch, "lease": lease})
	return kept == 1, err
}

// ResignOutbox lets another relay lead at once.
func ResignOutbox(ctx context.Context, db DB, epoch int64) error {
	_, err := execute(ctx, db, "OutboxResign", pgx.NamedArgs{"epoch": epoch})
	return err
}

// SealedRow is a row of the outbox that is final.
type SealedRow struct {
	ID          int64
	Stream      string
	Subject     string
	MsgID       string
	AggregateID string
	Payload     json.RawMessage
	CreatedAt   time.Time
}

// ReadOutbox reads the sealed rows behind an id, in the order of their ids.
func ReadOutbox(ctx context.Context, db DB, after int64, limit int) ([]SealedRow, error) {
	return many[SealedRow](ctx, db, "OutboxRead", pgx.NamedArgs{"after_id": after, "limit": limit})
}

// MoveOutboxCursor moves the cursor under an epoch and prolongs it; false when the epoch is over or the cursor lies elsewhere.
func MoveOutboxCursor(ctx context.Context, db DB, epoch, from, to int64, lease time.Duration) (bool, error) {
	moved, err := execute(ctx, db, "OutboxMoveCursor", pgx.NamedArgs{"epoch": epoch, "from_id": from, "to_id": to, "lease": lease})
	return moved == 1, err
}

// Relay is where publishing stands. LeadsUntil, MovedAt and Now are the database's time.
type Relay struct {
	CursorID   int64
	Epoch      int64
	Leader     string
	LeadsUntil time.Time
	MovedAt    time.Time
	Now        time.Time
	SealedID   int64
}

// Leads says whether somebody leads.
func (r Relay) Leads() bool { return r.LeadsUntil.After(r.Now) }

// OutboxRelay reads where publishing stands.
func OutboxRelay(ctx context.Context, db DB) (Relay, error) {
	return one[Relay](ctx, db, "OutboxRelay")
}

// LockOutboxRelay reads it, and holds it where it is until the transaction ends.
func LockOutboxRelay(ctx context.Context, db DB) (Relay, error) {
	return one[Relay](ctx, db, "OutboxRelayLock")
}

// Pending is what waits to be published, and the instant at which the oldest of it was written; nil when nothing waits.
type Pending struct {
	Events int64
	Since  *time.Time
}

// OutboxPending counts what waits behind an id, up to a limit.
func OutboxPending(ctx context.Context, db DB, after, limit int64) (Pending, error) {
	return one[Pending](ctx, db, "OutboxPending", pgx.NamedArgs{"after_id": after, "limit": limit})
}

// OutboxBefore is the id below the first row that was written at or after an instant, among the rows up to another id; false where
// there is none.
func OutboxBefore(ctx context.Context, db DB, since time.Time, upTo int64) (int64, bool, error) {
	row, err := one[struct{ ID int64 }](ctx, db, "OutboxBefore", pgx.NamedArgs{"since": since, "up_to_id": upTo})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return row.ID, err == nil, err
}

// RewindOutbox puts the cursor back and ends the epoch of whoever leads.
func RewindOutbox(ctx context.Context, db DB, to int64) error {
	_, err := execute(ctx, db, "OutboxRewind", pgx.NamedArgs{"to_id": to})
	return err
}

// DropOutboxPartitions removes the days that are older than keep, which is at least 24 hours, and published to their last row.
func DropOutboxPartitions(ctx context.Context, db DB, keep time.Duration) (dropped int, err error) {
	row, err := one[struct{ Dropped int }](ctx, db, "OutboxDropPartitions", pgx.NamedArgs{"keep": keep})
	return row.Dropped, err
}
