-- name: ReconciliationRunInsert
INSERT INTO reconciliation_runs (id, asked_by, whole) VALUES (@id, @asked_by, @whole) ON CONFLICT (id) DO NOTHING;

-- name: ReconciliationRunGet
SELECT id, coalesce(asked_by, '') AS asked_by, whole, state, checks, opened, resolved, entries_up_to, started_at, ended_at
FROM reconciliation_runs WHERE id = @id;

-- name: ReconciliationRunPage
SELECT id, coalesce(asked_by, '') AS asked_by, whole, state, checks, opened, resolved, entries_up_to, started_at, ended_at
FROM reconciliation_runs
WHERE @before_id::text IS NULL OR (started_at, id) < (@before_time::timestamptz, @before_id)
ORDER BY started_at DESC, id DESC LIMIT @row_limit;

-- name: ReconciliationEntriesDone
-- Up to which entry the runs before have looked.
SELECT coalesce(max(entries_up_to), 0)::bigint AS entries_up_to FROM reconciliation_runs WHERE state <> 'running';

-- name: ReconciliationRunEnd
UPDATE reconciliation_runs SET state = @state, checks = @checks, opened = @opened, resolved = @resolved, entries_up_to = @entries_up_to, ended_at = clock_timestamp()
WHERE id = @id AND state = 'running';

-- name: FindingStanding
-- Held until the end of the transaction.
SELECT id, state, amount_micros FROM reconciliation_findings WHERE kind = @kind AND subject = @subject AND state <> 'resolved' FOR NO KEY UPDATE;

-- name: FindingInsert
INSERT INTO reconciliation_findings (id, check_name, kind, subject, sentence, detail, account_id, currency, amount_micros, manner, first_run_id, last_run_id)
VALUES (@id, @check_name, @kind, @subject, @sentence, @detail, @account_id, @currency, @amount_micros, @manner, @run_id, @run_id)
ON CONFLICT (kind, subject) WHERE state <> 'resolved' DO NOTHING;

-- name: FindingSeen
-- One that was dismissed and has changed is open again.
UPDATE reconciliation_findings SET sentence = @sentence, detail = @detail, account_id = @account_id, currency = @currency, amount_micros = @amount_micros, manner = @manner,
  last_run_id = @run_id, last_seen_at = clock_timestamp(),
  state = CASE WHEN state = 'dismissed' AND amount_micros <> @amount_micros THEN 'open' ELSE state END
WHERE id = @id AND state <> 'resolved';

-- name: FindingCorrected
-- Whether a correction of a finding was posted, and whether since this run began.
SELECT count(*) > 0 AS corrected, coalesce(bool_or(posted_at >= (SELECT started_at FROM reconciliation_runs WHERE reconciliation_runs.id = @run_id)), false) AS meanwhile
FROM reconciliation_corrections WHERE finding_id = @id AND entry_id IS NOT NULL;

-- name: FindingResolve
UPDATE reconciliation_findings SET state = 'resolved', resolved_at = clock_timestamp(), resolved_run_id = @run_id WHERE id = @id AND state <> 'resolved';

-- name: FindingsResolve
-- What a check saw before this run began, and not since.
UPDATE reconciliation_findings SET state = 'resolved', resolved_at = clock_timestamp(), resolved_run_id = @run_id
WHERE check_name = ANY (@checks::text[]) AND state <> 'resolved' AND last_seen_at < (SELECT started_at FROM reconciliation_runs WHERE reconciliation_runs.id = @run_id);

-- name: FindingsOfRun
SELECT count(*) FILTER (WHERE first_run_id = @run_id) AS opened, count(*) FILTER (WHERE resolved_run_id = @run_id) AS resolved
FROM reconciliation_findings WHERE first_run_id = @run_id OR resolved_run_id = @run_id;

-- name: FindingSubjects
-- What is not resolved is looked at again by every run, however old it is.
SELECT subject FROM reconciliation_findings WHERE check_name = @check_name AND state <> 'resolved' ORDER BY subject LIMIT @row_limit;

-- name: FindingOldest
SELECT min(first_seen_at) AS first_seen_at FROM reconciliation_findings WHERE check_name = @check_name AND state <> 'resolved';

-- name: FindingGet
SELECT id, check_name, kind, subject, sentence, detail, coalesce(account_id, '') AS account_id, coalesce(currency, '') AS currency, amount_micros,
  coalesce(manner, '') AS manner, state, coalesce(dismissed_by, '') AS dismissed_by, dismissed_reason, first_run_id, last_run_id,
  coalesce(resolved_run_id, '') AS resolved_run_id, first_seen_at, last_seen_at, resolved_at
FROM reconciliation_findings WHERE id = @id;

-- name: FindingHold
SELECT id, check_name, kind, subject, sentence, detail, coalesce(account_id, '') AS account_id, coalesce(currency, '') AS currency, amount_micros,
  coalesce(manner, '') AS manner, state, coalesce(dismissed_by, '') AS dismissed_by, dismissed_reason, first_run_id, last_run_id,
  coalesce(resolved_run_id, '') AS resolved_run_id, first_seen_at, last_seen_at, resolved_at
FROM reconciliation_findings WHERE id = @id FOR NO KEY UPDATE;

-- name: FindingPage
SELECT id, check_name, kind, subject, sentence, detail, coalesce(account_id, '') AS account_id, coalesce(currency, '') AS currency, amount_micros,
  coalesce(manner, '') AS manner, state, coalesce(dismissed_by, '') AS dismissed_by, dismissed_reason, first_run_id, last_run_id,
  coalesce(resolved_run_id, '') AS resolved_run_id, first_seen_at, last_seen_at, resolved_at
FROM reconciliation_findings
WHERE (@state::text IS NULL OR state = @state) AND (@kind::text IS NULL OR kind = @kind)
  AND (@before_id::text IS NULL OR (first_seen_at, id) < (@before_time::timestamptz, @before_id))
ORDER BY first_seen_at DESC, id DESC LIMIT @row_limit;

-- name: FindingDismiss
UPDATE reconciliation_findings SET state = 'dismissed', dismissed_by = @dismissed_by, dismissed_reason = @reason WHERE id = @id AND state = 'open';

-- name: CorrectionInsert
INSERT INTO reconciliation_corrections (id, finding_id, subject, manner, account_id, currency, amount_micros, reason, second_approver, proposed_by)
VALUES (@id, @finding_id, @subject, @manner, @account_id, @currency, @amount_micros, @reason, @second_approver, @proposed_by);

-- name: CorrectionOfFinding
SELECT id, finding_id, subject, manner, account_id, currency, amount_micros, reason, second_approver, proposed_by, proposed_at, coalesce(approved_by, '') AS approved_by,
  posted_at, entry_id, withdrawn_at
FROM reconciliation_corrections WHERE finding_id = @finding_id AND withdrawn_at IS NULL;

-- name: CorrectionGet
SELECT id, finding_id, subject, manner, account_id, currency, amount_micros, reason, second_approver, proposed_by, proposed_at, coalesce(approved_by, '') AS approved_by,
  posted_at, entry_id, withdrawn_at
FROM reconciliation_corrections WHERE id = @id;

-- name: CorrectionHold
-- Held until the end of the transaction: of two approvals the second sees the first.
SELECT id, finding_id, subject, manner, account_id, currency, amount_micros, reason, second_approver, proposed_by, proposed_at, coalesce(approved_by, '') AS approved_by,
  posted_at, entry_id, withdrawn_at
FROM reconciliation_corrections WHERE id = @id FOR NO KEY UPDATE;

-- name: CorrectionWithdraw
UPDATE reconciliation_corrections SET withdrawn_at = clock_timestamp() WHERE id = @id AND entry_id IS NULL AND withdrawn_at IS NULL;

-- name: CorrectionPosted
UPDATE reconciliation_corrections SET approved_by = @approved_by, entry_id = @entry_id, posted_at = clock_timestamp() WHERE id = @id AND entry_id IS NULL AND withdrawn_at IS NULL;

-- name: CorrectedMicros
-- What adjustments have corrected already, by what they are about.
SELECT subject, sum(amount_micros)::bigint AS amount_micros FROM reconciliation_corrections
WHERE subject = ANY (@subjects::text[]) AND entry_id IS NOT NULL AND manner = 'adjustment' GROUP BY subject;

-- name: CorrectionEntries
SELECT entry_id FROM reconciliation_corrections WHERE entry_id = ANY (@entry_ids::bigint[]);
