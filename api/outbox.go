package api

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// mostCounted bounds the counting of what waits.
const mostCounted = 100_000

type (
	outboxBody struct {
		Cursor        int64   `json:"cursor" doc:"Every row up to this id is published."`
		Sealed        int64   `json:"sealed" doc:"Every row up to this id is final and may be published."`
		Epoch         int64   `json:"epoch" doc:"Rises whenever another relay leads, or the cursor is put back."`
		Leader        string  `json:"leader,omitempty" doc:"The relay that publishes; absent when none does."`
		MovedAt       moment  `json:"moved_at" doc:"When the cursor was last moved."`
		Pending       int64   `json:"pending" doc:"How many events wait, counted up to 100000."`
		PendingSince  *moment `json:"pending_since,omitempty" doc:"When the oldest of them was written."`
		OldestPending int64   `json:"lag_ms" doc:"How long it has waited, in milliseconds; 0 when nothing waits."`
	}
	outboxOut      struct{ Body outboxBody }
	rewindOutboxIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Since  time.Time `json:"since" doc:"Everything that was written at or after this instant is published again."`
			Reason string    `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
)

func (s *server) outboxOperations() {
	handle(s, "getOutbox", s.getOutbox)
	handle(s, "rewindOutbox", s.rewindOutbox)
}

func (s *server) getOutbox(ctx context.Context, _ *struct{}) (*outboxOut, error) {
	at, err := queries.OutboxRelay(ctx, s.config.Pool)
	if err != nil {
		return nil, err
	}
	pending, err := queries.OutboxPending(ctx, s.config.Pool, at.CursorID, mostCounted)
	if err != nil {
		return nil, err
	}
	body := outboxBody{Cursor: at.CursorID, Sealed: at.SealedID, Epoch: at.Epoch, MovedAt: moment(at.MovedAt), Pending: pending.Events, PendingSince: maybe(pending.Since)}
	if at.Leads() {
		body.Leader = at.Leader
	}
	if pending.Since != nil {
		body.OldestPending = max(at.Now.Sub(*pending.Since).Milliseconds(), 0)
	}
	return &outboxOut{Body: body}, nil
}

// rewindOutbox puts the cursor back. Whoever leads is deposed by it, so that its next move is refused.
func (s *server) rewindOutbox(ctx context.Context, in *rewindOutboxIn) (*outboxOut, error) {
	row := &queries.Audit{Action: "outbox.rewind", TargetType: "outbox", TargetID: "outbox", Details: map[string]any{"reason": in.Body.Reason, "since": moment(in.Body.Since)}}
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		at, err := queries.LockOutboxRelay(ctx, tx)
		if err != nil {
			return err
		}
		to, found, err := queries.OutboxBefore(ctx, tx, in.Body.Since, at.CursorID)
		if err != nil {
			return err
		}
		if !found {
			return fault.New(fault.OutboxUnchanged, "")
		}
		row.Details["from_id"], row.Details["to_id"] = at.CursorID, to
		return queries.RewindOutbox(ctx, tx, to)
	})
	if err != nil {
		return nil, err
	}
	return s.getOutbox(ctx, nil)
}

// bus is NATS, or fault.ServiceUnavailable where this API has none.
func (s *server) bus() (letterBox, error) {
	if s.config.Letters == nil {
		return nil, fault.New(fault.ServiceUnavailable, "The event bus is not configured here.")
	}
	return s.config.Letters, nil
}

// orAway turns a NATS that cannot be reached into the fault that says so.
func orAway(err, away error) error {
	if errors.Is(err, away) {
		return fault.Wrap(err, fault.ServiceUnavailable, "The event bus cannot be reached at the moment.")
	}
	return err
}
