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
  reverses_id        bigint REFERENCES ledger_entries,
  created_at         timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  -- NULL unless usage, because a foreign key cannot target a partial index
  usage_allocation_id text GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN allocation_id END) STORED,
  usage_start         timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN period_start END) STORED,
  usage_end           timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN period_end END) STORED,
  usage_prev_end      timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' THEN prev_end END) STORED,
  usage_head          timestamptz(3) GENERATED ALWAYS AS (CASE WHEN kind = 'usage' AND prev_end IS NULL THEN period_start END) STORED,
  CONSTRAINT ledger_two_accounts CHECK (debit_account_id <> credit_account_id),
  CONSTRAINT ledger_amount CHECK (CASE WHEN kind = 'usage' THEN amount_micros >= 0 ELSE amount_micros > 0 END),
  CONSTRAINT ledger_allocation CHECK ((kind IN ('usage', 'usage_credit', 'outage_credit')) = (allocation_id IS NOT NULL)),
  CONSTRAINT ledger_period_pair CHECK ((period_start IS NULL) = (period_end IS NULL)),
  CONSTRAINT ledger_period CHECK (period_end > period_start),
  CONSTRAINT ledger_metered_period CHECK (kind NOT IN ('usage', 'usage_credit', 'outage_credit') OR period_start IS NOT NULL),
  CONSTRAINT ledger_prev_end CHECK (prev_end IS NULL OR (kind = 'usage' AND prev_end = period_start)),
  CONSTRAINT ledger_debit_currency FOREIGN KEY (debit_account_id, currency) REFERENCES accounts (id, currency),
  CONSTRAINT ledger_credit_currency FOREIGN KEY (credit_account_id, currency) REFERENCES accounts (id, currency),
  CONSTRAINT ledger_usage_account FOREIGN KEY (usage_allocation_id, debit_account_id) REFERENCES allocations (id, account_id),
  -- one head an allocation, at the anchor; every other window starts where a stored one ended
  CONSTRAINT ledger_usage_anchor FOREIGN KEY (usage_allocation_id, usage_head) REFERENCES allocations (id, metered_from),
  CONSTRAINT ledger_usage_end UNIQUE (usage_allocation_id, usage_end),
  CONSTRAINT ledger_usage_chain FOREIGN KEY (usage_allocation_id, usage_prev_end) REFERENCES ledger_entries (usage_allocation_id, usage_end)
);
CREATE UNIQUE INDEX ledger_usage_once ON ledger_entries (allocation_id, period_start) WHERE kind = 'usage';
CREATE UNIQUE INDEX ledger_usage_one_head ON ledger_entries (usage_allocation_id) WHERE usage_head IS NOT NULL;
CREATE UNIQUE INDEX ledger_reverses_once ON ledger_entries (reverses_id) WHERE reverses_id IS NOT NULL;
-- What an allocation was given back; its usage is found by ledger_usage_once.
CREATE INDEX ledger_credits_of_allocation ON ledger_entries (allocation_id, id) WHERE allocation_id IS NOT NULL AND kind <> 'usage';
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

-- A seal holds only if every writing transaction takes its xid before nextval runs. The programs do so in a
-- statement of their own; this makes it true of anybody, because a statement trigger fires before the first row.
CREATE FUNCTION take_xid_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_current_xact_id();
  RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_xid_first BEFORE INSERT ON ledger_entries
  FOR EACH STATEMENT EXECUTE FUNCTION take_xid_first();
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_entries_xid_first;

-- The end of a meter: one row an allocation, written by the settlement of its end. After it, no usage beyond
-- metered_to and no outage credit is ever accepted, however late or stale a posting arrives.
CREATE TABLE ledger_settlements (
  allocation_id  text PRIMARY KEY,
  account_id     text NOT NULL,
  metered_to     timestamptz(3) NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  FOREIGN KEY (allocation_id, account_id) REFERENCES allocations (id, account_id)
);

-- A posting in flight holds its allocation by its foreign key (KEY SHARE). FOR UPDATE waits for it, so a settlement
-- sees every window there is, and a posting that comes later waits and then sees the settlement.
CREATE FUNCTION ledger_settlements_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM allocations WHERE id = NEW.allocation_id FOR UPDATE;
  RETURN NEW;
END $$;
CREATE TRIGGER ledger_settlements_lock BEFORE INSERT ON ledger_settlements
  FOR EACH ROW EXECUTE FUNCTION ledger_settlements_lock();
ALTER TABLE ledger_settlements ENABLE ALWAYS TRIGGER ledger_settlements_lock;
CREATE TRIGGER ledger_settlements_immutable BEFORE UPDATE OR DELETE ON ledger_settlements
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE ledger_settlements ENABLE ALWAYS TRIGGER ledger_settlements_immutable;
CREATE TRIGGER ledger_settlements_no_truncate BEFORE TRUNCATE ON ledger_settlements
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE ledger_settlements ENABLE ALWAYS TRIGGER ledger_settlements_no_truncate;

-- Fires once a statement, after the foreign keys of all its rows were checked: each allocation is held by then.
CREATE FUNCTION ledger_meter_open() RETURNS trigger LANGUAGE plpgsql AS $$
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
    WHERE (entry.kind = 'usage' AND entry.period_end > settlement.metered_to) OR entry.kind = 'outage_credit'
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the meter of % ended at %', closed.allocation_id, closed.metered_to
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'ledger_meter_open';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER ledger_meter_open AFTER INSERT ON ledger_entries
  REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ledger_meter_open();
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_meter_open;

-- A checkpoint is a balance up to a sealed entry id. Insert-only and disposable: its presence changes what a
-- balance costs, never what it is.
CREATE TABLE ledger_checkpoints (
  account_id      text NOT NULL REFERENCES accounts,
  up_to_id        bigint NOT NULL CHECK (up_to_id > 0),
  balance_micros  bigint NOT NULL,
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, up_to_id)
);

-- A seal says: every id ≤ sealed_id of the relation is final. The highest one counts; older ones are disposable.
CREATE TABLE seals (
  relation    text NOT NULL CHECK (relation IN ('ledger_entries', 'outbox')),
  sealed_id   bigint NOT NULL CHECK (sealed_id >= 0),
  sealed_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (relation, sealed_id)
);

GRANT SELECT, INSERT ON ledger_entries, ledger_settlements TO gpuaas_app;
GRANT SELECT, INSERT, DELETE ON ledger_checkpoints, seals TO gpuaas_app;
