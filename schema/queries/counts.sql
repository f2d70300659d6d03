-- name: CountAllocations
-- How many allocations of all tenants have not ended, by state.
SELECT state, count(*) AS allocations FROM allocations WHERE ended_at IS NULL GROUP BY state;

-- name: CountNodes
SELECT reachability, scheduling, count(*) AS nodes, count(claimed_by) AS claimed FROM nodes GROUP BY reachability, scheduling;

-- name: CountFunds
-- How many accounts of all tenants stand on each rung, and of how many the money ended before an instant by what they were told, and nobody
-- has looked since.
WITH standing AS (
  SELECT account_id, rung, deadline FROM funds_crossings AS reached
  WHERE fact = 'reached' AND NOT EXISTS (
    SELECT FROM funds_crossings AS gone
    WHERE gone.account_id = reached.account_id AND gone.rung = reached.rung AND gone.crossing = reached.crossing AND gone.fact = 'left')
)
SELECT rung, count(*) AS accounts, count(*) FILTER (
  WHERE deadline < @before AND NOT EXISTS (SELECT FROM standing AS ended WHERE ended.account_id = standing.account_id AND ended.rung = 'balance_depleted')
) AS overdue
FROM standing GROUP BY rung;

-- name: OpenFindings
SELECT kind, count(*) AS findings FROM reconciliation_findings WHERE state = 'open' GROUP BY kind;

-- name: ReconciliationCompleted
-- When the newest run ended that made every check.
SELECT max(ended_at) AS ended_at FROM reconciliation_runs WHERE state = 'completed';
