-- What a project may spend. A budget is a version; one without an amount ends it.
CREATE TABLE project_budgets (
  tenant_id        text NOT NULL,
  project_id       text NOT NULL,
  version          bigint NOT NULL CHECK (version > 0),
  amount_micros    bigint CHECK (amount_micros > 0),
  period           text NOT NULL CHECK (period IN ('month', 'total')),
  warning_percent  integer NOT NULL CHECK (warning_percent BETWEEN 1 AND 100),
  actor_user_id    text NOT NULL,
  created_at       timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (project_id, version),
  FOREIGN KEY (project_id, tenant_id) REFERENCES projects (id, tenant_id)
);
CREATE TRIGGER project_budgets_immutable BEFORE UPDATE OR DELETE ON project_budgets FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE project_budgets ENABLE ALWAYS TRIGGER project_budgets_immutable;
GRANT SELECT, INSERT ON project_budgets TO gpuaas_app;

-- One row when a budget's warning or its end was reached, once a version and period, written with its event.
CREATE TABLE budget_crossings (
  tenant_id       text NOT NULL,
  project_id      text NOT NULL,
  version         bigint NOT NULL,
  -- when the period began; the beginning of time for a budget of all the time
  period_start    timestamptz(3) NOT NULL,
  rung            text NOT NULL CHECK (rung IN ('budget_warning', 'budget_exhausted')),
  at              timestamptz(3) NOT NULL,
  spent_micros    bigint NOT NULL,
  correlation_id  text NOT NULL,
  created_at      timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (project_id, version, period_start, rung),
  FOREIGN KEY (project_id, version) REFERENCES project_budgets (project_id, version),
  FOREIGN KEY (project_id, tenant_id) REFERENCES projects (id, tenant_id)
);
CREATE TRIGGER budget_crossings_immutable BEFORE UPDATE OR DELETE ON budget_crossings FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE budget_crossings ENABLE ALWAYS TRIGGER budget_crossings_immutable;
GRANT SELECT, INSERT ON budget_crossings TO gpuaas_app;

CREATE INDEX allocations_metered_in_project ON allocations (project_id, metered_to) WHERE metered_from IS NOT NULL;

-- Whoever watches the tenant's account is told, as of a change of policy.
CREATE FUNCTION project_budget_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('policy_changed', 'project.budget ' || NEW.tenant_id);
  RETURN NULL;
END $$;
CREATE TRIGGER project_budgets_changed AFTER INSERT ON project_budgets FOR EACH ROW EXECUTE FUNCTION project_budget_changed();
