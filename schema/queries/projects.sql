-- name: ProjectPage
SELECT id, tenant_id, name, is_default, archived_at, created_at
FROM projects
WHERE tenant_id = @tenant_id
  AND (@project_id::text IS NULL OR id = @project_id)
  AND (@include_archived::boolean OR archived_at IS NULL)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: ProjectRename
UPDATE projects SET name = @name WHERE id = @id AND tenant_id = @tenant_id;

-- name: ProjectArchive
UPDATE projects SET archived_at = now() WHERE id = @id AND tenant_id = @tenant_id AND archived_at IS NULL;

-- name: ProjectMemberGet
SELECT member.user_id, users.username, member.role, member.created_at
FROM project_members AS member JOIN users ON users.id = member.user_id
WHERE member.tenant_id = @tenant_id AND member.project_id = @project_id AND member.user_id = @user_id;

-- name: ProjectMemberPage
SELECT member.user_id, users.username, member.role, member.created_at
FROM project_members AS member JOIN users ON users.id = member.user_id
WHERE member.tenant_id = @tenant_id AND member.project_id = @project_id
  AND (@before_id::text IS NULL OR (member.created_at, member.user_id) < (@before_time::timestamptz, @before_id::text))
ORDER BY member.created_at DESC, member.user_id DESC
LIMIT @limit;

-- name: ProjectMemberPut
INSERT INTO project_members (tenant_id, project_id, user_id, role) VALUES (@tenant_id, @project_id, @user_id, @role)
ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role;

-- name: ProjectMemberDelete
DELETE FROM project_members WHERE tenant_id = @tenant_id AND project_id = @project_id AND user_id = @user_id;

-- name: ProjectMemberRevokeInvitations
-- What somebody offered in a project ends with their own role in it.
UPDATE tenant_invitations SET revoked_at = now()
WHERE tenant_id = @tenant_id AND project_id = @project_id AND invited_by = @user_id AND accepted_at IS NULL AND revoked_at IS NULL;

-- name: ProjectMemberElsewhere
-- Whether somebody belongs to the tenant already, to all of it or to any project of it.
SELECT EXISTS (SELECT FROM tenant_members WHERE tenant_id = @tenant_id AND user_id = @user_id)
  OR EXISTS (SELECT FROM project_members WHERE tenant_id = @tenant_id AND user_id = @user_id) AS belongs;
