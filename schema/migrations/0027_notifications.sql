-- What consumers of events write in the transaction of their own change: the inbox, by which every event is applied once; how often an
-- event could not be applied; and the notifications, which tell people.

CREATE TABLE inbox (
  consumer    text NOT NULL,
  event_id    uuid NOT NULL,
  applied_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, event_id)
);
CREATE INDEX inbox_by_age ON inbox (applied_at);

-- A message is named by its event's id or, where it is no event, by its stream and sequence.
CREATE TABLE inbox_failures (
  consumer   text NOT NULL,
  message    text NOT NULL,
  attempts   integer NOT NULL CHECK (attempts > 0),
  reason     text NOT NULL,
  failed_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, message)
);
CREATE INDEX inbox_failures_by_age ON inbox_failures (failed_at);

-- One row an event, whoever sees it: who may is decided when it is read. Ids are given under one lock (NotificationLock), so that they
-- become visible in their order and a reader who goes on behind the last one misses none.
CREATE TABLE notifications (
  id           bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  tenant_id    text NOT NULL REFERENCES tenants,
  event_id     uuid NOT NULL UNIQUE,
  event_type   text NOT NULL,
  audience     text NOT NULL CHECK (audience IN ('members', 'billing')),
  project_id   text,
  -- whose allocation the event is about
  user_id      text,
  event        jsonb NOT NULL,
  created_at   timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX notifications_by_tenant ON notifications (tenant_id, id);
CREATE INDEX notifications_by_age ON notifications (created_at);

CREATE TABLE notification_reads (
  user_id          text NOT NULL REFERENCES users,
  notification_id  bigint NOT NULL REFERENCES notifications ON DELETE CASCADE,
  read_at          timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, notification_id)
);
CREATE INDEX notification_reads_by_notification ON notification_reads (notification_id);

GRANT SELECT, INSERT, DELETE ON inbox, notifications, notification_reads TO gpuaas_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON inbox_failures TO gpuaas_app;
