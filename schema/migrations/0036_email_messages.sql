-- The mails that people are sent: one row an event, or invitation, and recipient. Neither an address nor a text is kept: the address is read
-- when the mail is sent, and what it is written from goes when it has ended.

CREATE TABLE email_messages (
  id               text PRIMARY KEY CHECK (id ~ '^mail_[a-z2-7]{26}$'),
  tenant_id        text NOT NULL REFERENCES tenants,
  -- an event's id; of an invitation one that derives from it
  event_id         uuid NOT NULL,
  kind             text NOT NULL,
  user_id          text REFERENCES users,
  invitation_id    text REFERENCES tenant_invitations,
  payload          jsonb,
  state            text NOT NULL CHECK (state IN ('pending', 'sent', 'refused', 'given_up', 'suppressed')),
  -- what went wrong last, without the address
  detail           text NOT NULL DEFAULT '' CHECK (octet_length(detail) <= 500),
  attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  next_attempt_at  timestamptz(3),
  created_at       timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  -- when the workflow was begun
  begun_at         timestamptz(3),
  ended_at         timestamptz(3),
  CONSTRAINT email_messages_once UNIQUE NULLS NOT DISTINCT (event_id, user_id, invitation_id),
  CONSTRAINT email_messages_recipient CHECK ((user_id IS NULL) <> (invitation_id IS NULL)),
  CONSTRAINT email_messages_ended CHECK ((state = 'pending') = (ended_at IS NULL)),
  CONSTRAINT email_messages_forgotten CHECK ((state = 'pending') = (payload IS NOT NULL))
);
CREATE INDEX email_messages_of_tenant ON email_messages (tenant_id, id);
CREATE INDEX email_messages_of_user ON email_messages (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX email_messages_not_begun ON email_messages (created_at) WHERE state = 'pending' AND begun_at IS NULL;
CREATE INDEX email_messages_by_age ON email_messages (created_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON email_messages TO gpuaas_app;
