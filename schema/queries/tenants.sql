-- name: TenantGet
SELECT id, kind, coalesce(org_id, '') AS org_id, name, status, status_reason, status_at, erase_at, erased_at, created_at FROM tenants WHERE id = @id;

-- name: TenantHold
-- Changes of a tenant and of its members take turns.
SELECT id, kind, coalesce(org_id, '') AS org_id, name, status, status_reason, status_at, erase_at, erased_at, created_at FROM tenants WHERE id = @id FOR NO KEY UPDATE;

-- name: TenantPage
-- All tenants, or those that a user belongs to.
SELECT id, kind, coalesce(org_id, '') AS org_id, name, status, status_reason, status_at, erase_at, erased_at, created_at
FROM tenants
WHERE (@user_id::text IS NULL OR id IN (SELECT tenant_id FROM tenant_members WHERE user_id = @user_id UNION SELECT tenant_id FROM project_members WHERE user_id = @user_id))
  AND (@name::text IS NULL OR name = @name)
  AND (@org_id::text IS NULL OR org_id = @org_id)
  AND (@status::text IS NULL OR status = @status)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: TenantRename
UPDATE tenants SET name = @name WHERE id = @id;

-- name: TenantSetStatus
UPDATE tenants SET status = @status, status_reason = @reason, status_at = now() WHERE id = @id AND status = @from;

-- name: MemberGet
SELECT member.user_id, users.username, member.role, member.source, member.created_at,
  member.source = 'organisation' AND users.org_id = coalesce(tenants.org_id, '') AS managed
FROM tenant_members AS member JOIN users ON users.id = member.user_id JOIN tenants ON tenants.id = member.tenant_id
WHERE member.tenant_id = @tenant_id AND member.user_id = @user_id;

-- name: MemberPage
SELECT member.user_id, users.username, member.role, member.source, member.created_at,
  member.source = 'organisation' AND users.org_id = coalesce(tenants.org_id, '') AS managed
FROM tenant_members AS member JOIN users ON users.id = member.user_id JOIN tenants ON tenants.id = member.tenant_id
WHERE member.tenant_id = @tenant_id
  AND (@before_id::text IS NULL OR (member.created_at, member.user_id) < (@before_time::timestamptz, @before_id::text))
ORDER BY member.created_at DESC, member.user_id DESC
LIMIT @limit;

-- name: MemberSetRole
UPDATE tenant_members SET role = @role WHERE tenant_id = @tenant_id AND user_id = @user_id;

-- name: MemberPutOwner
INSERT INTO tenant_members (tenant_id, user_id, role, source) VALUES (@tenant_id, @user_id, 'owner', 'operator')
ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = 'owner';

-- name: MemberDelete
DELETE FROM tenant_members WHERE tenant_id = @tenant_id AND user_id = @user_id;

-- name: MemberDeleteFromProjects
DELETE FROM project_members WHERE tenant_id = @tenant_id AND user_id = @user_id;

-- name: MemberRevokeInvitations
-- What somebody offered in a tenant ends with their own place in it.
UPDATE tenant_invitations SET revoked_at = now()
WHERE tenant_id = @tenant_id AND invited_by = @user_id AND accepted_at IS NULL AND revoked_at IS NULL;
