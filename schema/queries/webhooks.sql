-- name: WebhookEndpointInsert
INSERT INTO webhook_endpoints (id, tenant_id, url, description, event_types, secret, secret_sha256, created_by)
VALUES (@id, @tenant_id, @url, @description, @event_types, @secret, @secret_sha256, @created_by)
ON CONFLICT (id) DO NOTHING;

-- name: WebhookEndpointGet
SELECT id, tenant_id, url, description, event_types, secret, secret_sha256, previous_secret, previous_expires_at, disabled_at, disabled_because, failures,
  failing_since, created_by, created_at, updated_at, deleted_at
FROM webhook_endpoints WHERE id = @id;

-- name: WebhookEndpointHold
-- Held until the end of the transaction, so that what is decided about it holds.
SELECT id, tenant_id, url, description, event_types, secret, secret_sha256, previous_secret, previous_expires_at, disabled_at, disabled_because, failures,
  failing_since, created_by, created_at, updated_at, deleted_at
FROM webhook_endpoints WHERE id = @id AND tenant_id = @tenant_id AND deleted_at IS NULL FOR NO KEY UPDATE;

-- name: WebhookEndpointPage
SELECT id, tenant_id, url, description, event_types, secret, secret_sha256, previous_secret, previous_expires_at, disabled_at, disabled_because, failures,
  failing_since, created_by, created_at, updated_at, deleted_at
FROM webhook_endpoints
WHERE tenant_id = @tenant_id AND deleted_at IS NULL AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id))
ORDER BY created_at DESC, id DESC LIMIT @row_limit;

-- name: WebhookEndpointCount
SELECT count(*) AS endpoints FROM webhook_endpoints WHERE tenant_id = @tenant_id AND deleted_at IS NULL;

-- name: WebhookEndpointUpdate
UPDATE webhook_endpoints SET url = @url, description = @description, event_types = @event_types, disabled_at = @disabled_at, disabled_because = @disabled_because,
  failures = @failures, failing_since = @failing_since, updated_at = clock_timestamp()
WHERE id = @id AND tenant_id = @tenant_id;

-- name: WebhookEndpointRotate
UPDATE webhook_endpoints SET previous_secret = CASE WHEN @previous_expires_at::timestamptz > clock_timestamp() THEN secret END,
  previous_expires_at = CASE WHEN @previous_expires_at::timestamptz > clock_timestamp() THEN @previous_expires_at::timestamptz END,
  secret = @secret, secret_sha256 = @secret_sha256, updated_at = clock_timestamp()
WHERE id = @id AND tenant_id = @tenant_id;

-- name: WebhookEndpointDelete
UPDATE webhook_endpoints SET deleted_at = clock_timestamp(), url = '', description = '', secret = '', secret_sha256 = '', previous_secret = NULL, previous_expires_at = NULL
WHERE id = @id AND tenant_id = @tenant_id AND deleted_at IS NULL;

-- name: WebhookEndpointForget
-- The attempts go with the deliveries.
DELETE FROM webhook_deliveries WHERE endpoint_id = @id AND tenant_id = @tenant_id;

-- name: WebhookEndpointsListening
-- Those that are told of an event. One that was made after it, by every clock, asked for what comes later.
SELECT id, disabled_at IS NOT NULL AS disabled FROM webhook_endpoints
WHERE tenant_id = @tenant_id AND deleted_at IS NULL AND (event_types = '{}' OR @event_type = ANY (event_types)) AND created_at < @occurred_at::timestamptz + interval '1 minute';

-- name: WebhookDeliveryInsert
INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, event_id, event_type, body, test, state, ended_at)
VALUES (@id, @tenant_id, @endpoint_id, @event_id, @event_type, @body, @test, @state, CASE WHEN @state <> 'pending' THEN clock_timestamp() END)
ON CONFLICT DO NOTHING;

-- name: WebhookDeliveryGet
SELECT id, tenant_id, endpoint_id, event_id::text AS event_id, event_type, body, test, state, round, round_at, attempts, next_attempt_at, created_at, ended_at
FROM webhook_deliveries WHERE id = @id;

-- name: WebhookDeliveryHold
SELECT id, tenant_id, endpoint_id, event_id::text AS event_id, event_type, body, test, state, round, round_at, attempts, next_attempt_at, created_at, ended_at
FROM webhook_deliveries WHERE id = @id AND tenant_id = @tenant_id FOR NO KEY UPDATE;

-- name: WebhookDeliveryPage
SELECT id, tenant_id, endpoint_id, event_id::text AS event_id, event_type, body, test, state, round, round_at, attempts, next_attempt_at, created_at, ended_at
FROM webhook_deliveries
WHERE endpoint_id = @endpoint_id AND tenant_id = @tenant_id AND (@state::text IS NULL OR state = @state)
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id))
ORDER BY created_at DESC, id DESC LIMIT @row_limit;

-- name: WebhookDeliveryMove
-- What came of an attempt, or that none was made.
UPDATE webhook_deliveries SET state = @state, attempts = attempts + @attempted::integer, next_attempt_at = @next_attempt_at,
  ended_at = CASE WHEN @state <> 'pending' THEN clock_timestamp() END
WHERE id = @id AND tenant_id = @tenant_id AND round = @round AND state = 'pending';

-- name: WebhookDeliveryAgain
-- Begins another round; one that is under way stays.
UPDATE webhook_deliveries SET state = 'pending', round = round + 1, round_at = clock_timestamp(), begun_at = NULL, next_attempt_at = NULL, ended_at = NULL
WHERE id = @id AND tenant_id = @tenant_id AND state <> 'pending';

-- name: WebhookDeliveryBegun
UPDATE webhook_deliveries SET begun_at = clock_timestamp() WHERE id = @id AND tenant_id = @tenant_id AND round = @round AND begun_at IS NULL;

-- name: WebhookDeliveriesNotBegun
-- Of all tenants, oldest first.
SELECT id, tenant_id, round, event_type FROM webhook_deliveries
WHERE state = 'pending' AND begun_at IS NULL
ORDER BY round_at LIMIT @row_limit;

-- name: WebhookAttemptInsert
INSERT INTO webhook_attempts (delivery_id, tenant_id, round, number, outcome, status_code, latency_ms, detail, response, started_at)
VALUES (@delivery_id, @tenant_id, @round, @number, @outcome, @status_code, @latency_ms, @detail, @response, @started_at)
ON CONFLICT DO NOTHING;

-- name: WebhookAttemptsOf
SELECT round, number, outcome, status_code, latency_ms, detail, response, started_at
FROM webhook_attempts WHERE delivery_id = @delivery_id AND tenant_id = @tenant_id ORDER BY round, number;

-- name: WebhookDeliveriesPurge
DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries WHERE ended_at < now() - @keep::interval LIMIT @row_limit);

-- name: EraseTenantWebhooks
-- Their deliveries and attempts go with them.
DELETE FROM webhook_endpoints WHERE tenant_id = @tenant_id;
