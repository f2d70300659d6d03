-- Rows written in the same transaction as the change they tell of: the outbox (read by the relay alone) and the
-- audit log; and the policy values with their history.

CREATE TABLE outbox (
  id            bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
  stream        text NOT NULL CHECK (stream IN ('BILLING', 'PAYMENTS', 'PROVISIONING')),
  subject       text NOT NULL,
  msg_id        text NOT NULL,
  aggregate_id  text NOT NULL,
  payload       jsonb NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);
CREATE INDEX outbox_by_id ON outbox (id);
CREATE TRIGGER outbox_xid_first BEFORE INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION take_xid_first();
ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_xid_first;
-- Partitions are made ahead of time by outbox_make_partitions; what slips past them lands in the default.
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;

-- Makes the partitions of the days from one date to another, inclusive; safe to run twice.
CREATE FUNCTION outbox_make_partitions(first_day date, last_day date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  day date := first_day;
  made integer := 0;
  partition text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('outbox_make_partitions'));
  WHILE day <= last_day LOOP
    partition := 'outbox_' || to_char(day, 'YYYYMMDD');
    IF to_regclass(partition) IS NULL AND NOT EXISTS (
      SELECT FROM outbox_default WHERE created_at >= day::timestamp AT TIME ZONE 'UTC' AND created_at < (day + 1)::timestamp AT TIME ZONE 'UTC') THEN
      EXECUTE format('CREATE TABLE %I PARTITION OF outbox FOR VALUES FROM (%L) TO (%L)', partition,
        day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
      made := made + 1;
    END IF;
    day := day + 1;
  END LOOP;
  RETURN made;
END $$;
SELECT outbox_make_partitions((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + 7);
REVOKE ALL ON FUNCTION outbox_make_partitions(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox_make_partitions(date, date) TO gpuaas_app;

CREATE TABLE audit_logs (
  id             bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  tenant_id      text,
  actor_user_id  text NOT NULL,
  actor_role     text NOT NULL,
  action         text NOT NULL,
  target_type    text NOT NULL,
  target_id      text NOT NULL,
  result         text NOT NULL CHECK (result IN ('success', 'refused')),
  details        jsonb NOT NULL DEFAULT '{}'::jsonb,
  correlation_id text NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_logs_by_target ON audit_logs (target_type, target_id, id);
CREATE INDEX audit_logs_by_actor ON audit_logs (actor_user_id, id);
CREATE TRIGGER audit_logs_immutable BEFORE UPDATE OR DELETE ON audit_logs
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_immutable;
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_no_truncate;

-- A policy's history is its table: the newest version of a key counts; without one the authored default does.
CREATE TABLE policy_values (
  key            text NOT NULL,
  version        bigint NOT NULL CHECK (version > 0),
  value          jsonb NOT NULL,
  reason         text NOT NULL DEFAULT '',
  actor_user_id  text NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (key, version)
);
CREATE TRIGGER policy_values_immutable BEFORE UPDATE OR DELETE ON policy_values
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE policy_values ENABLE ALWAYS TRIGGER policy_values_immutable;

GRANT SELECT, INSERT ON outbox, audit_logs, policy_values TO gpuaas_app;

-- An idle writing transaction in any database of the cluster stalls the seal: bound both.
ALTER ROLE gpuaas_app SET statement_timeout = '15s';
ALTER ROLE gpuaas_app SET idle_in_transaction_session_timeout = '10s';
