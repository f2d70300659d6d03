-- name: SignInLock
SELECT pg_advisory_xact_lock(hashtextextended(@issuer::text || chr(10) || @subject::text, 7));

-- name: OrganisationLock
SELECT pg_advisory_xact_lock(hashtextextended(@org_id::text, 8));

-- name: IdentityBySubject
SELECT users.id, users.tenant_id, users.issuer, users.subject, users.username, users.kind, users.status, users.org_id, users.email, users.email_verified, users.created_at,
  EXISTS (SELECT FROM platform_admins WHERE user_id = users.id) AS platform_admin,
  EXISTS (SELECT FROM platform_admins WHERE user_id = users.id AND source = 'issuer') AS admin_by_issuer
FROM users
WHERE issuer = @issuer AND subject = @subject AND NOT awaited;

-- name: UserClaimAwaited
-- The first sign-in of somebody who was registered by name.
UPDATE users SET subject = @subject, awaited = false WHERE issuer = @issuer AND username = @username AND awaited;

-- name: UserAwait
UPDATE users SET awaited = true WHERE id = @id;

-- name: IdentityOfUser
SELECT users.id, users.tenant_id, users.issuer, users.subject, users.username, users.kind, users.status, users.org_id, users.email, users.email_verified, users.created_at,
  EXISTS (SELECT FROM platform_admins WHERE user_id = users.id) AS platform_admin,
  EXISTS (SELECT FROM platform_admins WHERE user_id = users.id AND source = 'issuer') AS admin_by_issuer
FROM users
WHERE id = @id;

-- name: IdentityTenants
-- Every tenant the user belongs to, with what is needed to act there.
SELECT tenants.id AS tenant_id, tenants.status, coalesce(tenants.org_id, '') AS org_id, tenants.kind,
  coalesce((SELECT id FROM projects WHERE tenant_id = tenants.id AND is_default), '') AS project_id,
  account.id AS account_id, account.currency
FROM tenants
JOIN LATERAL (SELECT id, currency FROM accounts WHERE tenant_id = tenants.id AND kind = 'tenant' ORDER BY created_at, id LIMIT 1) AS account ON true
WHERE tenants.id IN (SELECT tenant_id FROM tenant_members WHERE user_id = @user_id UNION SELECT tenant_id FROM project_members WHERE user_id = @user_id);

-- name: IdentityMemberships
SELECT tenant_id, '' AS project_id, role, source FROM tenant_members WHERE user_id = @user_id
UNION ALL
SELECT tenant_id, project_id, role, '' AS source FROM project_members WHERE user_id = @user_id;

-- name: UserGet
SELECT id, tenant_id, issuer, subject, username, kind, status, status_reason, status_at, created_at
FROM users
WHERE id = @id AND tenant_id = @tenant_id;

-- name: UserFindByUsername
SELECT id, tenant_id, issuer, subject, username, kind, status, status_reason, status_at, created_at
FROM users
WHERE username = @username
ORDER BY created_at, id
LIMIT 2;

-- name: UserFollow
-- What the newest token says of a user, where it says something new. One that names no address leaves the one that is known.
UPDATE users SET username = @username, org_id = @org_id, tenant_id = @tenant_id,
  email = CASE WHEN @email::text = '' THEN email ELSE @email END, email_verified = CASE WHEN @email::text = '' THEN email_verified ELSE @email_verified::boolean END
WHERE id = @id AND ((username, org_id, tenant_id) IS DISTINCT FROM (@username, @org_id, @tenant_id)
  OR @email::text <> '' AND (email, email_verified) IS DISTINCT FROM (@email::text, @email_verified::boolean));

-- name: UserLock
-- A user who acts in a tenant, at home there or as a member.
SELECT status FROM users
WHERE id = @id AND (tenant_id = @tenant_id
  OR EXISTS (SELECT FROM tenant_members AS member WHERE member.user_id = users.id AND member.tenant_id = @tenant_id)
  OR EXISTS (SELECT FROM project_members AS member WHERE member.user_id = users.id AND member.tenant_id = @tenant_id))
FOR NO KEY UPDATE;

-- name: TenantShare
-- Whoever begins something in a tenant holds its status against an operator's change until that is written.
SELECT status FROM tenants WHERE id = @id FOR SHARE;

-- name: TenantInsert
-- A tenant is named after its person or organisation, whose names may be longer than a tenant's.
INSERT INTO tenants (id, kind, org_id, name) VALUES (@id, @kind, @org_id, left(@name::text, 200));

-- name: TenantByOrganisation
SELECT id FROM tenants WHERE org_id = @org_id;

-- name: TenantPersonal
-- The user's own tenant: the personal one that they came with.
SELECT tenants.id
FROM tenant_members AS member JOIN tenants ON tenants.id = member.tenant_id
WHERE member.user_id = @user_id AND member.source = 'sign_up' AND tenants.kind = 'personal'
ORDER BY tenants.created_at, tenants.id
LIMIT 1;

-- name: TenantHasOwner
SELECT EXISTS (SELECT FROM tenant_members WHERE tenant_id = @tenant_id AND role = 'owner') AS has;

-- name: TenantMemberInsert
INSERT INTO tenant_members (tenant_id, user_id, role, source) VALUES (@tenant_id, @user_id, @role, @source)
ON CONFLICT (tenant_id, user_id) DO NOTHING;

-- name: UserInsert
INSERT INTO users (id, tenant_id, issuer, subject, username, status, org_id, email, email_verified)
VALUES (@id, @tenant_id, @issuer, @subject, @username, @status, @org_id, @email, @email_verified);

-- name: PlatformAdminByIssuer
INSERT INTO platform_admins (user_id, source, granted_by) VALUES (@user_id, 'issuer', 'issuer') ON CONFLICT (user_id) DO NOTHING;

-- name: PlatformAdminNoLongerByIssuer
DELETE FROM platform_admins WHERE user_id = @user_id AND source = 'issuer';

-- name: ProjectInsert
INSERT INTO projects (id, tenant_id, name, is_default) VALUES (@id, @tenant_id, @name, @is_default);

-- name: ProjectGet
SELECT id, tenant_id, name, is_default, archived_at, created_at FROM projects WHERE id = @id AND tenant_id = @tenant_id;

-- name: ProjectHold
-- Held against being archived until the transaction ends, and not against another who holds it.
SELECT id, tenant_id, name, is_default, archived_at, created_at FROM projects WHERE id = @id AND tenant_id = @tenant_id FOR SHARE;

-- name: AccountInsert
INSERT INTO accounts (id, kind, tenant_id, currency) VALUES (@id, 'tenant', @tenant_id, @currency);

-- name: AccountOfTenant
SELECT id, currency FROM accounts WHERE tenant_id = @tenant_id AND kind = 'tenant' ORDER BY created_at, id LIMIT 1;

-- name: AccountMadeAt
SELECT created_at FROM accounts WHERE id = @id AND tenant_id = @tenant_id;

-- name: AccountGet
SELECT id, tenant_id, currency FROM accounts WHERE id = @id AND kind = 'tenant';

-- name: AccountLock
SELECT id, currency FROM accounts WHERE id = @id AND tenant_id = @tenant_id AND kind = 'tenant' FOR NO KEY UPDATE;

-- name: OpeningCreditClaim
INSERT INTO opening_credits (subject_hmac, account_id) VALUES (@subject_hmac, @account_id) ON CONFLICT DO NOTHING;

-- name: OpeningCreditOf
SELECT account_id FROM opening_credits WHERE subject_hmac = @subject_hmac;
