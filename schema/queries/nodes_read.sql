-- name: NodeBeatsOf
SELECT node_id, last_seen_at, agent_version FROM node_heartbeats WHERE node_id = ANY (@node_ids::text[]);

-- name: LeasesOpenOf
SELECT node_id, generation, allocation_id, ordinal, claimed_at, given_up_at, closed_at, closed_by, evidence
FROM node_leases
WHERE node_id = ANY (@node_ids::text[]) AND closed_at IS NULL;

-- name: NodeByHostname
SELECT id, sku_id FROM nodes WHERE hostname = @hostname;

-- name: EnrolTokenGet
SELECT node_id, sku_id, hostname, created_by, expires_at FROM node_enrol_tokens WHERE token_sha256 = @token_sha256;
