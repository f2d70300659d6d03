-- The request that an audit row answers for. The row is written in the transaction of the change, so it proves that the
-- change was made: a repeat of the request finds it and changes nothing, and the index refuses a second one.
ALTER TABLE audit_logs ADD COLUMN request_id text CHECK (length(request_id) BETWEEN 1 AND 100);
CREATE UNIQUE INDEX audit_logs_by_request ON audit_logs (request_id) WHERE request_id IS NOT NULL;
