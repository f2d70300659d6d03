-- The relay's place in the outbox. One of several relays leads at a time, for an epoch: the cursor is moved under it alone.
CREATE TABLE outbox_relay (
  singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  cursor_id    bigint NOT NULL DEFAULT 0 CHECK (cursor_id >= 0),
  epoch        bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
  leader       text NOT NULL DEFAULT '',
  leads_until  timestamptz(3) NOT NULL DEFAULT to_timestamp(0),
  moved_at     timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO outbox_relay DEFAULT VALUES;

-- The cursor passes nothing that is not final, and goes back only in a new epoch, so that whoever led before cannot undo it.
CREATE FUNCTION outbox_relay_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.epoch < OLD.epoch OR (NEW.cursor_id < OLD.cursor_id AND NEW.epoch = OLD.epoch) THEN
    RAISE EXCEPTION 'the cursor of the outbox goes back in a new epoch alone'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'outbox_relay_epoch';
  END IF;
  IF NEW.cursor_id > OLD.cursor_id AND NEW.cursor_id > (SELECT coalesce(max(sealed_id), 0) FROM seals WHERE relation = 'outbox') THEN
    RAISE EXCEPTION 'the cursor of the outbox cannot pass what is sealed'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'outbox_relay_sealed';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER outbox_relay_guard BEFORE UPDATE ON outbox_relay FOR EACH ROW EXECUTE FUNCTION outbox_relay_guard();
ALTER TABLE outbox_relay ENABLE ALWAYS TRIGGER outbox_relay_guard;
CREATE TRIGGER outbox_relay_stays BEFORE DELETE OR TRUNCATE ON outbox_relay FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE outbox_relay ENABLE ALWAYS TRIGGER outbox_relay_stays;
GRANT SELECT, UPDATE ON outbox_relay TO gpuaas_app;

-- Dead letters leave through the outbox too: what gave up on a message writes the letter in the transaction of giving up.
ALTER TABLE outbox DROP CONSTRAINT outbox_stream_check,
  ADD CONSTRAINT outbox_stream_check CHECK (stream IN ('BILLING', 'PAYMENTS', 'PROVISIONING', 'DLQ'));

-- Removes the days that are older than the retention and published to their last row; answers how many. Never less than a day stays.
CREATE FUNCTION outbox_drop_partitions(keep interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  published bigint;
  newest bigint;
  partition record;
  dropped integer := 0;
BEGIN
  IF keep < interval '24 hours' THEN
    RAISE EXCEPTION 'the outbox keeps what it published for at least 24 hours'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'outbox_retention';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('outbox_make_partitions'));
  -- A rewind waits until the days it could have gone back to are gone, or is seen.
  SELECT cursor_id INTO published FROM outbox_relay FOR NO KEY UPDATE;
  FOR partition IN
    SELECT c.relname AS name, to_date(right(c.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{8}$'
  LOOP
    CONTINUE WHEN (partition.day + 1)::timestamp AT TIME ZONE 'UTC' > now() - keep;
    EXECUTE format('SELECT coalesce(max(id), 0) FROM %I', partition.name) INTO newest;
    CONTINUE WHEN newest > published;
    EXECUTE format('DROP TABLE %I', partition.name);
    dropped := dropped + 1;
  END LOOP;
  DELETE FROM outbox_default WHERE created_at < now() - keep AND id <= published;
  RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION outbox_drop_partitions(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox_drop_partitions(interval) TO gpuaas_app;
