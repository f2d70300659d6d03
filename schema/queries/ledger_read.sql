-- name: LedgerCosts
SELECT allocation_id, sum(amount_micros)::bigint AS cost_micros
FROM (
  SELECT allocation_id, amount_micros FROM ledger_entries WHERE kind = 'usage' AND allocation_id = ANY (@allocation_ids::text[])
  UNION ALL
  SELECT allocation_id, -amount_micros FROM ledger_entries WHERE kind <> 'usage' AND allocation_id = ANY (@allocation_ids::text[])
) AS entry
GROUP BY allocation_id;
