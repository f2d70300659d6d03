-- name: PolicyNewest
SELECT DISTINCT ON (key) key, version, value, reason, actor_user_id, created_at
FROM policy_values
ORDER BY key, version DESC;

-- name: PolicyAt
SELECT DISTINCT ON (key) key, version, value, reason, actor_user_id, created_at
FROM policy_values WHERE created_at <= @at
ORDER BY key, version DESC;

-- name: PolicyHistory
SELECT key, version, value, reason, actor_user_id, created_at
FROM policy_values
WHERE key = @key AND version < @before::bigint
ORDER BY version DESC
LIMIT @limit;

-- name: PolicyVersion
SELECT key, version, value, reason, actor_user_id, created_at
FROM policy_values
WHERE key = @key AND version = @version;

-- name: PolicyLock
SELECT pg_advisory_xact_lock(hashtext('policy_values'));

-- name: PolicyInsert
INSERT INTO policy_values (key, version, value, reason, actor_user_id, created_at)
VALUES (@key, @version, @value, @reason, @actor_user_id, clock_timestamp());

-- name: TenantPolicyNewest
SELECT DISTINCT ON (key) key, version, value, reason, actor_user_id, created_at
FROM tenant_policy_values
WHERE tenant_id = @tenant_id
ORDER BY key, version DESC;

-- name: TenantPolicyAt
SELECT DISTINCT ON (key) key, version, value, reason, actor_user_id, created_at
FROM tenant_policy_values
WHERE tenant_id = @tenant_id AND created_at <= @at
ORDER BY key, version DESC;

-- name: TenantPolicyHistory
SELECT key, version, value, reason, actor_user_id, created_at
FROM tenant_policy_values
WHERE tenant_id = @tenant_id AND key = @key AND version < @before::bigint
ORDER BY version DESC
LIMIT @limit;

-- name: TenantPolicyInsert
INSERT INTO tenant_policy_values (tenant_id, key, version, value, reason, actor_user_id, created_at)
VALUES (@tenant_id, @key, @version, @value, @reason, @actor_user_id, clock_timestamp());
