package api

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// change makes a privileged change once for its request, in one transaction with the audit row that proves it. A repeat whose first
// request lost its answer changes nothing; its caller reads what is there now. do may add to the row.
func (s *server) change(ctx context.Context, row *queries.Audit, do func(ctx context.Context, tx pgx.Tx) error) error {
	if _, made, err := s.changed(ctx); err != nil || made {
		return err
	}
	row.Actor, row.CorrelationID, row.RequestID = middleware.Principal(ctx).Actor(), telemetry.Correlation(ctx), middleware.RequestOf(ctx).ID
	return store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if err := do(ctx, tx); err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, *row)
	})
}

// orMissing turns "no such row" into the fault that says what is missing.
func orMissing(err error, missing fault.Code) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(missing, "")
	}
	return err
}

// orRefused turns the database's refusal to break a constraint into the fault that says so.
func orRefused(err error, refusals map[string]fault.Code) error {
	for constraint, code := range refusals {
		if queries.Violates(err, constraint) {
			return fault.New(code, "")
		}
	}
	return err
}
