-- name: UserHold
-- A user whom an operator is about to change, and whom no other operator changes meanwhile.
SELECT id, tenant_id, issuer, subject, username, kind, status, status_reason, status_at, created_at
FROM users
WHERE id = @id AND status <> 'erased'
FOR NO KEY UPDATE;

-- name: UserOfAll
SELECT id, tenant_id, issuer, subject, username, kind, status, status_reason, status_at, created_at
FROM users
WHERE id = @id AND status <> 'erased';

-- name: UserSetStatus
UPDATE users SET status = @status, status_reason = @reason, status_at = now() WHERE id = @id AND status = ANY (@from::text[]);

-- name: UserAwaited
SELECT EXISTS (SELECT FROM users WHERE issuer = @issuer AND username = @username AND awaited) AS awaited;

-- name: PlatformAdminPage
SELECT admin.user_id, users.username, admin.source, admin.granted_by, users.status, admin.created_at
FROM platform_admins AS admin JOIN users ON users.id = admin.user_id
WHERE (@before_id::text IS NULL OR (admin.created_at, admin.user_id) < (@before_time::timestamptz, @before_id::text))
ORDER BY admin.created_at DESC, admin.user_id DESC
LIMIT @limit;

-- name: PlatformAdminGet
SELECT admin.user_id, users.username, admin.source, admin.granted_by, users.status, admin.created_at
FROM platform_admins AS admin JOIN users ON users.id = admin.user_id
WHERE admin.user_id = @user_id;

-- name: PlatformAdminAppoint
-- Who came by the issuer's role stays now without it.
INSERT INTO platform_admins (user_id, source, granted_by) VALUES (@user_id, 'appointed', @granted_by)
ON CONFLICT (user_id) DO UPDATE SET source = 'appointed', granted_by = excluded.granted_by WHERE platform_admins.source = 'issuer';

-- name: PlatformAdminDismiss
DELETE FROM platform_admins WHERE user_id = @user_id AND source = 'appointed';
