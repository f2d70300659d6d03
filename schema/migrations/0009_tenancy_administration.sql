-- What the administration of tenants must never do, said by the database: an allocation begins in no archived project, a
-- project in use is not archived, somebody active always operates the platform. And invitations.

-- An archived project gives its name back.
ALTER TABLE projects
  ADD COLUMN archived_at timestamptz(3),
  ADD CONSTRAINT projects_default_stays CHECK (archived_at IS NULL OR NOT is_default),
  DROP CONSTRAINT projects_tenant_id_name_key;
CREATE UNIQUE INDEX projects_one_of_a_name ON projects (tenant_id, name) WHERE archived_at IS NULL;

-- An admission and an archiving of its project take turns at the project's row.
CREATE FUNCTION allocation_in_open_project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM projects WHERE id = NEW.project_id AND archived_at IS NULL FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the project % is archived', NEW.project_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'allocations_project_open';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER allocations_project_open AFTER INSERT ON allocations FOR EACH ROW EXECUTE FUNCTION allocation_in_open_project();
ALTER TABLE allocations ENABLE ALWAYS TRIGGER allocations_project_open;

CREATE FUNCTION project_in_use_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM allocations WHERE tenant_id = NEW.tenant_id AND project_id = NEW.id AND state NOT IN ('released', 'failed')) THEN
    RAISE EXCEPTION 'the project % is in use', NEW.id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'projects_in_use';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER projects_in_use AFTER UPDATE OF archived_at ON projects FOR EACH ROW
  WHEN (NEW.archived_at IS NOT NULL AND OLD.archived_at IS NULL) EXECUTE FUNCTION project_in_use_stays();
ALTER TABLE projects ENABLE ALWAYS TRIGGER projects_in_use;
CREATE INDEX allocations_running_by_project ON allocations (project_id) WHERE state NOT IN ('released', 'failed');

-- Somebody whom an operator registered by name alone: the first sign-in under this name takes the row over and writes its subject into
-- it. Until then the subject is a random text that nobody knows.
ALTER TABLE users ADD COLUMN awaited boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX users_awaited ON users (issuer, username) WHERE awaited;

-- Somebody active operates the platform from the first appointment on. What the issuer alone gave, the issuer may take away:
-- its word is followed at a sign-in, and refusing it would only lock its bearer out. Two changes at once take turns.
CREATE FUNCTION platform_keeps_an_admin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('platform_admins', 9));
  -- A row of platform_admins has no id: the inner question is only ever asked of a user.
  IF TG_TABLE_NAME = 'users' THEN
    IF NOT EXISTS (SELECT FROM platform_admins WHERE user_id = NEW.id) THEN
      RETURN NULL;
    END IF;
  END IF;
  IF NOT EXISTS (SELECT FROM platform_admins AS admin JOIN users ON users.id = admin.user_id WHERE users.status = 'active') THEN
    RAISE EXCEPTION 'the last platform admin stays'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'platform_admins_last';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER platform_admins_last AFTER DELETE ON platform_admins FOR EACH ROW
  WHEN (OLD.source = 'appointed') EXECUTE FUNCTION platform_keeps_an_admin();
ALTER TABLE platform_admins ENABLE ALWAYS TRIGGER platform_admins_last;
CREATE TRIGGER users_last_platform_admin AFTER UPDATE OF status ON users FOR EACH ROW
  WHEN (OLD.status = 'active' AND NEW.status <> 'active') EXECUTE FUNCTION platform_keeps_an_admin();
ALTER TABLE users ENABLE ALWAYS TRIGGER users_last_platform_admin;

-- An invitation is good once, for whoever holds its token, of which the hash alone is kept. The note may name a person.
CREATE TABLE tenant_invitations (
  id           text PRIMARY KEY CHECK (id ~ '^inv_[a-z2-7]{26}$'),
  tenant_id    text NOT NULL REFERENCES tenants,
  project_id   text,
  role         text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'billing')),
  email        text NOT NULL DEFAULT '' CHECK (length(email) <= 254),
  note         text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
  token_hash   bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
  invited_by   text NOT NULL REFERENCES users,
  created_at   timestamptz(3) NOT NULL DEFAULT now(),
  expires_at   timestamptz(3) NOT NULL,
  revoked_at   timestamptz(3),
  accepted_at  timestamptz(3),
  accepted_by  text REFERENCES users,
  FOREIGN KEY (project_id, tenant_id) REFERENCES projects (id, tenant_id),
  CHECK (project_id IS NULL OR role IN ('admin', 'member', 'viewer')),
  CHECK ((accepted_at IS NULL) = (accepted_by IS NULL)),
  CHECK (accepted_at IS NULL OR revoked_at IS NULL)
);
CREATE INDEX tenant_invitations_by_tenant ON tenant_invitations (tenant_id, created_at DESC, id DESC);
CREATE INDEX tenant_invitations_by_inviter ON tenant_invitations (invited_by) WHERE accepted_at IS NULL AND revoked_at IS NULL;
GRANT SELECT, INSERT, UPDATE ON tenant_invitations TO gpuaas_app;
