-- The end of money: how an account stands on the rungs of its ladder, and when it must be looked at.

-- One row when a rung is reached, one when it is left; insert-only. Each event of the ladder is written in the transaction of its
-- row, so it exists once a crossing however often a step is repeated.
CREATE TABLE funds_crossings (
  tenant_id           text NOT NULL,
  account_id          text NOT NULL,
  rung                text NOT NULL CHECK (rung IN ('low_balance', 'auto_release_pending', 'balance_depleted')),
  crossing            bigint NOT NULL CHECK (crossing > 0),
  fact                text NOT NULL CHECK (fact IN ('reached', 'left')),
  -- the exact instant of the rule for a rung that was reached, when it was found for one that was left
  at                  timestamptz(3) NOT NULL,
  deadline            timestamptz(3),
  balance_micros      bigint NOT NULL,
  available_micros    bigint NOT NULL,
  -- how long after its instant the end of money was found, and what the meters cost in between, which nobody is charged
  late_ms             bigint NOT NULL DEFAULT 0 CHECK (late_ms >= 0),
  written_off_micros  bigint NOT NULL DEFAULT 0 CHECK (written_off_micros >= 0),
  correlation_id      text NOT NULL,
  created_at          timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  -- the row that has to stand before: what is left was reached, and what is reached again was left
  after_crossing      bigint GENERATED ALWAYS AS (CASE WHEN fact = 'left' THEN crossing WHEN crossing > 1 THEN crossing - 1 END) STORED,
  after_fact          text GENERATED ALWAYS AS (CASE WHEN fact = 'left' THEN 'reached' WHEN crossing > 1 THEN 'left' END) STORED,
  PRIMARY KEY (account_id, rung, crossing, fact),
  FOREIGN KEY (account_id, tenant_id) REFERENCES accounts (id, tenant_id),
  FOREIGN KEY (account_id, rung, after_crossing, after_fact) REFERENCES funds_crossings (account_id, rung, crossing, fact),
  CHECK ((deadline IS NOT NULL) = (rung = 'auto_release_pending' AND fact = 'reached')),
  CHECK (late_ms = 0 AND written_off_micros = 0 OR (rung = 'balance_depleted' AND fact = 'reached'))
);
CREATE TRIGGER funds_crossings_immutable BEFORE UPDATE OR DELETE ON funds_crossings FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE funds_crossings ENABLE ALWAYS TRIGGER funds_crossings_immutable;
CREATE TRIGGER funds_crossings_no_truncate BEFORE TRUNCATE ON funds_crossings FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE funds_crossings ENABLE ALWAYS TRIGGER funds_crossings_no_truncate;
GRANT SELECT, INSERT ON funds_crossings TO gpuaas_app;

-- The newest debit that is not usage: what it took out must not end what was used before it.
CREATE INDEX ledger_other_debits ON ledger_entries (debit_account_id, id) INCLUDE (created_at) WHERE kind <> 'usage';

-- What costs money, by account.
CREATE INDEX allocations_costing ON allocations (account_id) WHERE state = 'active' AND suspended_at IS NULL AND rate_micros_per_hour > 0;

-- A change of policy may move every ladder: the key, and the tenant if it holds for one alone.
CREATE FUNCTION policy_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('policy_changed', CASE TG_TABLE_NAME WHEN 'tenant_policy_values' THEN NEW.key || ' ' || (to_jsonb(NEW) ->> 'tenant_id') ELSE NEW.key END);
  RETURN NULL;
END $$;
CREATE TRIGGER policy_values_changed AFTER INSERT ON policy_values FOR EACH ROW EXECUTE FUNCTION policy_changed();
CREATE TRIGGER tenant_policy_values_changed AFTER INSERT ON tenant_policy_values FOR EACH ROW EXECUTE FUNCTION policy_changed();

-- Spending limits that a tenant sets for one allocation, ended by its own timer; null for none.
ALTER TABLE allocations
  ADD COLUMN max_spend_micros bigint CHECK (max_spend_micros > 0),
  ADD COLUMN max_duration_seconds bigint CHECK (max_duration_seconds > 0),
  DROP CONSTRAINT allocations_release_cause_check,
  ADD CONSTRAINT allocations_release_cause_check CHECK (release_cause IN ('tenant', 'admin', 'funds', 'limit', 'provisioning'));
