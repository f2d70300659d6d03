-- The ledger: double entry as one transfer row, balanced by construction, literally one entry a window.
-- SELECT and INSERT only for the programs; what must never happen is refused here and not in Go.

CREATE TABLE ledger_entries (
  id                 bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  kind               text NOT NULL CHECK (kind IN ('usage', 'usage_credit', 'outage_credit', 'adjustment_credit', 'adjustment_debit', 'opening_credit')),
  txn_id             uuid NOT NULL,
  debit_account_id   text NOT NULL,
  credit_account_id  text NOT NULL,
  currency           text NOT NULL,
  amount_micros      bigint NOT NULL,
  allocation_id      text,
  period_start       timestamptz(3),
  period_end         timestamptz(3),
  prev_end           timestamptz(3),
  idempotency_key    text NOT NULL UNIQUE CHECK (length(idempotency_key) BETWEEN 1 AND 300),
  reverses_id        bigint UNIQUE REFERENCES ledger_entries,
  created_at         timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  -- NULL unless usage, because a foreign key cannot target a partial index
  usage_allocation_id text GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN allocation_id END) STORED,
  usage_start         timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN period_start END) STORED,
  usage_end           timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN period_end END) STORED,
  usage_prev_end      timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN prev_end END) STORED,
  usage_head          timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' AND prev_end IS NULL THEN period_start END) STORED,
  CHECK (debit_account_id <> credit_account_id),
  CHECK (CASE WHEN kind = 'usage' THEN amount_micros >= 0 ELSE amount_micros > 0 END),
  CHECK (kind NOT IN ('usage', 'usage_credit', 'outage_credit') OR allocation_id IS NOT NULL),
  CHECK (kind <> 'usage' OR (period_start IS NOT NULL AND period_end IS NOT NULL AND period_end > period_start)),
  CHECK (kind <> 'usage' OR prev_end IS NULL OR prev_end = period_start),
  CHECK (kind = 'usage' OR prev_end IS NULL),
  FOREIGN KEY (debit_account_id, currency) REFERENCES accounts (id, currency),
  FOREIGN KEY (credit_account_id, currency) REFERENCES accounts (id, currency),
  FOREIGN KEY (usage_allocation_id, debit_account_id) REFERENCES allocations (id, account_id),
  -- one head an allocation, at the anchor; every other window starts where a stored one ended
  FOREIGN KEY (usage_allocation_id, usage_head) REFERENCES allocations (id, metered_from),
  CONSTRAINT ledger_usage_end UNIQUE (usage_allocation_id, usage_end),
  CONSTRAINT ledger_usage_chain FOREIGN KEY (usage_allocation_id, usage_prev_end) REFERENCES ledger_entries (usage_allocation_id, usage_end)
);
CREATE UNIQUE INDEX ledger_usage_once ON ledger_entries (allocation_id, period_start) WHERE kind = 'usage';
CREATE UNIQUE INDEX ledger_usage_one_head ON ledger_entries (usage_allocation_id) WHERE usage_head IS NOT NULL;
CREATE INDEX ledger_by_debit ON ledger_entries (debit_account_id, id) INCLUDE (amount_micros);
CREATE INDEX ledger_by_credit ON ledger_entries (credit_account_id, id) INCLUDE (amount_micros);

CREATE TRIGGER ledger_entries_immutable BEFORE UPDATE OR DELETE ON ledger_entries
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_entries_immutable;
CREATE TRIGGER ledger_entries_no_truncate BEFORE TRUNCATE ON ledger_entries
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_entries_no_truncate;
-- Entries only ever arrive: an autovacuum by inserted share keeps the index-only scans of the tail cheap.
ALTER TABLE ledger_entries SET (autovacuum_vacuum_insert_scale_factor = 0.02);

-- A checkpoint is a balance up to a sealed entry id. Insert-only and disposable: its presence changes what a
-- balance costs, never what it is.
CREATE TABLE ledger_checkpoints (
  account_id      text NOT NULL REFERENCES accounts,
  up_to_id        bigint NOT NULL CHECK (up_to_id > 0),
  balance_micros  bigint NOT NULL,
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, up_to_id)
);

-- A seal says: every id ≤ sealed_id of the relation is final. Insert-only; the newest row counts.
CREATE TABLE seals (
  relation    text NOT NULL CHECK (relation IN ('ledger_entries', 'outbox')),
  sealed_id   bigint NOT NULL CHECK (sealed_id >= 0),
  sealed_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (relation, sealed_id)
);

GRANT SELECT, INSERT ON ledger_entries TO gpuaas_app;
GRANT SELECT, INSERT, DELETE ON ledger_checkpoints, seals TO gpuaas_app;
