-- What a tenant or a person has, section by section, each in the order of its key. Secrets and their hashes are no part of it.

-- name: ExportTenantItself
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, kind, org_id, name, status, status_reason, status_at, erase_at, created_at FROM tenants WHERE id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantMembers
SELECT user_id AS key, to_jsonb(t) AS document
FROM (SELECT member.user_id, users.username, member.role, member.source, member.created_at
  FROM tenant_members AS member JOIN users ON users.id = member.user_id WHERE member.tenant_id = @tenant_id) AS t
WHERE user_id > @after ORDER BY user_id LIMIT @limit;

-- name: ExportTenantUsers
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, issuer, subject, username, kind, status, status_reason, status_at, org_id, email, email_verified, created_at FROM users WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantProjects
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, name, is_default, archived_at, created_at FROM projects WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantProjectMembers
SELECT project_id || '/' || user_id AS key, to_jsonb(t) AS document
FROM (SELECT project_id, user_id, role, created_at FROM project_members WHERE tenant_id = @tenant_id) AS t
WHERE project_id || '/' || user_id > @after ORDER BY project_id || '/' || user_id LIMIT @limit;

-- name: ExportTenantInvitations
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, project_id, role, email, note, invited_by, created_at, expires_at, revoked_at, accepted_at, accepted_by
  FROM tenant_invitations WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantServiceAccounts
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT user_id AS id, project_id, name, created_by, created_at, disabled_at FROM service_accounts WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantTokens
-- Those of its service accounts, and of its members.
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, kind, user_id, name, scopes, created_by, created_at, expires_at, last_used_at, revoked_at FROM credentials
  WHERE user_id IN (SELECT user_id FROM service_accounts WHERE tenant_id = @tenant_id UNION SELECT user_id FROM tenant_members WHERE tenant_id = @tenant_id)) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantSSHKeys
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, project_id, user_id, name, public_key, fingerprint, created_at FROM ssh_keys WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantAllocations
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, project_id, user_id, account_id, currency, name, labels, ssh_keys, sku_id, price_id, rate_micros_per_hour, window_seconds, isolation_model,
    state, version, node_id, generation, username, ssh_host, ssh_port, ssh_host_key, metered_from, metered_to, suspended_at, release_cause, failure_code,
    failure_message, certificate, correlation_id, created_at, updated_at, ended_at
  FROM allocations WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantTransitions
SELECT allocation_id || '/' || lpad(version::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (SELECT allocation_id, version, from_state, to_state, at, actor_id, actor_role, reason, node_id, correlation_id
  FROM allocation_transitions WHERE tenant_id = @tenant_id) AS t
WHERE allocation_id || '/' || lpad(version::text, 19, '0') > @after ORDER BY allocation_id || '/' || lpad(version::text, 19, '0') LIMIT @limit;

-- name: ExportTenantAccounts
SELECT id AS key, to_jsonb(t) AS document FROM (SELECT id, currency, created_at FROM accounts WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantLedger
-- Amounts as the tenant's account sees them: negative where it was charged.
SELECT lpad(id::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (
  SELECT entry.id, entry.kind, entry.currency, CASE WHEN entry.debit_account_id = account.id THEN -entry.amount_micros ELSE entry.amount_micros END AS amount_micros,
    account.id AS account_id, entry.allocation_id, entry.period_start, entry.period_end, entry.reverses_id, entry.created_at
  FROM accounts AS account, LATERAL (
    (SELECT * FROM ledger_entries WHERE debit_account_id = account.id AND id > coalesce(nullif(@after, ''), '0')::bigint ORDER BY id LIMIT @limit)
    UNION ALL
    (SELECT * FROM ledger_entries WHERE credit_account_id = account.id AND id > coalesce(nullif(@after, ''), '0')::bigint ORDER BY id LIMIT @limit)
  ) AS entry
  WHERE account.tenant_id = @tenant_id
) AS t
ORDER BY id LIMIT @limit;

-- name: ExportTenantRefunds
SELECT lpad(entry_id::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (SELECT entry_id, account_id, currency, amount_micros, reason, created_at FROM refunds_due WHERE tenant_id = @tenant_id) AS t
WHERE lpad(entry_id::text, 19, '0') > @after ORDER BY entry_id LIMIT @limit;

-- name: ExportTenantPolicies
SELECT t.key || '/' || lpad(version::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (SELECT key, version, value, reason, actor_user_id, created_at FROM tenant_policy_values WHERE tenant_id = @tenant_id) AS t
WHERE t.key || '/' || lpad(version::text, 19, '0') > @after ORDER BY t.key || '/' || lpad(version::text, 19, '0') LIMIT @limit;

-- name: ExportTenantPrices
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, sku_id, currency, rate_micros_per_hour, valid_from, withdrawn, created_at FROM sku_prices WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantAudit
SELECT lpad(id::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (SELECT id, actor_user_id, actor_role, action, target_type, target_id, result, details, correlation_id, created_at
  FROM audit_logs WHERE tenant_id = @tenant_id) AS t
WHERE id > coalesce(nullif(@after, ''), '0')::bigint ORDER BY id LIMIT @limit;

-- name: ExportUserItself
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, tenant_id, issuer, subject, username, kind, status, status_reason, status_at, org_id, email, email_verified, created_at
  FROM users WHERE id = @user_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportUserMemberships
SELECT place AS key, to_jsonb(t) AS document
FROM (
  SELECT tenant_id AS place, tenant_id, NULL AS project_id, role, source, created_at FROM tenant_members WHERE user_id = @user_id
  UNION ALL
  SELECT project_id, tenant_id, project_id, role, NULL, created_at FROM project_members WHERE user_id = @user_id
) AS t
WHERE place > @after ORDER BY place LIMIT @limit;

-- name: ExportUserTokens
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, kind, name, scopes, created_by, created_at, expires_at, last_used_at, revoked_at FROM credentials WHERE user_id = @user_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportUserSSHKeys
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, tenant_id, project_id, name, public_key, fingerprint, created_at FROM ssh_keys WHERE user_id = @user_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportUserInvitations
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, tenant_id, project_id, role, email, note, invited_by, accepted_by, created_at, expires_at, revoked_at, accepted_at
  FROM tenant_invitations WHERE invited_by = @user_id OR accepted_by = @user_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportUserAllocations
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, tenant_id, project_id, name, labels, ssh_keys, sku_id, state, created_at, ended_at FROM allocations WHERE user_id = @user_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportUserAudit
-- What they did, and what was done about them.
SELECT lpad(id::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (SELECT id, tenant_id, actor_user_id, actor_role, action, target_type, target_id, result, details, correlation_id, created_at
  FROM audit_logs WHERE actor_user_id = @user_id OR (target_type = 'user' AND target_id = @user_id)) AS t
WHERE id > coalesce(nullif(@after, ''), '0')::bigint ORDER BY id LIMIT @limit;

-- name: ExportTenantNotifications
SELECT lpad(id::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (SELECT id, event_id, event_type, audience, project_id, user_id, event, created_at FROM notifications
  WHERE tenant_id = @tenant_id AND id > coalesce(nullif(@after, ''), '0')::bigint ORDER BY id LIMIT @limit) AS t
ORDER BY id;

-- name: ExportUserNotificationReads
SELECT lpad(notification_id::text, 19, '0') AS key, to_jsonb(t) AS document
FROM (SELECT notification_id, read_at FROM notification_reads
  WHERE user_id = @user_id AND notification_id > coalesce(nullif(@after, ''), '0')::bigint ORDER BY notification_id LIMIT @limit) AS t
ORDER BY notification_id;

-- name: ExportTenantFundsCrossings
SELECT key, to_jsonb(t) - 'key' AS document
FROM (SELECT rung || '/' || lpad(crossing::text, 19, '0') || '/' || fact AS key, account_id, rung, crossing, fact, at, deadline, balance_micros, available_micros,
    late_ms, written_off_micros FROM funds_crossings WHERE tenant_id = @tenant_id) AS t
WHERE key > @after ORDER BY key LIMIT @limit;

-- name: ExportTenantBudgets
SELECT key, to_jsonb(t) - 'key' AS document
FROM (SELECT project_id || '/' || lpad(version::text, 19, '0') AS key, project_id, version, amount_micros, period, warning_percent, actor_user_id, created_at
  FROM project_budgets WHERE tenant_id = @tenant_id) AS t
WHERE key > @after ORDER BY key LIMIT @limit;

-- name: ExportTenantBudgetCrossings
SELECT key, to_jsonb(t) - 'key' AS document
FROM (SELECT project_id || '/' || lpad(version::text, 19, '0') || '/' || period_start || '/' || rung AS key, project_id, version, period_start, rung, at, spent_micros
  FROM budget_crossings WHERE tenant_id = @tenant_id) AS t
WHERE key > @after ORDER BY key LIMIT @limit;

-- name: ExportTenantPayments
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, account_id, user_id, method, currency, amount_micros, state, state_reason, entry_id, expires_at, credited_at, created_at
  FROM payments WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantPaymentRefunds
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, payment_id, account_id, user_id, currency, amount_micros, reason, state, failure_reason, entry_id, outcome_entry_id, returned_entry_id, created_at, ended_at
  FROM refunds WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantDisputes
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, payment_id, account_id, currency, amount_micros, reason, state, withdrawn_entry_id, outcome_entry_id, evidence_due_at, created_at, closed_at
  FROM disputes WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantWebhooks
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, url, description, event_types, previous_expires_at, disabled_at, disabled_because, failures, failing_since, created_by, created_at, updated_at,
    deleted_at FROM webhook_endpoints WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantWebhookDeliveries
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, endpoint_id, event_id, event_type, body, test, state, round, attempts, created_at, ended_at FROM webhook_deliveries WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantWebhookAttempts
SELECT key, to_jsonb(t) - 'key' AS document
FROM (SELECT delivery_id || '/' || lpad(round::text, 10, '0') || '/' || lpad(number::text, 10, '0') AS key, delivery_id, round, number, outcome, status_code,
    latency_ms, detail, response, started_at FROM webhook_attempts WHERE tenant_id = @tenant_id) AS t
WHERE key > @after ORDER BY key LIMIT @limit;

-- name: ExportTenantCards
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, account_id, user_id, state, brand, last4, exp_month, exp_year, expires_at, saved_at, gone_at, created_at
  FROM cards WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportTenantAutoTopUps
SELECT account_id AS key, to_jsonb(t) AS document
FROM (SELECT account_id, user_id, enabled, threshold_micros, amount_micros, monthly_cap_micros, failures, retry_at, paused_at, paused_reason, updated_at
  FROM auto_topups WHERE tenant_id = @tenant_id) AS t
WHERE account_id > @after ORDER BY account_id LIMIT @limit;

-- name: ExportUserEmailPreferences
SELECT category AS key, to_jsonb(t) AS document
FROM (SELECT category, enabled, updated_at FROM email_preferences WHERE user_id = @user_id) AS t
WHERE category > @after ORDER BY category LIMIT @limit;

-- name: ExportTenantEmailMessages
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, event_id, kind, user_id, invitation_id, state, detail, attempts, created_at, ended_at FROM email_messages WHERE tenant_id = @tenant_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;

-- name: ExportUserEmailMessages
SELECT id AS key, to_jsonb(t) AS document
FROM (SELECT id, tenant_id, event_id, kind, state, detail, attempts, created_at, ended_at FROM email_messages WHERE user_id = @user_id) AS t
WHERE id > @after ORDER BY id LIMIT @limit;
