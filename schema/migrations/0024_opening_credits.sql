-- Who has had an opening credit, so that nobody gets another one by erasing themselves and signing in again. What is kept of a
-- person is a keyed hash of their identity at the issuer: it can be compared and not read, and outlives their erasure.

CREATE TABLE opening_credits (
  subject_hmac  bytea PRIMARY KEY CHECK (length(subject_hmac) = 32),
  account_id    text NOT NULL REFERENCES accounts,
  created_at    timestamptz(3) NOT NULL DEFAULT now()
);
CREATE TRIGGER opening_credits_immutable BEFORE UPDATE OR DELETE ON opening_credits FOR EACH ROW EXECUTE FUNCTION refuse_change();
ALTER TABLE opening_credits ENABLE ALWAYS TRIGGER opening_credits_immutable;
GRANT SELECT, INSERT ON opening_credits TO gpuaas_app;
