-- E-mail addresses of people, as their issuer names them, and what each person wants no mail of.

-- Empty where no token ever named one. Only what the issuer calls verified is written to.
ALTER TABLE users
  ADD COLUMN email           text NOT NULL DEFAULT '' CHECK (length(email) <= 254),
  ADD COLUMN email_verified  boolean NOT NULL DEFAULT false,
  ADD CONSTRAINT users_email_verified CHECK (email <> '' OR NOT email_verified);

-- A category without a row is on. What must be told whatever somebody prefers has no row.
CREATE TABLE email_preferences (
  user_id     text NOT NULL REFERENCES users,
  category    text NOT NULL CHECK (category IN ('balance', 'budgets', 'payments', 'receipts', 'allocations', 'webhooks', 'invitations')),
  enabled     boolean NOT NULL,
  updated_at  timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (user_id, category)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON email_preferences TO gpuaas_app;

-- Whom an open invitation waits for.
CREATE INDEX tenant_invitations_by_email ON tenant_invitations (lower(email)) WHERE email <> '' AND accepted_at IS NULL AND revoked_at IS NULL;
