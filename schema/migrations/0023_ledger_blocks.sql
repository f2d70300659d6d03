-- The hash chain over the ledger: each block holds the hash of a stretch of final entries and of the block before it
-- (domain/hashchain). What changes an entry behind the programs' back no longer fits its block.

CREATE TABLE ledger_blocks (
  number           bigint PRIMARY KEY CHECK (number > 0),
  after_id         bigint NOT NULL CHECK (after_id >= 0),
  up_to_id         bigint NOT NULL,
  entries          bigint NOT NULL CHECK (entries > 0),
  encoding         integer NOT NULL CHECK (encoding > 0),
  previous_sha256  bytea NOT NULL CHECK (length(previous_sha256) = 32),
  sha256           bytea NOT NULL CHECK (length(sha256) = 32),
  created_at       timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  -- NULL for the first block, which follows nothing
  previous_number  bigint GENERATED ALWAYS AS (nullif(number - 1, 0)) STORED,
  CONSTRAINT ledger_blocks_stretch CHECK (up_to_id - after_id >= entries),
  CONSTRAINT ledger_blocks_first CHECK (number > 1 OR (after_id = 0 AND previous_sha256 = decode(repeat('00', 32), 'hex'))),
  UNIQUE (number, sha256, up_to_id),
  CONSTRAINT ledger_blocks_chain FOREIGN KEY (previous_number, previous_sha256, after_id) REFERENCES ledger_blocks (number, sha256, up_to_id)
);
CREATE TRIGGER ledger_blocks_immutable BEFORE UPDATE OR DELETE ON ledger_blocks FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE ledger_blocks ENABLE ALWAYS TRIGGER ledger_blocks_immutable;
CREATE TRIGGER ledger_blocks_no_truncate BEFORE TRUNCATE ON ledger_blocks FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE ledger_blocks ENABLE ALWAYS TRIGGER ledger_blocks_no_truncate;
GRANT SELECT, INSERT ON ledger_blocks TO gpuaas_app;
