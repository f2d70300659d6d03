-- name: AllocationsCostMoney
SELECT EXISTS (
  SELECT FROM allocations
  WHERE tenant_id = @tenant_id AND account_id = @account_id AND state = 'active' AND suspended_at IS NULL AND rate_micros_per_hour > 0
) AS costs;

-- name: AccountsCostMoney
-- The accounts of every tenant, or of one, that something running costs.
SELECT DISTINCT tenant_id, account_id FROM allocations
WHERE state = 'active' AND suspended_at IS NULL AND rate_micros_per_hour > 0 AND (@tenant_id::text IS NULL OR tenant_id = @tenant_id)
ORDER BY account_id;

-- name: AllocationsOfFunds
-- What an account pays for, or will: everything that has not ended and has a price.
SELECT id, project_id, user_id, name, sku_id, state, rate_micros_per_hour, metered_from, coalesce(metered_to, suspended_at) AS metered_to,
  suspended_at IS NOT NULL AS suspended
FROM allocations
WHERE tenant_id = @tenant_id AND account_id = @account_id AND state NOT IN ('released', 'failed') AND rate_micros_per_hour > 0
ORDER BY id;

-- name: LedgerFunds
-- What an account holds and how far each of its meters is posted, of one moment: a window posted between two statements would
-- count twice or not at all.
WITH newest AS MATERIALIZED (
  SELECT up_to_id, balance_micros FROM ledger_checkpoints WHERE account_id = @account_id ORDER BY up_to_id DESC LIMIT 1
), wanted AS MATERIALIZED (
  SELECT w.id, w.place, (SELECT max(usage_end) FROM ledger_entries WHERE usage_allocation_id = w.id) AS posted_to,
    EXISTS (SELECT FROM ledger_settlements WHERE ledger_settlements.allocation_id = w.id) AS settled
  FROM unnest(@allocation_ids::text[]) WITH ORDINALITY AS w (id, place)
), debits AS MATERIALIZED (
  SELECT id, created_at, amount_micros FROM ledger_entries WHERE debit_account_id = @account_id AND kind <> 'usage' ORDER BY id DESC LIMIT @most_debits
), given AS MATERIALIZED (
  SELECT id, allocation_id, period_start, period_end FROM ledger_entries
  WHERE kind IN ('outage_credit', 'suspension_credit') AND allocation_id = ANY (@allocation_ids::text[]) AND allocation_id IS NOT NULL AND kind <> 'usage'
)
SELECT (SELECT coalesce(sum(part.micros), 0)::bigint FROM (
    SELECT balance_micros AS micros FROM newest
    UNION ALL
    SELECT amount_micros FROM ledger_entries
    WHERE credit_account_id = (SELECT @account_id::text) AND id > coalesce((SELECT up_to_id FROM newest), 0)
    UNION ALL
    SELECT -amount_micros FROM ledger_entries
    WHERE debit_account_id = (SELECT @account_id::text) AND id > coalesce((SELECT up_to_id FROM newest), 0)
  ) AS part) AS balance_micros,
  ARRAY(SELECT created_at FROM debits ORDER BY id DESC) AS debit_at,
  ARRAY(SELECT amount_micros FROM debits ORDER BY id DESC) AS debit_micros,
  (SELECT created_at FROM ledger_entries WHERE credit_account_id = @account_id AND kind <> 'usage_credit' ORDER BY id DESC LIMIT 1) AS credited_at,
  ARRAY(SELECT posted_to FROM wanted ORDER BY place) AS posted_to,
  ARRAY(SELECT settled FROM wanted ORDER BY place) AS settled,
  ARRAY(SELECT allocation_id FROM given ORDER BY id) AS free_of,
  ARRAY(SELECT period_start FROM given ORDER BY id) AS free_from,
  ARRAY(SELECT period_end FROM given ORDER BY id) AS free_to;

-- name: FundsStanding
-- The newest row of each rung.
SELECT DISTINCT ON (rung) rung, crossing, fact, at, deadline, available_micros, late_ms, written_off_micros
FROM funds_crossings WHERE tenant_id = @tenant_id AND account_id = @account_id
ORDER BY rung, crossing DESC, fact;

-- name: FundsCrossingInsert
INSERT INTO funds_crossings (tenant_id, account_id, rung, crossing, fact, at, deadline, balance_micros, available_micros, late_ms,
  written_off_micros, correlation_id)
VALUES (@tenant_id, @account_id, @rung, @crossing, @fact, @at, @deadline, @balance_micros, @available_micros, @late_ms,
  @written_off_micros, @correlation_id);
