-- A suspension stops the meter of what its subject holds, cuts access, and takes the time until its end out of the bill.

-- Since when the meter of an allocation stands still; null while it runs. Cleared when the suspension, or the allocation, ends.
ALTER TABLE allocations
  ADD COLUMN suspended_at timestamptz(3),
  ADD CONSTRAINT allocations_suspended CHECK (suspended_at IS NULL OR (state = 'active' AND suspended_at >= metered_from));

-- What a suspension takes out of a bill is one credit of exactly the time it lasted, beside usage that runs through, so that
-- the chain of usage keeps neither gap nor exception.
ALTER TABLE ledger_entries
  DROP CONSTRAINT ledger_entries_kind_check,
  ADD CONSTRAINT ledger_entries_kind_check CHECK (kind IN ('usage', 'usage_credit', 'outage_credit', 'suspension_credit', 'adjustment_credit',
    'adjustment_debit', 'opening_credit')),
  DROP CONSTRAINT ledger_allocation,
  ADD CONSTRAINT ledger_allocation CHECK ((kind IN ('usage', 'usage_credit', 'outage_credit', 'suspension_credit')) = (allocation_id IS NOT NULL)),
  DROP CONSTRAINT ledger_metered_period,
  ADD CONSTRAINT ledger_metered_period CHECK (kind NOT IN ('usage', 'usage_credit', 'outage_credit', 'suspension_credit') OR period_start IS NOT NULL);

-- As before, for one more kind of credit that a closed meter gets no more.
CREATE OR REPLACE FUNCTION ledger_meter_open() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  closed record;
BEGIN
  -- a snapshot taken before the settlement committed would not see it
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'ledger entries are written in READ COMMITTED alone'
      USING ERRCODE = 'invalid_transaction_state', CONSTRAINT = 'ledger_read_committed';
  END IF;
  SELECT entry.allocation_id, settlement.metered_to INTO closed
    FROM inserted AS entry
    JOIN ledger_settlements AS settlement ON settlement.allocation_id = entry.allocation_id
    WHERE (entry.kind = 'usage' AND entry.period_end > settlement.metered_to) OR entry.kind IN ('outage_credit', 'suspension_credit')
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the meter of % ended at %', closed.allocation_id, closed.metered_to
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'ledger_meter_open';
  END IF;
  RETURN NULL;
END $$;
