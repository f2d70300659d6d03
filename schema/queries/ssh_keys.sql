-- name: SSHKeyInsert
INSERT INTO ssh_keys (id, tenant_id, project_id, user_id, name, public_key, fingerprint, created_at)
VALUES (@id, @tenant_id, @project_id, @user_id, @name, @public_key, @fingerprint, @created_at)
ON CONFLICT (project_id, fingerprint) DO NOTHING;

-- name: SSHKeyGet
-- Whose a key is: asked before anything is known of the caller's right to it.
SELECT id, tenant_id, project_id, user_id, name, public_key, fingerprint, created_at FROM ssh_keys WHERE id = @id;

-- name: SSHKeyPage
SELECT id, tenant_id, project_id, user_id, name, public_key, fingerprint, created_at
FROM ssh_keys
WHERE tenant_id = @tenant_id AND (@project_id::text IS NULL OR project_id = @project_id)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: SSHKeysByID
SELECT id, tenant_id, project_id, user_id, name, public_key, fingerprint, created_at
FROM ssh_keys WHERE tenant_id = @tenant_id AND project_id = @project_id AND id = ANY (@ids::text[]);

-- name: SSHKeyDelete
DELETE FROM ssh_keys WHERE id = @id AND tenant_id = @tenant_id;
