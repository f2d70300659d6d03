-- name: UserPage
SELECT id, tenant_id, issuer, subject, username, kind, status, status_reason, status_at, created_at
FROM users
WHERE status <> 'erased'
  AND (@username::text IS NULL OR username = @username)
  AND (@status::text IS NULL OR status = @status)
  AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id
    OR EXISTS (SELECT FROM tenant_members AS member WHERE member.user_id = users.id AND member.tenant_id = @tenant_id))
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: AccountPage
SELECT id, tenant_id, currency, created_at
FROM accounts
WHERE kind = 'tenant'
  AND (@username::text IS NULL OR tenant_id IN (SELECT tenant_id FROM users WHERE username = @username))
  AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: ProjectTenant
-- Whose a project is: asked before anything is known of the caller's right to it.
SELECT tenant_id FROM projects WHERE id = @id;
