-- name: SignInLock
SELECT pg_advisory_xact_lock(hashtextextended(@issuer::text || chr(10) || @subject::text, 7));

-- name: UserBySubject
SELECT id, tenant_id, issuer, subject, username, created_at
FROM users
WHERE issuer = @issuer AND subject = @subject;

-- name: UserGet
SELECT id, tenant_id, issuer, subject, username, created_at
FROM users
WHERE id = @id AND tenant_id = @tenant_id;

-- name: UserFindByUsername
SELECT id, tenant_id, issuer, subject, username, created_at
FROM users
WHERE username = @username
ORDER BY created_at, id
LIMIT 2;

-- name: UserRename
UPDATE users SET username = @username WHERE id = @id AND tenant_id = @tenant_id AND username <> @username;

-- name: UserLock
SELECT id FROM users WHERE id = @id AND tenant_id = @tenant_id FOR NO KEY UPDATE;

-- name: TenantInsert
INSERT INTO tenants (id, kind, name) VALUES (@id, 'personal', @name);

-- name: UserInsert
INSERT INTO users (id, tenant_id, issuer, subject, username) VALUES (@id, @tenant_id, @issuer, @subject, @username);

-- name: ProjectInsert
INSERT INTO projects (id, tenant_id, name, is_default) VALUES (@id, @tenant_id, @name, @is_default);

-- name: ProjectMemberInsert
INSERT INTO project_members (tenant_id, project_id, user_id, role) VALUES (@tenant_id, @project_id, @user_id, @role);

-- name: ProjectDefault
SELECT id, name FROM projects WHERE tenant_id = @tenant_id AND is_default;

-- name: ProjectGet
SELECT id, name FROM projects WHERE id = @id AND tenant_id = @tenant_id;

-- name: ProjectMemberRole
SELECT role FROM project_members WHERE project_id = @project_id AND user_id = @user_id AND tenant_id = @tenant_id;

-- name: AccountInsert
INSERT INTO accounts (id, kind, tenant_id, currency) VALUES (@id, 'tenant', @tenant_id, @currency);

-- name: AccountOfTenant
SELECT id, currency FROM accounts WHERE tenant_id = @tenant_id AND kind = 'tenant' ORDER BY created_at, id LIMIT 1;

-- name: AccountGet
SELECT id, tenant_id, currency FROM accounts WHERE id = @id AND kind = 'tenant';

-- name: AccountLock
SELECT id, currency FROM accounts WHERE id = @id AND tenant_id = @tenant_id AND kind = 'tenant' FOR NO KEY UPDATE;
