package queries

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// ExportSection is one noun of what a tenant or a person has.
type ExportSection struct {
	Name      string
	statement string
}

// TenantSections lists everything that a tenant has.
func TenantSections() []ExportSection {
	return []ExportSection{
		{"tenant", "ExportTenantItself"}, {"users", "ExportTenantUsers"}, {"members", "ExportTenantMembers"}, {"projects", "ExportTenantProjects"},
		{"project_members", "ExportTenantProjectMembers"}, {"invitations", "ExportTenantInvitations"}, {"service_accounts", "ExportTenantServiceAccounts"},
		{"tokens", "ExportTenantTokens"}, {"ssh_keys", "ExportTenantSSHKeys"}, {"allocations", "ExportTenantAllocations"},
		{"allocation_transitions", "ExportTenantTransitions"}, {"accounts", "ExportTenantAccounts"}, {"ledger_entries", "ExportTenantLedger"},
		{"refunds_due", "ExportTenantRefunds"}, {"policies", "ExportTenantPolicies"}, {"prices", "ExportTenantPrices"}, {"audit", "ExportTenantAudit"},
		{"notifications", "ExportTenantNotifications"}, {"funds_crossings", "ExportTenantFundsCrossings"},
		{"project_budgets", "ExportTenantBudgets"}, {"budget_crossings", "ExportTenantBudgetCrossings"},
		{"payments", "ExportTenantPayments"}, {"refunds", "ExportTenantPaymentRefunds"}, {"disputes", "ExportTenantDisputes"},
		{"webhook_endpoints", "ExportTenantWebhooks"}, {"webhook_deliveries", "ExportTenantWebhookDeliveries"},
		{"webhook_attempts", "ExportTenantWebhookAttempts"},
		{"cards", "ExportTenantCards"}, {"auto_topups", "ExportTenantAutoTopUps"}, {"email_messages", "ExportTenantEmailMessages"},
	}
}

// UserSections lists everything that is about a person.
func UserSections() []ExportSection {
	return []ExportSection{
		{"user", "ExportUserItself"}, {"memberships", "ExportUserMemberships"}, {"tokens", "ExportUserTokens"}, {"ssh_keys", "ExportUserSSHKeys"},
		{"invitations", "ExportUserInvitations"}, {"allocations", "ExportUserAllocations"}, {"audit", "ExportUserAudit"},
		{"notification_reads", "ExportUserNotificationReads"}, {"email_preferences", "ExportUserEmailPreferences"}, {"email_messages", "ExportUserEmailMessages"},
	}
}

// ExportRow is one object, and the key that it stands at in its section.
type ExportRow struct {
	Key      string
	Document json.RawMessage
}

// ExportRows reads the rows of a section behind a key, empty for its beginning. Tenant or user is who the export is of.
func ExportRows(ctx context.Context, db DB, section ExportSection, tenant id.Tenant, user id.User, after string, limit int) ([]ExportRow, error) {
	return many[ExportRow](ctx, db, section.statement, pgx.NamedArgs{"tenant_id": tenant, "user_id": user, "after": after, "limit": limit})
}
