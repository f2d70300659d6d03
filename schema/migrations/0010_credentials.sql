-- What a program signs in with: service accounts and their secrets, the access tokens that a secret is exchanged for, and the
-- personal access tokens of users. Only SHA-256 of a secret is kept; 256 random bits need no slower hash. And the SSH public
-- keys that users keep for their allocations.

ALTER TABLE tenant_members DROP CONSTRAINT tenant_members_source_check;
ALTER TABLE tenant_members ADD CONSTRAINT tenant_members_source_check
  CHECK (source IN ('sign_up', 'organisation', 'invitation', 'operator', 'service_account'));

-- A service account is a row of users of kind service and a member of the tenant, or of the one project that is named.
CREATE TABLE service_accounts (
  user_id      text PRIMARY KEY REFERENCES users,
  tenant_id    text NOT NULL REFERENCES tenants,
  project_id   text,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
  created_by   text NOT NULL,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  disabled_at  timestamptz(3),
  UNIQUE (tenant_id, name),
  FOREIGN KEY (project_id, tenant_id) REFERENCES projects (id, tenant_id)
);
CREATE INDEX service_accounts_by_time ON service_accounts (tenant_id, created_at DESC, user_id DESC);
CREATE TRIGGER service_accounts_told AFTER UPDATE ON service_accounts FOR EACH ROW EXECUTE FUNCTION tell_identity_change();

-- A service account never owns a tenant: what a program holds must not be the last way in.
CREATE FUNCTION service_accounts_own_nothing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM users WHERE id = NEW.user_id AND kind = 'service') THEN
    RAISE EXCEPTION 'the service account % cannot own anything', NEW.user_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'service_accounts_own_nothing';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER tenant_members_no_service_owner BEFORE INSERT OR UPDATE ON tenant_members
  FOR EACH ROW WHEN (NEW.role = 'owner') EXECUTE FUNCTION service_accounts_own_nothing();
CREATE TRIGGER project_members_no_service_owner BEFORE INSERT OR UPDATE ON project_members
  FOR EACH ROW WHEN (NEW.role = 'owner') EXECUTE FUNCTION service_accounts_own_nothing();

CREATE TABLE credentials (
  id               text PRIMARY KEY CHECK (id ~ '^cred_[a-z2-7]{26}$'),
  kind             text NOT NULL CHECK (kind IN ('personal', 'secret', 'access')),
  user_id          text NOT NULL REFERENCES users,
  sha256           bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
  name             text NOT NULL DEFAULT '' CHECK (length(name) <= 63),
  -- what it is good for at most; a secret is good for nothing but being exchanged
  scopes           text[] NOT NULL DEFAULT '{}',
  -- the credential in hand when this one was made: it dies with it
  parent_id        text REFERENCES credentials ON DELETE CASCADE,
  -- for how long the secrets before it were left valid, in seconds
  overlap_seconds  bigint CHECK (overlap_seconds >= 0),
  created_by       text NOT NULL,
  created_at       timestamptz(3) NOT NULL DEFAULT now(),
  expires_at       timestamptz(3),
  last_used_at     timestamptz(3),
  revoked_at       timestamptz(3),
  CHECK (kind = 'secret' OR expires_at IS NOT NULL),
  CHECK ((kind = 'access') <= (parent_id IS NOT NULL)),
  CHECK ((kind = 'secret') = (overlap_seconds IS NOT NULL))
);
CREATE INDEX credentials_of_user ON credentials (user_id, kind, created_at DESC, id DESC);
CREATE INDEX credentials_of_parent ON credentials (parent_id) WHERE parent_id IS NOT NULL;

-- A replica that remembers a credential hears of its end at once; that it was used is told to nobody.
CREATE TRIGGER credentials_told AFTER UPDATE OF revoked_at, expires_at, scopes ON credentials FOR EACH ROW EXECUTE FUNCTION tell_identity_change();

-- When a credential, or one that it was made with, was revoked; null while none was.
CREATE FUNCTION credential_revoked_at(credential text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  WITH RECURSIVE line AS (
    SELECT id, parent_id, revoked_at FROM credentials WHERE id = credential
    UNION ALL
    SELECT parent.id, parent.parent_id, parent.revoked_at FROM credentials AS parent JOIN line ON parent.id = line.parent_id
  )
  SELECT min(revoked_at) FROM line
$$;

CREATE TABLE ssh_keys (
  id           text PRIMARY KEY CHECK (id ~ '^key_[a-z2-7]{26}$'),
  tenant_id    text NOT NULL REFERENCES tenants,
  project_id   text NOT NULL,
  user_id      text NOT NULL REFERENCES users,
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 63),
  -- type and key alone, in authorized_keys form
  public_key   text NOT NULL,
  fingerprint  text NOT NULL CHECK (fingerprint ~ '^SHA256:[A-Za-z0-9+/]{43}$'),
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  FOREIGN KEY (project_id, tenant_id) REFERENCES projects (id, tenant_id),
  UNIQUE (project_id, fingerprint)
);
CREATE INDEX ssh_keys_by_time ON ssh_keys (tenant_id, project_id, created_at DESC, id DESC);

GRANT SELECT, INSERT, UPDATE ON service_accounts TO gpuaas_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON credentials TO gpuaas_app;
GRANT SELECT, INSERT, DELETE ON ssh_keys TO gpuaas_app;
