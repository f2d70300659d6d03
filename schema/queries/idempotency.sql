-- name: IdempotencyClaim
INSERT INTO idempotency_records (tenant_id, principal_id, operation, key, request_hash, created_at, locked_until, expires_at)
VALUES (@tenant_id, @principal_id, @operation, @key, @request_hash, @asked_at, @locked_until, @expires_at)
ON CONFLICT (tenant_id, principal_id, operation, key) DO UPDATE
SET request_hash = excluded.request_hash, status = NULL, headers = '{}', answer = NULL, created_at = excluded.created_at,
  locked_until = excluded.locked_until, expires_at = excluded.expires_at
WHERE idempotency_records.expires_at <= excluded.created_at
  AND (idempotency_records.locked_until IS NULL OR idempotency_records.locked_until <= excluded.created_at);

-- name: IdempotencyTakeOver
UPDATE idempotency_records SET locked_until = @locked_until
WHERE tenant_id = @tenant_id AND principal_id = @principal_id AND operation = @operation AND key = @key
  AND request_hash = @request_hash AND status IS NULL AND locked_until < clock_timestamp();

-- name: IdempotencyGet
SELECT request_hash, status, headers, answer, created_at AS asked_at, expires_at
FROM idempotency_records
WHERE tenant_id = @tenant_id AND principal_id = @principal_id AND operation = @operation AND key = @key;

-- name: IdempotencyFinish
UPDATE idempotency_records SET status = @status, headers = @headers, answer = @answer, locked_until = NULL
WHERE tenant_id = @tenant_id AND principal_id = @principal_id AND operation = @operation AND key = @key AND status IS NULL;

-- name: IdempotencyAbandon
DELETE FROM idempotency_records
WHERE tenant_id = @tenant_id AND principal_id = @principal_id AND operation = @operation AND key = @key
  AND status IS NULL AND locked_until = @locked_until;

-- name: IdempotencyLeave
UPDATE idempotency_records SET locked_until = clock_timestamp() - interval '1 millisecond'
WHERE tenant_id = @tenant_id AND principal_id = @principal_id AND operation = @operation AND key = @key
  AND status IS NULL AND locked_until = @locked_until;

-- name: IdempotencyPurge
DELETE FROM idempotency_records
WHERE ctid IN (SELECT ctid FROM idempotency_records WHERE expires_at < clock_timestamp() LIMIT @limit);
