-- name: LedgerBlockNewest
SELECT number, after_id, up_to_id, entries, encoding, previous_sha256, sha256, created_at FROM ledger_blocks ORDER BY number DESC LIMIT 1;

-- name: LedgerBlocks
SELECT number, after_id, up_to_id, entries, encoding, previous_sha256, sha256, created_at FROM ledger_blocks
WHERE number >= @from_number ORDER BY number LIMIT @limit;

-- name: LedgerBlockInsert
-- Whoever cuts the same number second finds it taken.
INSERT INTO ledger_blocks (number, after_id, up_to_id, entries, encoding, previous_sha256, sha256)
VALUES (@number, @after_id, @up_to_id, @entries, @encoding, @previous_sha256, @sha256)
ON CONFLICT (number) DO NOTHING;

-- name: LedgerHashed
-- Every column that is written, in the order of the canonical encoding.
SELECT id, kind, txn_id::text AS txn_id, debit_account_id, credit_account_id, currency, amount_micros, allocation_id, period_start, period_end,
  prev_end, idempotency_key, reverses_id, created_at
FROM ledger_entries WHERE id > @after_id AND id <= @up_to_id ORDER BY id LIMIT @limit;

-- name: LedgerUnderived
-- The first entry of which a column that PostgreSQL made from the others says otherwise than they do, or an instant holds more than the
-- milliseconds that are hashed.
SELECT min(id) AS id FROM ledger_entries
WHERE id > @after_id AND id <= @up_to_id AND (
  usage_allocation_id IS DISTINCT FROM CASE WHEN kind = 'usage' THEN allocation_id END
  OR usage_start IS DISTINCT FROM CASE WHEN kind = 'usage' THEN period_start END
  OR usage_end IS DISTINCT FROM CASE WHEN kind = 'usage' THEN period_end END
  OR usage_prev_end IS DISTINCT FROM CASE WHEN kind = 'usage' THEN prev_end END
  OR usage_head IS DISTINCT FROM CASE WHEN kind = 'usage' AND prev_end IS NULL THEN period_start END
  OR period_start IS DISTINCT FROM date_trunc('milliseconds', period_start) OR period_end IS DISTINCT FROM date_trunc('milliseconds', period_end)
  OR prev_end IS DISTINCT FROM date_trunc('milliseconds', prev_end) OR created_at IS DISTINCT FROM date_trunc('milliseconds', created_at)
);

-- name: LedgerHighest
-- The highest id there is, sealed or not, and how many entries lie behind one.
SELECT coalesce(max(id), 0)::bigint AS up_to_id, count(*) AS entries FROM ledger_entries WHERE id > @after_id;
