-- name: ServiceAccountUserInsert
INSERT INTO users (id, tenant_id, issuer, subject, username, kind) VALUES (@id, @tenant_id, 'gpuaas', @id, @name, 'service');

-- name: ServiceAccountInsert
INSERT INTO service_accounts (user_id, tenant_id, project_id, name, created_by) VALUES (@user_id, @tenant_id, @project_id, @name, @created_by)
ON CONFLICT (tenant_id, name) DO NOTHING;

-- name: ServiceAccountGet
-- Whose a service account is: asked before anything is known of the caller's right to it.
SELECT account.user_id, account.tenant_id, coalesce(account.project_id, '') AS project_id, account.name, account.created_by, account.created_at,
  account.disabled_at,
  coalesce((SELECT role FROM project_members WHERE user_id = account.user_id AND project_id = account.project_id),
    (SELECT role FROM tenant_members WHERE user_id = account.user_id AND tenant_id = account.tenant_id), '') AS role
FROM service_accounts AS account
WHERE account.user_id = @user_id;

-- name: ServiceAccountPage
SELECT account.user_id, account.tenant_id, coalesce(account.project_id, '') AS project_id, account.name, account.created_by, account.created_at,
  account.disabled_at,
  coalesce((SELECT role FROM project_members WHERE user_id = account.user_id AND project_id = account.project_id),
    (SELECT role FROM tenant_members WHERE user_id = account.user_id AND tenant_id = account.tenant_id), '') AS role
FROM service_accounts AS account
WHERE account.tenant_id = @tenant_id AND (@project_id::text IS NULL OR account.project_id = @project_id)
  AND (@before_id::text IS NULL OR (account.created_at, account.user_id) < (@before_time::timestamptz, @before_id::text))
ORDER BY account.created_at DESC, account.user_id DESC
LIMIT @limit;

-- name: ServiceAccountDisable
UPDATE service_accounts SET disabled_at = @at
WHERE user_id = @user_id AND tenant_id = @tenant_id AND (disabled_at IS NULL) <> (@at::timestamptz IS NULL);

-- name: ServiceAccountLock
-- Secrets of one account are made one after the other.
SELECT user_id FROM service_accounts WHERE user_id = @user_id AND tenant_id = @tenant_id FOR NO KEY UPDATE;
