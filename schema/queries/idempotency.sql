-- name: IdempotencyClaim
INSERT INTO idempotency_records (tenant_id, principal_id, operation, key, request_hash, created_at, locked_until, expires_at)
VALUES (@tenant_id, @principal_id, @operation, @key, @request_hash, @asked_at, @locked_until, @expires_at)
ON CONFLICT DO NOTHING;

-- name: IdempotencyTakeOver
UPDATE idempotency_records SET locked_until = @locked_until
WHERE tenant_id = @tenant_id AND principal_id = @principal_id AND operation = @operation AND key = @key
  AND request_hash = @request_hash AND status IS NULL AND locked_until < clock_timestamp();

-- name: IdempotencyGet
SELECT request_hash, status, headers, answer, created_at AS asked_at
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
