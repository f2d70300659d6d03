-- The audit log is searched newest first, by tenant or in all of them; and the certificates that were given to nodes, so that
-- evidence can name the ones that were valid while a tenant held a node.

CREATE INDEX audit_logs_newest_of_tenant ON audit_logs (tenant_id, created_at DESC, id DESC) WHERE tenant_id IS NOT NULL;
CREATE INDEX audit_logs_newest ON audit_logs (created_at DESC, id DESC);
CREATE INDEX audit_logs_newest_of_actor ON audit_logs (actor_user_id, created_at DESC, id DESC);
CREATE INDEX audit_logs_newest_of_target ON audit_logs (target_type, target_id, created_at DESC, id DESC);
CREATE INDEX audit_logs_newest_of_action ON audit_logs (action, created_at DESC, id DESC);

CREATE TABLE node_certificates (
  node_id     text NOT NULL CHECK (node_id ~ '^node_[a-z2-7]{26}$'),
  -- the serial number in lower-case hexadecimal
  serial      text NOT NULL CHECK (serial ~ '^[0-9a-f]{1,40}$'),
  not_before  timestamptz(3) NOT NULL,
  not_after   timestamptz(3) NOT NULL,
  issued_at   timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (node_id, serial),
  CHECK (not_after > not_before)
);
CREATE INDEX node_certificates_by_time ON node_certificates (node_id, not_after);
CREATE TRIGGER node_certificates_immutable BEFORE UPDATE OR DELETE ON node_certificates
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE node_certificates ENABLE ALWAYS TRIGGER node_certificates_immutable;

GRANT SELECT, INSERT ON node_certificates TO gpuaas_app;
