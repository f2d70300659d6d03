-- name: EmailAddressOf
SELECT email, email_verified FROM users WHERE id = @user_id;

-- name: EmailPreferencesOf
SELECT category, enabled FROM email_preferences WHERE user_id = @user_id;

-- name: EmailPreferencesForget
-- Those that are on again: no row is on.
DELETE FROM email_preferences WHERE user_id = @user_id AND NOT category = ANY (@off::text[]);

-- name: EmailPreferencesOff
INSERT INTO email_preferences (user_id, category, enabled) SELECT DISTINCT @user_id, category, false FROM unnest(@off::text[]) AS category
ON CONFLICT (user_id, category) DO UPDATE SET enabled = false, updated_at = clock_timestamp() WHERE email_preferences.enabled;

-- name: EmailRecipients
-- Who in a tenant holds one of these roles and may be written to: whom the issuer no longer counts among the organisation is none of them.
SELECT users.id, users.email, users.email_verified,
  EXISTS (SELECT FROM email_preferences AS wish WHERE wish.user_id = users.id AND wish.category = @category AND NOT wish.enabled) AS off
FROM tenant_members AS member JOIN users ON users.id = member.user_id JOIN tenants ON tenants.id = member.tenant_id
WHERE member.tenant_id = @tenant_id AND member.role = ANY (@roles::text[]) AND users.kind = 'person' AND users.status = 'active'
  AND (member.source <> 'organisation' OR users.org_id = tenants.org_id)
ORDER BY users.id;

-- name: EmailOwner
-- Whose something in a tenant is, if it is a person who still belongs to it.
SELECT users.id, users.email, users.email_verified,
  EXISTS (SELECT FROM email_preferences AS wish WHERE wish.user_id = users.id AND wish.category = @category AND NOT wish.enabled) AS off
FROM users
WHERE users.id = @user_id AND users.kind = 'person' AND users.status = 'active'
  AND (EXISTS (SELECT FROM tenant_members AS member WHERE member.user_id = users.id AND member.tenant_id = @tenant_id)
    OR EXISTS (SELECT FROM project_members AS member WHERE member.user_id = users.id AND member.tenant_id = @tenant_id));

-- name: EmailUnwanted
-- Whether somebody whose verified address this is wants no mail of a category.
SELECT EXISTS (SELECT FROM users JOIN email_preferences AS wish ON wish.user_id = users.id
  WHERE lower(users.email) = lower(@email) AND users.email_verified AND wish.category = @category AND NOT wish.enabled) AS unwanted;

-- name: EmailMessageInsert
INSERT INTO email_messages (id, tenant_id, event_id, kind, user_id, invitation_id, payload, state, detail, ended_at)
VALUES (@id, @tenant_id, @event_id, @kind, @user_id, @invitation_id, @payload, @state, @detail, CASE WHEN @state <> 'pending' THEN clock_timestamp() END)
ON CONFLICT (id) DO NOTHING;

-- name: EmailMessageGet
SELECT id, tenant_id, event_id::text AS event_id, kind, coalesce(user_id, '') AS user_id, coalesce(invitation_id, '') AS invitation_id, payload, state, detail,
  attempts, next_attempt_at, created_at
FROM email_messages WHERE id = @id;

-- name: EmailMessageMove
-- What came of an attempt. One that was written down before stays as it was.
UPDATE email_messages SET state = @state, detail = @detail, attempts = @attempts, next_attempt_at = @next_attempt_at,
  payload = CASE WHEN @state = 'pending' THEN payload END, ended_at = CASE WHEN @state <> 'pending' THEN clock_timestamp() END
WHERE id = @id AND tenant_id = @tenant_id AND state = 'pending' AND attempts < @attempts;

-- name: EmailMessageEnd
-- That nothing was attempted, and nothing will be.
UPDATE email_messages SET state = @state, detail = @detail, next_attempt_at = NULL, payload = NULL, ended_at = clock_timestamp()
WHERE id = @id AND tenant_id = @tenant_id AND state = 'pending';

-- name: EmailMessagesNotBegun
-- Of all tenants, oldest first.
SELECT id, tenant_id, kind FROM email_messages WHERE state = 'pending' AND begun_at IS NULL ORDER BY created_at LIMIT @row_limit;

-- name: EmailMessageBegun
UPDATE email_messages SET begun_at = clock_timestamp() WHERE id = @id AND tenant_id = @tenant_id AND begun_at IS NULL;

-- name: EmailMessagesPurge
-- Those of an installation that sends no mail were never begun.
DELETE FROM email_messages WHERE id IN (
  SELECT id FROM email_messages WHERE created_at < now() - @keep::interval AND (ended_at IS NOT NULL OR begun_at IS NULL) LIMIT @row_limit);
