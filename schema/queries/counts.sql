-- name: CountAllocations
-- How many allocations of all tenants have not ended, by state.
SELECT state, count(*) AS allocations FROM allocations WHERE ended_at IS NULL GROUP BY state;

-- name: CountNodes
SELECT reachability, scheduling, count(*) AS nodes, count(claimed_by) AS claimed FROM nodes GROUP BY reachability, scheduling;

-- name: CountFunds
-- How many accounts of all tenants stand on each rung.
SELECT rung, count(*) AS accounts FROM funds_crossings AS reached
WHERE fact = 'reached' AND NOT EXISTS (
  SELECT FROM funds_crossings AS gone
  WHERE gone.account_id = reached.account_id AND gone.rung = reached.rung AND gone.crossing = reached.crossing AND gone.fact = 'left')
GROUP BY rung;

-- name: DepletedAccounts
-- Accounts of all tenants that were found to be used up before an instant, and are.
SELECT account_id FROM funds_crossings AS reached
WHERE rung = 'balance_depleted' AND fact = 'reached' AND created_at < @before AND NOT EXISTS (
  SELECT FROM funds_crossings AS gone
  WHERE gone.account_id = reached.account_id AND gone.rung = reached.rung AND gone.crossing = reached.crossing AND gone.fact = 'left');

-- name: CountCostingAccounts
-- Of how many of these accounts something costs money.
SELECT count(DISTINCT account_id) AS accounts FROM allocations
WHERE account_id = ANY (@account_ids::text[]) AND state = 'active' AND suspended_at IS NULL AND rate_micros_per_hour > 0;

-- name: OpenFindings
SELECT kind, count(*) AS findings FROM reconciliation_findings WHERE state = 'open' GROUP BY kind;

-- name: ReconciliationCompleted
-- When the newest run ended that made every check.
SELECT max(ended_at) AS ended_at FROM reconciliation_runs WHERE state = 'completed';
