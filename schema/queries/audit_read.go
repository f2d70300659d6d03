package queries

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// AuditRow is one row of the audit log as it is read.
type AuditRow struct {
	ID int64
	// TenantID is empty for what concerns the platform alone.
	TenantID      id.Tenant
	ActorUserID   string
	ActorRole     string
	Action        string
	TargetType    string
	TargetID      string
	Result        string
	Details       json.RawMessage
	CorrelationID string
	CreatedAt     time.Time
}

// AuditSearch selects a page of the audit log, newest first. Empty fields do not filter; an empty TenantID is for operators
// alone. Since is inclusive and Until is not. BeforeTime and BeforeID are the last row of the page before.
type AuditSearch struct {
	TenantID    id.Tenant
	ActorUserID string
	Action      string
	TargetType  string
	TargetID    string
	Result      string
	Since       time.Time
	Until       time.Time
	BeforeTime  time.Time
	BeforeID    int64
	Limit       int
}

// SearchAudit reads one page.
func SearchAudit(ctx context.Context, db DB, search AuditSearch) ([]AuditRow, error) {
	var before *int64
	if search.BeforeID > 0 {
		before = &search.BeforeID
	}
	return many[AuditRow](ctx, db, "AuditPage", pgx.NamedArgs{
		"tenant_id": optional(search.TenantID), "actor_user_id": optional(search.ActorUserID), "action": optional(search.Action),
		"target_type": optional(search.TargetType), "target_id": optional(search.TargetID), "result": optional(search.Result),
		"since": optionalTime(search.Since), "until": optionalTime(search.Until), "before_id": before, "before_time": search.BeforeTime, "limit": search.Limit,
	})
}

// AuditOfTarget reads all that a tenant's audit log tells of one object, oldest first.
func AuditOfTarget(ctx context.Context, db DB, tenant id.Tenant, targetType, targetID string) ([]AuditRow, error) {
	return many[AuditRow](ctx, db, "AuditOfTarget", pgx.NamedArgs{"tenant_id": tenant, "target_type": targetType, "target_id": targetID})
}

func optionalTime(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
