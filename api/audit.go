package api

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// AuditSearch is the part of a query that narrows the audit log.
type AuditSearch struct {
	Paging
	ActorUserID string    `query:"actor_user_id" maxLength:"100" doc:"Only what this user, service account or node did."`
	Action      string    `query:"action" maxLength:"100"`
	TargetType  string    `query:"target_type" maxLength:"100"`
	TargetID    string    `query:"target_id" maxLength:"200"`
	Result      string    `query:"result" enum:"success,refused"`
	Since       time.Time `query:"since" doc:"From this instant on."`
	Until       time.Time `query:"until" doc:"Before this instant."`
}

type auditRowBody struct {
	ID            int64     `json:"id"`
	TenantID      id.Tenant `json:"tenant_id,omitempty" doc:"Absent for what concerns the platform alone."`
	ActorUserID   string    `json:"actor_user_id"`
	ActorRole     string    `json:"actor_role"`
	Action        string    `json:"action"`
	TargetType    string    `json:"target_type"`
	TargetID      string    `json:"target_id"`
	Result        string    `json:"result" enum:"success,refused"`
	Details       freeForm  `json:"details"`
	CorrelationID string    `json:"correlation_id"`
	CreatedAt     moment    `json:"created_at"`
}

type (
	tenantAuditIn struct {
		AuditSearch
		TenantID id.Tenant `path:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	}
	adminAuditIn struct {
		AuditSearch
		TenantID id.Tenant `query:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$" doc:"Only this tenant's."`
	}
	auditListOut struct{ Body list[auditRowBody] }
)

func (s *server) auditOperations() {
	handle(s, "listTenantAudit", s.listTenantAudit)
	handle(s, "listAudit", s.listAudit)
	handle(s, "getAllocationEvidence", s.getAllocationEvidence)
	handle(s, "listEvidenceKeys", s.listEvidenceKeys)
}

func (s *server) listTenantAudit(ctx context.Context, in *tenantAuditIn) (*auditListOut, error) {
	return s.auditOfTenant(ctx, middleware.At(ctx).TenantID, in.AuditSearch)
}

func (s *server) listAudit(ctx context.Context, in *adminAuditIn) (*auditListOut, error) {
	return s.auditOfTenant(ctx, in.TenantID, in.AuditSearch)
}

// auditOfTenant searches a tenant's rows; those of all tenants, and the platform's own, when tenant is empty.
func (s *server) auditOfTenant(ctx context.Context, tenant id.Tenant, in AuditSearch) (*auditListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	search := queries.AuditSearch{
		TenantID: tenant, ActorUserID: in.ActorUserID, Action: in.Action, TargetType: in.TargetType, TargetID: in.TargetID, Result: in.Result,
		Since: in.Since, Until: in.Until, BeforeTime: from.Time, Limit: in.fetch(),
	}
	if from.ID != "" {
		if search.BeforeID, err = strconv.ParseInt(from.ID, 10, 64); err != nil {
			return nil, invalid("query.cursor", "the cursor is not one that a page of the audit log answered")
		}
	}
	rows, err := queries.SearchAudit(ctx, s.config.Pool, search)
	if err != nil {
		return nil, err
	}
	return &auditListOut{Body: paged(in.Paging, rows,
		func(row queries.AuditRow) after { return after{row.CreatedAt, strconv.FormatInt(row.ID, 10)} }, renderAudit)}, nil
}

func renderAudit(row queries.AuditRow) auditRowBody {
	details := freeForm{}
	_ = json.Unmarshal(row.Details, &details) // the database holds an object
	return auditRowBody{
		ID: row.ID, TenantID: row.TenantID, ActorUserID: row.ActorUserID, ActorRole: row.ActorRole, Action: row.Action, TargetType: row.TargetType,
		TargetID: row.TargetID, Result: row.Result, Details: details, CorrelationID: row.CorrelationID, CreatedAt: moment(row.CreatedAt),
	}
}
