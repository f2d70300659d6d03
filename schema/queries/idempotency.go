package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// IdempotencyKey names one request of one principal: the same key on another operation is another request.
type IdempotencyKey struct {
	TenantID    id.Tenant
	PrincipalID string
	Operation   string
	Key         string
}

func (k IdempotencyKey) arguments() pgx.NamedArgs {
	return pgx.NamedArgs{"tenant_id": k.TenantID, "principal_id": k.PrincipalID, "operation": k.Operation, "key": k.Key}
}

// IdempotencyRecord is what was asked and answered under a key. Status is nil while the work is in flight.
type IdempotencyRecord struct {
	RequestHash []byte
	Status      *int
	Headers     map[string]string
	Answer      []byte
	AskedAt     time.Time
	// ExpiresAt is when the key is free again, be the record gone by then or not.
	ExpiresAt time.Time
}

// ClaimIdempotency writes the record of a request whose work begins, over one that has expired at askedAt; false when the key was used
// before. It waits for a transaction that is claiming the same key. askedAt is kept to the millisecond; lockedUntil says from when on
// the work may be taken over.
func ClaimIdempotency(ctx context.Context, db DB, key IdempotencyKey, requestHash []byte, askedAt, lockedUntil, expiresAt time.Time) (bool, error) {
	arguments := key.arguments()
	arguments["request_hash"], arguments["asked_at"], arguments["locked_until"], arguments["expires_at"] = requestHash, askedAt, lockedUntil, expiresAt
	inserted, err := execute(ctx, db, "IdempotencyClaim", arguments)
	return inserted == 1, err
}

// TakeOverIdempotency claims work whose lock ran out without an answer; false when it did not, or somebody was faster.
func TakeOverIdempotency(ctx context.Context, db DB, key IdempotencyKey, requestHash []byte, lockedUntil time.Time) (bool, error) {
	arguments := key.arguments()
	arguments["request_hash"], arguments["locked_until"] = requestHash, lockedUntil
	taken, err := execute(ctx, db, "IdempotencyTakeOver", arguments)
	return taken == 1, err
}

// GetIdempotency reads a record; pgx.ErrNoRows when the key was never used.
func GetIdempotency(ctx context.Context, db DB, key IdempotencyKey) (IdempotencyRecord, error) {
	return one[IdempotencyRecord](ctx, db, "IdempotencyGet", key.arguments())
}

// FinishIdempotency stores the answer that every repeat gets; false when there is no record in flight.
func FinishIdempotency(ctx context.Context, db DB, key IdempotencyKey, status int, headers map[string]string, answer []byte) (bool, error) {
	if headers == nil {
		headers = map[string]string{}
	}
	arguments := key.arguments()
	arguments["status"], arguments["headers"], arguments["answer"] = status, headers, answer
	finished, err := execute(ctx, db, "IdempotencyFinish", arguments)
	return finished == 1, err
}

// AbandonIdempotency forgets work that did nothing, so that a repeat begins anew; it leaves a record alone that
// somebody else holds by now. lockedUntil is what the record was claimed with, in whole milliseconds.
func AbandonIdempotency(ctx context.Context, db DB, key IdempotencyKey, lockedUntil time.Time) error {
	arguments := key.arguments()
	arguments["locked_until"] = lockedUntil
	_, err := execute(ctx, db, "IdempotencyAbandon", arguments)
	return err
}

// LeaveIdempotency lets the next repeat take over work that may have been done and has no answer, at once.
func LeaveIdempotency(ctx context.Context, db DB, key IdempotencyKey, lockedUntil time.Time) error {
	arguments := key.arguments()
	arguments["locked_until"] = lockedUntil
	_, err := execute(ctx, db, "IdempotencyLeave", arguments)
	return err
}

// PurgeIdempotency removes up to limit records past their retention and says how many.
func PurgeIdempotency(ctx context.Context, db DB, limit int) (int64, error) {
	return execute(ctx, db, "IdempotencyPurge", pgx.NamedArgs{"limit": limit})
}
