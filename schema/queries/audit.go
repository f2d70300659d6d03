package queries

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/secret"
)

// Audit is one row of the audit log. Details hold ids and reasons, never personal data.
type Audit struct {
	// TenantID is empty for what concerns the platform alone.
	TenantID      string
	Actor         identity.Actor
	Action        string
	TargetType    string
	TargetID      string
	Refused       bool
	Details       map[string]any
	CorrelationID string
	// RequestID is that of the request whose change this row proves, once; empty for what no request asked for.
	RequestID string
}

// InsertAudit writes the row in the transaction of the change it tells of, its details without secrets.
func InsertAudit(ctx context.Context, db DB, row Audit) error {
	result := "success"
	if row.Refused {
		result = "refused"
	}
	details := secret.Details(row.Details)
	if details == nil {
		details = map[string]any{}
	}
	var tenant *string
	if row.TenantID != "" {
		tenant = &row.TenantID
	}
	var request *string
	if row.RequestID != "" {
		request = &row.RequestID
	}
	_, err := execute(ctx, db, "AuditInsert", pgx.NamedArgs{
		"tenant_id": tenant, "actor_user_id": row.Actor.ID, "actor_role": row.Actor.Role, "action": row.Action,
		"target_type": row.TargetType, "target_id": row.TargetID, "result": result, "details": details,
		"correlation_id": row.CorrelationID, "request_id": request,
	})
	return err
}

// AuditRecord is what a request did.
type AuditRecord struct {
	Details   json.RawMessage
	CreatedAt time.Time
}

// AuditOfRequest reads the row that a request's change wrote; pgx.ErrNoRows while the request changed nothing.
func AuditOfRequest(ctx context.Context, db DB, requestID string) (AuditRecord, error) {
	return one[AuditRecord](ctx, db, "AuditOfRequest", pgx.NamedArgs{"request_id": requestID})
}

// AuditRefused says whether an action on a target was refused before, so that a repeat is the same refusal.
func AuditRefused(ctx context.Context, db DB, action, targetType, targetID string) (bool, error) {
	row, err := one[struct{ Refused bool }](ctx, db, "AuditRefused", pgx.NamedArgs{"action": action, "target_type": targetType, "target_id": targetID})
	return row.Refused, err
}
