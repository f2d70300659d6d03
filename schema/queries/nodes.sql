-- name: NodeClaim
-- The lease begins when the node is had, by the clock: the transaction may be older than the end of the lease before it.
WITH candidate AS MATERIALIZED (
  SELECT id FROM nodes
  WHERE sku_id = @sku_id AND claimed_by IS NULL AND reachability = 'online' AND scheduling = 'open' AND id <> ALL (@except::text[])
  LIMIT 1 FOR UPDATE SKIP LOCKED
), claimed AS (
  UPDATE nodes SET claimed_by = @allocation_id::text, generation = nodes.generation + 1, updated_at = now()
  FROM candidate WHERE nodes.id = candidate.id
  RETURNING nodes.id, nodes.generation
), lease AS (
  INSERT INTO node_leases (node_id, generation, allocation_id, ordinal, claimed_at)
  SELECT id, generation, @allocation_id::text, @ordinal::integer, clock_timestamp() FROM claimed
)
SELECT id AS node_id, generation FROM claimed;

-- name: NodeClaimWaiting
WITH candidate AS MATERIALIZED (
  SELECT id FROM nodes
  WHERE sku_id = @sku_id AND claimed_by IS NULL AND reachability = 'online' AND scheduling = 'open' AND id <> ALL (@except::text[])
  LIMIT 1 FOR UPDATE
), claimed AS (
  UPDATE nodes SET claimed_by = @allocation_id::text, generation = nodes.generation + 1, updated_at = now()
  FROM candidate WHERE nodes.id = candidate.id
  RETURNING nodes.id, nodes.generation
), lease AS (
  INSERT INTO node_leases (node_id, generation, allocation_id, ordinal, claimed_at)
  SELECT id, generation, @allocation_id::text, @ordinal::integer, clock_timestamp() FROM claimed
)
SELECT id AS node_id, generation FROM claimed;

-- name: LeaseListByAllocation
SELECT node_id, generation, allocation_id, ordinal, claimed_at, given_up_at, closed_at, closed_by, evidence
FROM node_leases
WHERE allocation_id = @allocation_id
ORDER BY ordinal;

-- name: LeaseOpenOfNode
SELECT node_id, generation, allocation_id, ordinal, claimed_at, given_up_at, closed_at, closed_by, evidence
FROM node_leases
WHERE node_id = @node_id AND closed_at IS NULL;

-- name: LeaseLock
SELECT node_id, generation, allocation_id, ordinal, claimed_at, given_up_at, closed_at, closed_by, evidence
FROM node_leases
WHERE node_id = @node_id AND generation = @generation AND allocation_id = @allocation_id
FOR NO KEY UPDATE;

-- name: LeaseGiveUp
UPDATE node_leases SET given_up_at = clock_timestamp()
WHERE node_id = @node_id AND generation = @generation AND allocation_id = @allocation_id AND given_up_at IS NULL;

-- name: LeaseClose
UPDATE node_leases SET closed_at = clock_timestamp(), closed_by = @closed_by, evidence = @evidence
WHERE node_id = @node_id AND generation = @generation AND allocation_id = @allocation_id AND closed_at IS NULL;

-- name: NodeUnclaim
UPDATE nodes SET claimed_by = NULL, updated_at = clock_timestamp()
WHERE id = @id AND claimed_by = @allocation_id AND generation = @generation;

-- name: NodeLock
SELECT id, sku_id, hostname, reachability, scheduling, reason, claimed_by, generation, version, inventory, ssh_host, ssh_port, ssh_host_key, enrolled_at, updated_at
FROM nodes
WHERE id = @id
FOR UPDATE;

-- name: NodeGet
SELECT id, sku_id, hostname, reachability, scheduling, reason, claimed_by, generation, version, inventory, ssh_host, ssh_port, ssh_host_key, enrolled_at, updated_at
FROM nodes
WHERE id = @id;

-- name: NodeList
SELECT id, sku_id, hostname, reachability, scheduling, reason, claimed_by, generation, version, inventory, ssh_host, ssh_port, ssh_host_key, enrolled_at, updated_at
FROM nodes
WHERE (@sku_id::text IS NULL OR sku_id = @sku_id)
  AND (@before_id::text IS NULL OR (enrolled_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY enrolled_at DESC, id DESC
LIMIT @limit;

-- name: NodeInsert
INSERT INTO nodes (id, sku_id, hostname)
VALUES (@id, @sku_id, @hostname)
ON CONFLICT DO NOTHING;

-- name: NodeTransition
UPDATE nodes
SET reachability = @reachability, scheduling = @scheduling, reason = @reason, version = version + 1, updated_at = clock_timestamp()
WHERE id = @id AND version = @version
RETURNING version;

-- name: NodeSetInventory
UPDATE nodes
SET inventory = @inventory, ssh_host = @ssh_host, ssh_port = @ssh_port, ssh_host_key = @ssh_host_key, updated_at = clock_timestamp()
WHERE id = @id;

-- name: NodeBeat
INSERT INTO node_heartbeats (node_id, last_seen_at, agent_version, report)
VALUES (@node_id, clock_timestamp(), @agent_version, @report)
ON CONFLICT (node_id) DO UPDATE
SET last_seen_at = EXCLUDED.last_seen_at, agent_version = EXCLUDED.agent_version, report = EXCLUDED.report;

-- name: NodeLastSeen
SELECT last_seen_at, agent_version FROM node_heartbeats WHERE node_id = @node_id;

-- name: NodeSilent
SELECT nodes.id, node_heartbeats.last_seen_at
FROM nodes LEFT JOIN node_heartbeats ON node_heartbeats.node_id = nodes.id
WHERE nodes.reachability = 'online'
  AND (node_heartbeats.last_seen_at IS NULL OR node_heartbeats.last_seen_at < clock_timestamp() - make_interval(secs => @silent_seconds::double precision))
ORDER BY nodes.id
LIMIT @limit;

-- name: NodeFreeBySKU
SELECT sku_id, count(*) AS free
FROM nodes
WHERE claimed_by IS NULL AND reachability = 'online' AND scheduling = 'open'
GROUP BY sku_id;

-- name: EnrolTokenInsert
INSERT INTO node_enrol_tokens (token_sha256, node_id, sku_id, hostname, created_by, expires_at)
VALUES (@token_sha256, @node_id, @sku_id, @hostname, @created_by, @expires_at);
