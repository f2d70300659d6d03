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

-- name: LedgerHighest
-- The highest id there is, sealed or not, and how many entries lie behind one.
SELECT coalesce(max(id), 0)::bigint AS up_to_id, count(*) AS entries FROM ledger_entries WHERE id > @after_id;
