-- name: LedgerEntryAfter
-- The first entry from an id on: by it a search finds where a time begins, because ids and times rise together.
SELECT id, created_at FROM ledger_entries WHERE id >= @id ORDER BY id LIMIT 1;

-- name: LedgerNewestID
SELECT coalesce(max(id), 0) AS id FROM ledger_entries;

-- name: LedgerActivity
-- What the entries of an account within (after_id, up_to_id] that were posted within [from, to) add up to.
SELECT kind, coalesce(allocation_id, '') AS allocation_id,
  coalesce(date_trunc('day', period_start, 'UTC'), 'epoch'::timestamptz) AS day,
  sum(amount_micros)::bigint AS amount_micros, count(*) AS entries,
  coalesce(sum((extract(epoch FROM period_end - period_start) * 1000)::bigint) FILTER (WHERE kind = 'usage'), 0)::bigint AS metered_ms
FROM (
  SELECT kind, allocation_id, period_start, period_end, created_at, -amount_micros AS amount_micros FROM ledger_entries
  WHERE debit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id > @after_id AND id <= @up_to_id
  UNION ALL
  SELECT kind, allocation_id, period_start, period_end, created_at, amount_micros FROM ledger_entries
  WHERE credit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id > @after_id AND id <= @up_to_id
) AS entry
WHERE created_at >= @from_time AND created_at < @to_time
GROUP BY 1, 2, 3;

-- name: LedgerBalanceBefore
-- The balance of what was posted before an instant: everything up to a sure id, and what of the ids after it was.
SELECT coalesce(sum(part.micros), 0)::bigint AS balance_micros
FROM (
  SELECT sum(amount_micros) AS micros FROM ledger_entries
  WHERE credit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id <= @sure_id
  UNION ALL
  SELECT -sum(amount_micros) FROM ledger_entries
  WHERE debit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id <= @sure_id
  UNION ALL
  SELECT sum(amount_micros) FROM ledger_entries
  WHERE credit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id > @sure_id AND id <= @up_to_id
    AND created_at < @before_time
  UNION ALL
  SELECT -sum(amount_micros) FROM ledger_entries
  WHERE debit_account_id = (SELECT id FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND id > @sure_id AND id <= @up_to_id
    AND created_at < @before_time
) AS part;

-- name: AllocationsHeld
SELECT id, project_id, sku_id AS sku FROM allocations WHERE tenant_id = @tenant_id AND id = ANY (@ids::text[]);

-- name: AllocationsMetered
-- Allocations of an account of which something may be metered in a time: no window begins once its allocation has ended.
SELECT id, project_id, sku_id AS sku FROM allocations
WHERE tenant_id = @tenant_id AND account_id = @account_id AND metered_from < @to_time AND (ended_at IS NULL OR ended_at >= @from_time);

-- name: LedgerMetered
-- What the entries of these allocations whose periods began within [from, to) add up to.
SELECT kind, allocation_id, date_trunc('day', period_start, 'UTC') AS day,
  sum(CASE WHEN debit_account_id = @account_id THEN -amount_micros ELSE amount_micros END)::bigint AS amount_micros, count(*) AS entries,
  coalesce(sum((extract(epoch FROM period_end - period_start) * 1000)::bigint) FILTER (WHERE kind = 'usage'), 0)::bigint AS metered_ms
FROM (
  SELECT kind, allocation_id, debit_account_id, credit_account_id, amount_micros, period_start, period_end FROM ledger_entries
  WHERE kind = 'usage' AND allocation_id = ANY (@allocation_ids::text[]) AND period_start >= @from_time AND period_start < @to_time
  UNION ALL
  SELECT kind, allocation_id, debit_account_id, credit_account_id, amount_micros, period_start, period_end FROM ledger_entries
  WHERE kind <> 'usage' AND allocation_id IS NOT NULL AND allocation_id = ANY (@allocation_ids::text[]) AND period_start >= @from_time AND period_start < @to_time
) AS entry
WHERE (debit_account_id = @account_id OR credit_account_id = @account_id) AND EXISTS (SELECT FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id)
GROUP BY 1, 2, 3;
