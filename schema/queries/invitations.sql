-- name: InvitationInsert
INSERT INTO tenant_invitations (id, tenant_id, project_id, role, email, note, token_hash, invited_by, expires_at)
VALUES (@id, @tenant_id, @project_id, @role, @email, @note, @token_hash, @invited_by, @expires_at);

-- name: InvitationGet
-- Whose an invitation is: asked before anything is known of the caller's right to it.
SELECT id, tenant_id, coalesce(project_id, '') AS project_id, role, email, note, invited_by, created_at, expires_at, revoked_at, accepted_at, coalesce(accepted_by, '') AS accepted_by
FROM tenant_invitations
WHERE id = @id;

-- name: InvitationByToken
SELECT id, tenant_id, coalesce(project_id, '') AS project_id, role, email, note, invited_by, created_at, expires_at, revoked_at, accepted_at, coalesce(accepted_by, '') AS accepted_by
FROM tenant_invitations
WHERE token_hash = @token_hash;

-- name: InvitationByTokenHold
-- Of two who accept at once the second waits and finds it used.
SELECT id, tenant_id, coalesce(project_id, '') AS project_id, role, email, note, invited_by, created_at, expires_at, revoked_at, accepted_at, coalesce(accepted_by, '') AS accepted_by
FROM tenant_invitations
WHERE token_hash = @token_hash
FOR NO KEY UPDATE;

-- name: InvitationPage
SELECT id, tenant_id, coalesce(project_id, '') AS project_id, role, email, note, invited_by, created_at, expires_at, revoked_at, accepted_at, coalesce(accepted_by, '') AS accepted_by
FROM tenant_invitations
WHERE tenant_id = @tenant_id
  AND (@project_id::text IS NULL OR project_id = @project_id)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: InvitationRevoke
UPDATE tenant_invitations SET revoked_at = now() WHERE id = @id AND tenant_id = @tenant_id AND accepted_at IS NULL AND revoked_at IS NULL;

-- name: InvitationAccept
UPDATE tenant_invitations SET accepted_at = now(), accepted_by = @user_id WHERE id = @id AND tenant_id = @tenant_id AND accepted_at IS NULL AND revoked_at IS NULL;

-- name: InvitationHold
-- Of two who accept at once the second waits and finds it used.
SELECT id, tenant_id, coalesce(project_id, '') AS project_id, role, email, note, invited_by, created_at, expires_at, revoked_at, accepted_at, coalesce(accepted_by, '') AS accepted_by
FROM tenant_invitations
WHERE id = @id AND tenant_id = @tenant_id
FOR NO KEY UPDATE;

-- name: InvitationsOfAddress
-- Of all tenants: what waits for whoever has an address.
SELECT invitation.id, invitation.tenant_id, tenants.name AS tenant_name, coalesce(invitation.project_id, '') AS project_id, coalesce(projects.name, '') AS project_name,
  invitation.role, invitation.note, inviter.username AS inviter, invitation.created_at, invitation.expires_at
FROM tenant_invitations AS invitation
JOIN tenants ON tenants.id = invitation.tenant_id
JOIN users AS inviter ON inviter.id = invitation.invited_by
LEFT JOIN projects ON projects.id = invitation.project_id AND projects.tenant_id = invitation.tenant_id
WHERE lower(invitation.email) = lower(@email) AND invitation.email <> '' AND invitation.accepted_at IS NULL AND invitation.revoked_at IS NULL
  AND invitation.expires_at > @now AND tenants.status = 'active' AND projects.archived_at IS NULL
  AND (@before_id::text IS NULL OR (invitation.created_at, invitation.id) < (@before_time::timestamptz, @before_id::text))
ORDER BY invitation.created_at DESC, invitation.id DESC
LIMIT @row_limit;
