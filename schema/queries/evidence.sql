-- name: LedgerEvidence
-- Every entry of an allocation, with both of its accounts, in the order of the ledger.
SELECT id, kind, debit_account_id, credit_account_id, currency, amount_micros, period_start, period_end, created_at
FROM (
  SELECT * FROM ledger_entries WHERE kind = 'usage' AND allocation_id = @allocation_id
  UNION ALL
  SELECT * FROM ledger_entries WHERE kind <> 'usage' AND allocation_id = @allocation_id
) AS entry
WHERE EXISTS (SELECT FROM accounts WHERE id = @account_id AND tenant_id = @tenant_id) AND @account_id IN (debit_account_id, credit_account_id)
ORDER BY id;

-- name: PricePinned
SELECT id, sku_id, currency, rate_micros_per_hour, valid_from FROM sku_prices WHERE id = @id AND (tenant_id IS NULL OR tenant_id = @tenant_id);

-- name: NodeCertificateInsert
INSERT INTO node_certificates (node_id, serial, not_before, not_after) VALUES (@node_id, @serial, @not_before, @not_after)
ON CONFLICT (node_id, serial) DO NOTHING;

-- name: NodeCertificatesWithin
-- The certificates that a node held at some instant of a time.
SELECT node_id, serial, not_before, not_after FROM node_certificates
WHERE node_id = @node_id AND not_after > @since AND not_before < @until
ORDER BY not_before, serial;
