-- name: TenantClose
UPDATE tenants SET status = 'closed', status_reason = @reason, status_at = now(), erase_at = @erase_at WHERE id = @tenant_id AND status = 'active';

-- name: TenantReopen
UPDATE tenants SET status = 'active', status_reason = @reason, status_at = now(), erase_at = NULL
WHERE id = @tenant_id AND status = 'closed' AND erased_at IS NULL;

-- name: TenantInUse
SELECT EXISTS (SELECT FROM allocations WHERE tenant_id = @tenant_id AND state NOT IN ('released', 'failed')) AS in_use;

-- name: ClosingRevokeInvitations
UPDATE tenant_invitations SET revoked_at = now() WHERE tenant_id = @tenant_id AND accepted_at IS NULL AND revoked_at IS NULL;

-- name: ClosingDisableServiceAccounts
UPDATE service_accounts SET disabled_at = now() WHERE tenant_id = @tenant_id AND disabled_at IS NULL;

-- name: ClosingRevokeCredentials
UPDATE credentials SET revoked_at = now() WHERE user_id = ANY (@user_ids::text[]) AND revoked_at IS NULL;

-- name: ClosingPeople
-- Who belongs to this tenant and to no other: they go with it. Whoever operates the platform stays.
SELECT id FROM users
WHERE status <> 'erased' AND (tenant_id = @tenant_id
    OR EXISTS (SELECT FROM tenant_members AS member WHERE member.user_id = users.id AND member.tenant_id = @tenant_id)
    OR EXISTS (SELECT FROM project_members AS member WHERE member.user_id = users.id AND member.tenant_id = @tenant_id))
  AND NOT EXISTS (SELECT FROM tenant_members AS member WHERE member.user_id = users.id AND member.tenant_id <> @tenant_id)
  AND NOT EXISTS (SELECT FROM project_members AS member WHERE member.user_id = users.id AND member.tenant_id <> @tenant_id)
  AND NOT EXISTS (SELECT FROM platform_admins WHERE user_id = users.id)
ORDER BY id;

-- name: RefundDueInsert
INSERT INTO refunds_due (entry_id, tenant_id, account_id, currency, amount_micros, reason)
VALUES (@entry_id, @tenant_id, @account_id, @currency, @amount_micros, @reason);

-- name: RefundDuePage
-- Of all tenants, for operators.
SELECT entry_id, tenant_id, account_id, currency, amount_micros, reason, created_at
FROM refunds_due
WHERE (@before_id::bigint IS NULL OR (created_at, entry_id) < (@before_time::timestamptz, @before_id::bigint))
ORDER BY created_at DESC, entry_id DESC
LIMIT @limit;

-- name: UserInUse
SELECT EXISTS (SELECT FROM allocations WHERE user_id = @user_id AND state NOT IN ('released', 'failed')) AS in_use;

-- name: UserClosedTenants
-- Closed tenants that have no other owner.
SELECT tenants.id FROM tenants JOIN tenant_members AS own ON own.tenant_id = tenants.id
WHERE own.user_id = @user_id AND own.role = 'owner' AND tenants.status = 'closed' AND tenants.erased_at IS NULL
  AND NOT EXISTS (SELECT FROM tenant_members AS other WHERE other.tenant_id = tenants.id AND other.role = 'owner' AND other.user_id <> @user_id)
ORDER BY tenants.id;

-- name: EraseUser
-- The link to (issuer, subject) is cut: whoever signs in by it again is somebody new.
UPDATE users SET issuer = 'erased', subject = id, username = 'erased', org_id = '', email = '', email_verified = false, awaited = false, status = 'erased', status_reason = '', status_at = now()
WHERE id = @user_id;

-- name: EraseUserKeys
DELETE FROM ssh_keys WHERE user_id = @user_id;

-- name: EraseUserCredentials
DELETE FROM credentials WHERE user_id = @user_id;

-- name: EraseUserAllocations
UPDATE allocations SET name = 'erased', labels = '{}', ssh_keys = '{}' WHERE user_id = @user_id;

-- name: EraseUserInvitations
UPDATE tenant_invitations SET email = '', note = '', revoked_at = CASE WHEN accepted_at IS NULL THEN coalesce(revoked_at, now()) END
WHERE invited_by = @user_id OR accepted_by = @user_id;

-- name: EraseServiceAccount
UPDATE service_accounts SET name = user_id, disabled_at = coalesce(disabled_at, now()) WHERE user_id = @user_id;

-- name: EraseUserFromTenants
DELETE FROM tenant_members WHERE user_id = @user_id;

-- name: EraseUserFromProjects
DELETE FROM project_members WHERE user_id = @user_id;

-- name: EraseUserFromPlatform
DELETE FROM platform_admins WHERE user_id = @user_id;

-- name: EraseUserAnswers
-- Stored answers by or about somebody: an answer that names a person carries their id.
DELETE FROM idempotency_records WHERE principal_id = @user_id OR position(convert_to(@user_id::text, 'UTF8') IN answer) > 0;

-- name: EraseTenant
UPDATE tenants SET name = 'erased', org_id = CASE WHEN kind = 'organisation' THEN 'erased:' || id END, status_reason = '', erased_at = now()
WHERE id = @tenant_id AND status = 'closed' AND erased_at IS NULL;

-- name: EraseTenantProjects
UPDATE projects SET name = id WHERE tenant_id = @tenant_id;

-- name: EraseTenantKeys
DELETE FROM ssh_keys WHERE tenant_id = @tenant_id;

-- name: EraseTenantAllocations
UPDATE allocations SET name = 'erased', labels = '{}', ssh_keys = '{}' WHERE tenant_id = @tenant_id;

-- name: EraseTenantInvitations
UPDATE tenant_invitations SET email = '', note = '' WHERE tenant_id = @tenant_id;

-- name: EraseTenantMembers
DELETE FROM tenant_members WHERE tenant_id = @tenant_id;

-- name: EraseTenantProjectMembers
DELETE FROM project_members WHERE tenant_id = @tenant_id;

-- name: EraseTenantAnswers
DELETE FROM idempotency_records WHERE tenant_id = @tenant_id OR position(convert_to(@tenant_id::text, 'UTF8') IN answer) > 0;

-- name: EraseTenantNotifications
-- What somebody wrote as a reason may stand in them.
DELETE FROM notifications WHERE tenant_id = @tenant_id;

-- name: EraseUserNotifications
DELETE FROM notification_reads WHERE user_id = @user_id;

-- name: EraseUserEmailPreferences
DELETE FROM email_preferences WHERE user_id = @user_id;

-- name: EraseUserEmailMessages
DELETE FROM email_messages WHERE user_id = @user_id;

-- name: EraseTenantEmailMessages
DELETE FROM email_messages WHERE tenant_id = @tenant_id;

-- name: DepartureInsert
INSERT INTO departures (departure_hmac, expires_at) VALUES (@departure_hmac, @expires_at) ON CONFLICT DO NOTHING;

-- name: DepartureExists
SELECT EXISTS (SELECT FROM departures WHERE departure_hmac = @departure_hmac AND expires_at > @now) AS departed;

-- name: DeparturePurge
DELETE FROM departures WHERE expires_at <= @now;
