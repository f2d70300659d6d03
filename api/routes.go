package api

import (
	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// What a repeated X-Idempotency-Key does to an operation.
const (
	plain    = middleware.Unkeyed
	keyed    = middleware.Keyed
	derived  = middleware.KeyDerived
	required = middleware.KeyRequired
	ownKeys  = middleware.KeyOwn
)

// The budget that an operation draws on (docs/rate-limits.md).
const (
	unlimited = middleware.Unlimited
	general   = middleware.General
	financial = middleware.Financial
	overview  = middleware.AdminOverview
	anonymous = middleware.Anonymous
	webhooks  = middleware.Webhooks
)

// route is one line of the table: an operation, where it is, who may call it and how often.
type route struct {
	operation, method, path string
	rule                    rule
	class                   middleware.Class
	key                     middleware.Idempotency
	status                  int
}

// routes is every operation there is. One that is not here, or has no rule or no class here, does not start.
var routes = []route{
	{"getHealth", "GET", "/healthz", public(), unlimited, plain, 200},
	{"getReadiness", "GET", "/readyz", public(), unlimited, plain, 200},

	// What programs and browsers sign in by; see also signInPages.
	{"getResourceMetadata", "GET", "/.well-known/oauth-protected-resource", public(), anonymous, plain, 200},
	{"getSession", "GET", "/api/v1/auth/session", public(), anonymous, plain, 200},
	{"signOut", "POST", "/api/v1/auth/logout", public(), unlimited, plain, 204},
	{"logIn", "POST", "/api/v1/auth/login", public(), anonymous, plain, 200},
	{"refreshToken", "POST", "/api/v1/auth/token/refresh", public(), anonymous, plain, 200},

	{"getMe", "GET", "/api/v1/me", person(identity.ProfileRead), general, plain, 200},
	{"deleteMe", "DELETE", "/api/v1/me", person(identity.ProfileWrite), general, plain, 204},
	{"exportMe", "GET", "/api/v1/me/export", person(identity.ProfileRead), general, plain, 200},
	{"listUsers", "GET", "/api/v1/admin/users", operator(identity.PlatformRead).lookingInto(oneTenant), overview, plain, 200},
	{"createUser", "POST", "/api/v1/admin/users", operator(identity.PlatformWrite), general, keyed, 201},
	{"getUser", "GET", "/api/v1/admin/users/{user_id}", operator(identity.PlatformRead).lookingInto(aUser), overview, plain, 200},
	{"approveUser", "POST", "/api/v1/admin/users/{user_id}/approve", operator(identity.PlatformWrite), general, keyed, 200},
	{"suspendUser", "POST", "/api/v1/admin/users/{user_id}/suspend", operator(identity.PlatformWrite), general, keyed, 200},
	{"restoreUser", "POST", "/api/v1/admin/users/{user_id}/restore", operator(identity.PlatformWrite), general, keyed, 200},
	{"listPlatformAdmins", "GET", "/api/v1/admin/platform-admins", operator(identity.PlatformRead), overview, plain, 200},
	{"appointPlatformAdmin", "POST", "/api/v1/admin/platform-admins", operator(identity.PlatformWrite), general, keyed, 201},
	{"dismissPlatformAdmin", "POST", "/api/v1/admin/platform-admins/{user_id}/dismiss", operator(identity.PlatformWrite), general, keyed, 204},

	{"listTenants", "GET", "/api/v1/tenants", person(identity.ProfileRead), general, plain, 200},
	{"getTenant", "GET", "/api/v1/tenants/{tenant_id}", member(aTenant, identity.TenantRead), general, plain, 200},
	{"updateTenant", "PATCH", "/api/v1/tenants/{tenant_id}", member(aTenant, identity.TenantWrite), general, keyed, 200},
	{"listTenantMembers", "GET", "/api/v1/tenants/{tenant_id}/members", member(aTenant, identity.MembersRead), general, plain, 200},
	{"updateTenantMember", "PATCH", "/api/v1/tenants/{tenant_id}/members/{user_id}", member(aMember, identity.MembersWrite), general, keyed, 200},
	{"removeTenantMember", "DELETE", "/api/v1/tenants/{tenant_id}/members/{user_id}", member(aMember, identity.MembersWrite).orSelf().ending(), general, keyed, 204},
	{"exportTenant", "GET", "/api/v1/tenants/{tenant_id}/export", member(aTenant, identity.TenantOwn).ending().whenClosed(), general, plain, 200},
	{"closeTenant", "POST", "/api/v1/tenants/{tenant_id}/close", member(aTenant, identity.TenantOwn).whenClosed(), financial, keyed, 200},
	{"reopenTenant", "POST", "/api/v1/tenants/{tenant_id}/reopen", member(aTenant, identity.TenantOwn).whenClosed(), general, keyed, 200},
	{"adminCloseTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/close", operator(identity.PlatformWrite), financial, keyed, 200},
	{"adminReopenTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/reopen", operator(identity.PlatformWrite), general, keyed, 200},
	{"adminListTenants", "GET", "/api/v1/admin/tenants", operator(identity.PlatformRead), overview, plain, 200},
	{"createTenant", "POST", "/api/v1/admin/tenants", operator(identity.PlatformWrite), general, keyed, 201},
	{"adminGetTenant", "GET", "/api/v1/admin/tenants/{tenant_id}", operator(identity.PlatformRead).lookingInto(aTenant), overview, plain, 200},
	{"setTenantOwner", "POST", "/api/v1/admin/tenants/{tenant_id}/owners", operator(identity.PlatformWrite), general, keyed, 200},
	{"suspendTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/suspend", operator(identity.PlatformWrite), general, keyed, 200},
	{"restoreTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/restore", operator(identity.PlatformWrite), general, keyed, 200},
	{"listInvitations", "GET", "/api/v1/invitations", member(theTenant, identity.MembersRead), general, plain, 200},
	// Its answer holds a secret, so it is never stored: the token derives from the key instead.
	{"createInvitation", "POST", "/api/v1/invitations", member(theNamedPlace, identity.MembersWrite), general, derived, 201},
	{"revokeInvitation", "POST", "/api/v1/invitations/{invitation_id}/revoke", member(anInvitation, identity.MembersWrite).ending(), general, keyed, 200},
	{"listMyInvitations", "GET", "/api/v1/me/invitations", person(identity.ProfileRead), general, plain, 200},
	{"acceptMyInvitation", "POST", "/api/v1/me/invitations/{invitation_id}/accept", person(identity.ProfileWrite), general, keyed, 200},
	{"acceptInvitation", "POST", "/api/v1/invitations/accept", person(identity.ProfileWrite), general, keyed, 200},

	{"listProjects", "GET", "/api/v1/projects", member(theTenant, identity.ProjectsRead), general, plain, 200},
	{"createProject", "POST", "/api/v1/projects", member(theNamedTenant, identity.ProjectsWrite), general, keyed, 201},
	{"getProject", "GET", "/api/v1/projects/{project_id}", member(aProject, identity.ProjectsRead), general, plain, 200},
	{"updateProject", "PATCH", "/api/v1/projects/{project_id}", member(aProject, identity.ProjectsWrite), general, keyed, 200},
	{"getProjectBudget", "GET", "/api/v1/projects/{project_id}/budget", member(aProject, identity.BillingRead), general, plain, 200},
	{"putProjectBudget", "PUT", "/api/v1/projects/{project_id}/budget", member(aProject, identity.BillingWrite), general, keyed, 200},
	{"deleteProjectBudget", "DELETE", "/api/v1/projects/{project_id}/budget", member(aProject, identity.BillingWrite), general, keyed, 204},
	{"archiveProject", "DELETE", "/api/v1/projects/{project_id}", member(aProject, identity.ProjectsWrite).ending(), general, keyed, 200},
	{"listProjectMembers", "GET", "/api/v1/projects/{project_id}/members", member(aProject, identity.MembersRead), general, plain, 200},
	{"putProjectMember", "PUT", "/api/v1/projects/{project_id}/members/{user_id}", member(aProjectMember, identity.MembersWrite), general, keyed, 200},
	{"removeProjectMember", "DELETE", "/api/v1/projects/{project_id}/members/{user_id}", member(aProjectMember, identity.MembersWrite).orSelf().ending(), general, keyed, 204},

	// Its answer is a secret: nothing of it is kept, and each request gets a token of its own.
	{tokenExchange, "POST", "/api/v1/auth/token", public(), anonymous, plain, 200},
	// Answers that hold a secret are never stored: the secret derives from the key instead.
	{"createToken", "POST", "/api/v1/tokens", person(identity.ProfileWrite), general, derived, 201},
	{"listTokens", "GET", "/api/v1/tokens", person(identity.ProfileRead), general, plain, 200},
	{"revokeToken", "DELETE", "/api/v1/tokens/{token_id}", person(identity.ProfileWrite), general, keyed, 200},
	{"createServiceAccount", "POST", "/api/v1/service-accounts", member(theNamedPlace, identity.ServiceAccountsWrite), general, keyed, 201},
	{"listServiceAccounts", "GET", "/api/v1/service-accounts", member(theTenant, identity.ServiceAccountsRead), general, plain, 200},
	{"getServiceAccount", "GET", "/api/v1/service-accounts/{service_account_id}", member(aServiceAccount, identity.ServiceAccountsRead), general, plain, 200},
	{"updateServiceAccount", "PATCH", "/api/v1/service-accounts/{service_account_id}", member(aServiceAccount, identity.ServiceAccountsWrite).ending(), general, keyed, 200},
	{"createServiceAccountSecret", "POST", "/api/v1/service-accounts/{service_account_id}/secrets", member(aServiceAccount, identity.ServiceAccountsWrite), general, derived, 201},
	{"revokeServiceAccountSecret", "DELETE", "/api/v1/service-accounts/{service_account_id}/secrets/{secret_id}", member(aServiceAccount, identity.ServiceAccountsWrite).ending(), general, keyed, 200},
	{"createSSHKey", "POST", "/api/v1/ssh-keys", member(theProject, identity.KeysWrite), general, keyed, 201},
	{"listSSHKeys", "GET", "/api/v1/ssh-keys", member(theTenant, identity.KeysRead), general, plain, 200},
	{"deleteSSHKey", "DELETE", "/api/v1/ssh-keys/{ssh_key_id}", owner(anSSHKey, identity.KeysWrite), general, keyed, 200},

	{"listTenantAudit", "GET", "/api/v1/tenants/{tenant_id}/audit", member(aTenant, identity.AuditRead), general, plain, 200},
	{"listAudit", "GET", "/api/v1/admin/audit", operator(identity.PlatformRead).lookingInto(oneTenant), overview, plain, 200},
	{"getAllocationEvidence", "GET", "/api/v1/allocations/{allocation_id}/evidence", member(anAllocation, identity.AuditRead).orSelf(), general, plain, 200},
	{"listEvidenceKeys", "GET", "/api/v1/evidence/keys", public(), anonymous, plain, 200},

	{"listSkus", "GET", "/api/v1/skus", person(identity.CatalogRead), general, plain, 200},
	{"getSku", "GET", "/api/v1/skus/{sku}", person(identity.CatalogRead), general, plain, 200},
	{"putSku", "PUT", "/api/v1/admin/skus/{sku}", operator(identity.PlatformWrite), general, keyed, 200},
	{"listSkuPrices", "GET", "/api/v1/admin/skus/{sku}/prices", operator(identity.PlatformRead), overview, plain, 200},
	{"addSkuPrice", "POST", "/api/v1/admin/skus/{sku}/prices", operator(identity.PlatformWrite), general, keyed, 201},

	{"createAllocation", "POST", "/api/v1/allocations", member(theProject, identity.AllocationsWrite), general, ownKeys, 201},
	{"listAllocations", "GET", "/api/v1/allocations", member(theTenant, identity.AllocationsRead), general, plain, 200},
	{"getAllocation", "GET", "/api/v1/allocations/{allocation_id}", member(aBilledAllocation, identity.AllocationsRead), general, plain, 200},
	{"releaseAllocation", "POST", "/api/v1/allocations/{allocation_id}/release", owner(anAllocation, identity.AllocationsWrite).ending(), unlimited, keyed, 202},
	{"getAllocationTimeline", "GET", "/api/v1/allocations/{allocation_id}/timeline", member(anAllocation, identity.AllocationsRead), general, plain, 200},
	{"explainAllocation", "GET", "/api/v1/allocations/{allocation_id}/explain", member(anAllocation, identity.AllocationsRead), general, plain, 200},
	{"waitAllocation", "GET", "/api/v1/allocations/{allocation_id}/wait", member(anAllocation, identity.AllocationsRead), general, plain, 200},
	{"adminListAllocations", "GET", "/api/v1/admin/allocations", operator(identity.PlatformRead).lookingInto(oneTenant), overview, plain, 200},
	{"forceReleaseAllocation", "POST", "/api/v1/admin/allocations/{allocation_id}/force-release", operator(identity.PlatformWrite), unlimited, keyed, 202},

	{"getBalance", "GET", "/api/v1/billing/balance", member(theTenant, identity.BillingRead), unlimited, plain, 200},
	{"getRunway", "GET", "/api/v1/billing/runway", member(theTenant, identity.BillingRead), unlimited, plain, 200},
	{"listLedgerEntries", "GET", "/api/v1/billing/ledger", member(theTenant, identity.BillingRead), general, plain, 200},
	{"getUsage", "GET", "/api/v1/billing/usage", member(theTenant, identity.BillingRead), general, plain, 200},
	{"listStatements", "GET", "/api/v1/billing/statements", member(theTenant, identity.BillingRead), general, plain, 200},
	{"getStatement", "GET", "/api/v1/billing/statements/{month}", member(theTenant, identity.BillingRead), general, plain, 200},
	{"getStatementDocument", "GET", "/api/v1/billing/statements/{month}/document", member(theTenant, identity.BillingRead), general, plain, 200},
	{"listAccounts", "GET", "/api/v1/admin/accounts", operator(identity.PlatformRead).lookingInto(oneTenant), overview, plain, 200},
	{"verifyLedger", "GET", "/api/v1/admin/ledger/verification", operator(identity.PlatformRead), overview, plain, 200},
	{"getAccountBalance", "GET", "/api/v1/admin/accounts/{account_id}/balance", operator(identity.PlatformRead).lookingInto(anAccount), unlimited, plain, 200},
	{"listRefundsDue", "GET", "/api/v1/admin/refunds-due", operator(identity.PlatformRead), overview, plain, 200},
	{"createAdjustment", "POST", "/api/v1/admin/accounts/{account_id}/adjustments", operator(identity.PlatformWrite), financial, required, 201},

	{"createCheckout", "POST", "/api/v1/payments/checkout", member(theNamedTenant, identity.BillingWrite), financial, required, 201},
	{"listPayments", "GET", "/api/v1/payments", member(theTenant, identity.BillingRead), general, plain, 200},
	{"getPayment", "GET", "/api/v1/payments/{payment_id}", member(aPayment, identity.BillingRead), general, plain, 200},
	// It is signed over its exact bytes, and deduplicated by the event that it tells.
	{receiveWebhook, "POST", "/api/v1/payments/webhook", public(), webhooks, plain, 200},
	{"createRefund", "POST", "/api/v1/payments/{payment_id}/refunds", member(aPayment, identity.BillingWrite), financial, required, 201},
	{"getPaymentReceipt", "GET", "/api/v1/payments/{payment_id}/receipt", member(aPayment, identity.BillingRead), general, plain, 200},
	{"getPaymentReceiptDocument", "GET", "/api/v1/payments/{payment_id}/receipt/document", member(aPayment, identity.BillingRead), general, plain, 200},
	{"listRefunds", "GET", "/api/v1/refunds", member(theTenant, identity.BillingRead), general, plain, 200},
	{"getRefund", "GET", "/api/v1/refunds/{refund_id}", member(aRefund, identity.BillingRead), general, plain, 200},
	{"getRefundReceipt", "GET", "/api/v1/refunds/{refund_id}/receipt", member(aRefund, identity.BillingRead), general, plain, 200},
	{"getRefundReceiptDocument", "GET", "/api/v1/refunds/{refund_id}/receipt/document", member(aRefund, identity.BillingRead), general, plain, 200},
	{"createCard", "POST", "/api/v1/billing/card", member(theNamedTenant, identity.BillingWrite), financial, required, 201},
	{"getCard", "GET", "/api/v1/billing/card", member(theTenant, identity.BillingRead), general, plain, 200},
	{"deleteCard", "DELETE", "/api/v1/billing/card", member(theTenant, identity.BillingWrite).ending(), general, keyed, 204},
	{"getAutoTopUp", "GET", "/api/v1/billing/auto-topup", member(theTenant, identity.BillingRead), general, plain, 200},
	{"putAutoTopUp", "PUT", "/api/v1/billing/auto-topup", member(theTenant, identity.BillingWrite), general, keyed, 200},
	{"adminListPayments", "GET", "/api/v1/admin/payments", operator(identity.PlatformRead), overview, plain, 200},
	{"adminListDisputes", "GET", "/api/v1/admin/disputes", operator(identity.PlatformRead), overview, plain, 200},

	{"listNodes", "GET", "/api/v1/admin/nodes", operator(identity.PlatformRead), overview, plain, 200},
	// Its answer holds a secret, so it is never stored: the token derives from the key instead.
	{"createNodeEnrolToken", "POST", "/api/v1/admin/nodes/enrol-tokens", operator(identity.PlatformWrite), general, derived, 201},
	{"getNode", "GET", "/api/v1/admin/nodes/{node_id}", operator(identity.PlatformRead), overview, plain, 200},
	{"cordonNode", "POST", "/api/v1/admin/nodes/{node_id}/cordon", operator(identity.PlatformWrite), general, keyed, 200},
	{"uncordonNode", "POST", "/api/v1/admin/nodes/{node_id}/uncordon", operator(identity.PlatformWrite), general, keyed, 200},
	{"drainNode", "POST", "/api/v1/admin/nodes/{node_id}/drain", operator(identity.PlatformWrite), general, keyed, 200},
	{"quarantineNode", "POST", "/api/v1/admin/nodes/{node_id}/quarantine", operator(identity.PlatformWrite), general, keyed, 200},
	{"unquarantineNode", "POST", "/api/v1/admin/nodes/{node_id}/unquarantine", operator(identity.PlatformWrite), general, keyed, 200},
	{"denyNode", "POST", "/api/v1/admin/nodes/{node_id}/deny", operator(identity.PlatformWrite), general, keyed, 200},

	{"listNotifications", "GET", "/api/v1/notifications", person(identity.ProfileRead), general, plain, 200},
	{"readNotifications", "POST", "/api/v1/notifications/read", person(identity.ProfileWrite), general, keyed, 204},
	{"getNotificationPreferences", "GET", "/api/v1/me/notification-preferences", person(identity.ProfileRead), general, plain, 200},
	{"setNotificationPreferences", "PUT", "/api/v1/me/notification-preferences", person(identity.ProfileWrite), general, keyed, 200},

	// Answers that hold a secret are never stored: the secret derives from the key instead.
	{"createWebhook", "POST", "/api/v1/webhooks", member(theNamedTenant, identity.WebhooksWrite), general, derived, 201},
	{"listWebhooks", "GET", "/api/v1/webhooks", member(theTenant, identity.WebhooksRead), general, plain, 200},
	{"getWebhook", "GET", "/api/v1/webhooks/{webhook_id}", member(aWebhook, identity.WebhooksRead), general, plain, 200},
	{"updateWebhook", "PATCH", "/api/v1/webhooks/{webhook_id}", member(aWebhook, identity.WebhooksWrite), general, keyed, 200},
	{"deleteWebhook", "DELETE", "/api/v1/webhooks/{webhook_id}", member(aWebhook, identity.WebhooksWrite).ending(), general, keyed, 204},
	{"rotateWebhookSecret", "POST", "/api/v1/webhooks/{webhook_id}/secret", member(aWebhook, identity.WebhooksWrite), general, derived, 201},
	{"testWebhook", "POST", "/api/v1/webhooks/{webhook_id}/test", member(aWebhook, identity.WebhooksWrite), general, keyed, 201},
	{"listWebhookDeliveries", "GET", "/api/v1/webhooks/{webhook_id}/deliveries", member(aWebhook, identity.WebhooksRead), general, plain, 200},
	{"getWebhookDelivery", "GET", "/api/v1/webhook-deliveries/{delivery_id}", member(aDelivery, identity.WebhooksRead), general, plain, 200},
	{"redeliverWebhook", "POST", "/api/v1/webhook-deliveries/{delivery_id}/redeliver", member(aDelivery, identity.WebhooksWrite), general, keyed, 200},

	{"getOutbox", "GET", "/api/v1/admin/outbox", operator(identity.PlatformRead), overview, plain, 200},
	{"rewindOutbox", "POST", "/api/v1/admin/outbox/rewind", operator(identity.PlatformWrite), general, keyed, 200},
	{"listDeadLetters", "GET", "/api/v1/admin/dead-letters", operator(identity.PlatformRead), overview, plain, 200},
	{"getDeadLetter", "GET", "/api/v1/admin/dead-letters/{letter_id}", operator(identity.PlatformRead), overview, plain, 200},
	{"replayDeadLetter", "POST", "/api/v1/admin/dead-letters/{letter_id}/replay", operator(identity.PlatformWrite), general, keyed, 204},
	{"discardDeadLetter", "POST", "/api/v1/admin/dead-letters/{letter_id}/discard", operator(identity.PlatformWrite), general, keyed, 204},

	{"listReconciliations", "GET", "/api/v1/admin/reconciliation/runs", operator(identity.PlatformRead), overview, plain, 200},
	{"startReconciliation", "POST", "/api/v1/admin/reconciliation/runs", operator(identity.PlatformWrite), general, keyed, 201},
	{"getReconciliation", "GET", "/api/v1/admin/reconciliation/runs/{run_id}", operator(identity.PlatformRead), overview, plain, 200},
	{"listFindings", "GET", "/api/v1/admin/reconciliation/findings", operator(identity.PlatformRead), overview, plain, 200},
	{"getFinding", "GET", "/api/v1/admin/reconciliation/findings/{finding_id}", operator(identity.PlatformRead), overview, plain, 200},
	{"dismissFinding", "POST", "/api/v1/admin/reconciliation/findings/{finding_id}/dismiss", operator(identity.PlatformWrite), general, keyed, 200},
	{"resumeFinding", "POST", "/api/v1/admin/reconciliation/findings/{finding_id}/resume", operator(identity.PlatformWrite), general, keyed, 200},
	{"proposeCorrection", "POST", "/api/v1/admin/reconciliation/findings/{finding_id}/corrections", operator(identity.PlatformWrite), general, required, 201},
	{"approveCorrection", "POST", "/api/v1/admin/reconciliation/corrections/{correction_id}/approve", operator(identity.PlatformWrite), general, required, 200},

	{"listPolicies", "GET", "/api/v1/admin/policies", operator(identity.PlatformRead), overview, plain, 200},
	{"getPolicy", "GET", "/api/v1/admin/policies/{key}", operator(identity.PlatformRead), overview, plain, 200},
	{"setPolicy", "PUT", "/api/v1/admin/policies/{key}", operator(identity.PlatformWrite), general, keyed, 200},
	{"setPolicies", "PUT", "/api/v1/admin/policies", operator(identity.PlatformWrite), general, keyed, 200},
	{"listPolicyVersions", "GET", "/api/v1/admin/policies/{key}/history", operator(identity.PlatformRead), overview, plain, 200},
	{"rollbackPolicy", "POST", "/api/v1/admin/policies/{key}/rollback", operator(identity.PlatformWrite), general, keyed, 200},

	{"listTenantPolicies", "GET", "/api/v1/admin/tenants/{tenant_id}/policies", operator(identity.PlatformRead).lookingInto(aTenant), overview, plain, 200},
	{"setTenantPolicies", "PUT", "/api/v1/admin/tenants/{tenant_id}/policies", operator(identity.PlatformWrite), general, keyed, 200},
	{"listTenantPolicyVersions", "GET", "/api/v1/admin/tenants/{tenant_id}/policies/{key}/history", operator(identity.PlatformRead).lookingInto(aTenant), overview, plain, 200},
	{"listTenantPrices", "GET", "/api/v1/admin/tenants/{tenant_id}/prices", operator(identity.PlatformRead).lookingInto(aTenant), overview, plain, 200},
	{"setTenantPrice", "POST", "/api/v1/admin/tenants/{tenant_id}/prices", operator(identity.PlatformWrite), general, keyed, 201},
}
