-- name: PolicyNewest
SELECT DISTINCT ON (key) key, version, value, reason, actor_user_id, created_at
FROM policy_values
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
