-- name: GatewayEnrolTokenUse
UPDATE node_enrol_tokens
SET used_at = coalesce(used_at, clock_timestamp()), used_by_key = @key_sha256::bytea
WHERE token_sha256 = @token_sha256 AND expires_at > clock_timestamp() AND (used_at IS NULL OR used_by_key = @key_sha256::bytea)
RETURNING node_id, sku_id, hostname, created_by, expires_at;

-- name: GatewayStanding
SELECT id, sku_id, reachability, scheduling, generation
FROM nodes
WHERE id = @id;

-- name: GatewayDenied
SELECT id FROM nodes WHERE scheduling = 'denied';
