-- A person who deletes themselves is nobody afterwards, and a repeat of that request must not make them somebody new. What is kept is a keyed
-- hash of who they were at their issuer and of the request's idempotency key: it names nobody, and tells whether the very same request comes
-- again. Rows that have expired go with the next departure.
CREATE TABLE departures (
  departure_hmac bytea PRIMARY KEY CHECK (length(departure_hmac) = 32),
  expires_at     timestamptz(3) NOT NULL
);
GRANT SELECT, INSERT, DELETE ON departures TO gpuaas_app;
