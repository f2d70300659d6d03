-- The fleet: nodes, their heartbeats (a table of its own, unlogged, because beats are many and only edges matter),
-- enrolment tokens, and the leases that say who has custody of a node.

CREATE TABLE nodes (
  id             text PRIMARY KEY CHECK (id ~ '^node_[a-z2-7]{26}$'),
  sku_id         text NOT NULL REFERENCES skus,
  hostname       text NOT NULL UNIQUE CHECK (length(hostname) BETWEEN 1 AND 253),
  reachability   text NOT NULL DEFAULT 'enrolled' CHECK (reachability IN ('enrolled', 'online', 'offline')),
  scheduling     text NOT NULL DEFAULT 'open' CHECK (scheduling IN ('open', 'cordoned', 'draining', 'quarantined', 'denied')),
  reason         text NOT NULL DEFAULT '',
  -- the claim in force, also the row that two claims compete for; node_leases is the history
  claimed_by     text CHECK (claimed_by ~ '^alloc_[a-z2-7]{26}$'),
  generation     bigint NOT NULL DEFAULT 0 CHECK (generation >= 0),
  version        bigint NOT NULL DEFAULT 1,
  inventory      jsonb NOT NULL DEFAULT '{}'::jsonb,
  ssh_host       text NOT NULL DEFAULT '',
  ssh_port       integer NOT NULL DEFAULT 0 CHECK (ssh_port BETWEEN 0 AND 65535),
  ssh_host_key   text NOT NULL DEFAULT '',
  enrolled_at    timestamptz(3) NOT NULL DEFAULT now(),
  updated_at     timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX nodes_by_time ON nodes (enrolled_at DESC, id DESC);
CREATE INDEX nodes_claimable ON nodes (sku_id) WHERE claimed_by IS NULL AND reachability = 'online' AND scheduling = 'open';

CREATE TABLE node_leases (
  node_id        text NOT NULL REFERENCES nodes,
  generation     bigint NOT NULL CHECK (generation > 0),
  allocation_id  text NOT NULL CHECK (allocation_id ~ '^alloc_[a-z2-7]{26}$'),
  -- which claim of its allocation this is: the claim that follows a given one is the next ordinal
  ordinal        integer NOT NULL CHECK (ordinal > 0),
  claimed_at     timestamptz(3) NOT NULL DEFAULT now(),
  -- given up: the allocation went on without this node; custody stays until the node is proven clean
  given_up_at    timestamptz(3),
  closed_at      timestamptz(3),
  -- why it may be handed on: scrub.verify at this generation, a re-image, or an operator's explicit word
  closed_by      text CHECK (closed_by IN ('scrub_verify', 'reimage', 'operator')),
  evidence       jsonb NOT NULL DEFAULT '{}'::jsonb,
  PRIMARY KEY (node_id, generation),
  CHECK ((closed_at IS NULL) = (closed_by IS NULL))
);
CREATE UNIQUE INDEX node_leases_one_open ON node_leases (node_id) WHERE closed_at IS NULL;
CREATE UNIQUE INDEX node_leases_allocation ON node_leases (allocation_id, ordinal);

CREATE UNLOGGED TABLE node_heartbeats (
  node_id        text PRIMARY KEY,
  last_seen_at   timestamptz(3) NOT NULL,
  agent_version  text NOT NULL DEFAULT '',
  report         jsonb NOT NULL DEFAULT '{}'::jsonb
) WITH (fillfactor = 50);

CREATE TABLE node_enrol_tokens (
  token_sha256   bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
  node_id        text NOT NULL CHECK (node_id ~ '^node_[a-z2-7]{26}$'),
  sku_id         text NOT NULL REFERENCES skus,
  hostname       text NOT NULL,
  created_by     text NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  expires_at     timestamptz(3) NOT NULL,
  used_at        timestamptz(3),
  -- the key that used it (SHA-256 of its public half): the same key may ask again within the token's time
  used_by_key    bytea CHECK (length(used_by_key) = 32),
  CHECK ((used_at IS NULL) = (used_by_key IS NULL))
);
CREATE INDEX nodes_denied ON nodes (id) WHERE scheduling = 'denied';

GRANT SELECT, INSERT, UPDATE ON nodes, node_leases, node_heartbeats, node_enrol_tokens TO gpuaas_app;
