package queries

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
)

// How a run of the reconciliation stands. Incomplete says that a check could not be made.
const (
	RunRunning    = "running"
	RunCompleted  = "completed"
	RunIncomplete = "incomplete"
)

// ReconciliationRun is one run. AskedBy is empty for the schedule's.
type ReconciliationRun struct {
	ID          id.Run
	AskedBy     string
	Whole       bool
	State       string
	Checks      json.RawMessage
	Opened      int64
	Resolved    int64
	EntriesUpTo int64
	StartedAt   time.Time
	EndedAt     *time.Time
}

// InsertReconciliationRun writes a run that begins; one that stands stays.
func InsertReconciliationRun(ctx context.Context, db DB, runID id.Run, askedBy string, whole bool) error {
	_, err := execute(ctx, db, "ReconciliationRunInsert", pgx.NamedArgs{"id": runID, "asked_by": optional(askedBy), "whole": whole})
	return err
}

// GetReconciliationRun reads a run; pgx.ErrNoRows when there is none.
func GetReconciliationRun(ctx context.Context, db DB, runID id.Run) (ReconciliationRun, error) {
	return one[ReconciliationRun](ctx, db, "ReconciliationRunGet", pgx.NamedArgs{"id": runID})
}

// ReconciliationRuns reads a page of runs.
func ReconciliationRuns(ctx context.Context, db DB, page Page) ([]ReconciliationRun, error) {
	return many[ReconciliationRun](ctx, db, "ReconciliationRunPage", page.arguments(pgx.NamedArgs{}))
}

// ReconciledEntries is up to which entry the runs before have looked.
func ReconciledEntries(ctx context.Context, db DB) (int64, error) {
	row, err := one[struct{ EntriesUpTo int64 }](ctx, db, "ReconciliationEntriesDone")
	return row.EntriesUpTo, err
}

// EndReconciliationRun writes what a run came to, once.
func EndReconciliationRun(ctx context.Context, db DB, run ReconciliationRun) (bool, error) {
	changed, err := execute(ctx, db, "ReconciliationRunEnd", pgx.NamedArgs{
		"id": run.ID, "state": run.State, "checks": run.Checks, "opened": run.Opened, "resolved": run.Resolved, "entries_up_to": run.EntriesUpTo,
	})
	return changed == 1, err
}

// Finding is one thing that a run found.
type Finding struct {
	ID              id.Finding
	CheckName       reconciliation.Check
	Kind            reconciliation.Kind
	Subject         string
	Sentence        string
	Detail          json.RawMessage
	AccountID       id.Account
	Currency        string
	AmountMicros    money.Micros
	Manner          reconciliation.Manner
	State           reconciliation.State
	DismissedBy     string
	DismissedReason string
	FirstRunID      id.Run
	LastRunID       id.Run
	ResolvedRunID   id.Run
	FirstSeenAt     time.Time
	LastSeenAt      time.Time
	ResolvedAt      *time.Time
}

// SeeFinding writes what a run found: a new finding under the given id, or the one that stands. opened says that it is new, or open again. A
// finding has one correction: what remains after it is a new finding, and what was read before a correction was posted does not count.
func SeeFinding(ctx context.Context, tx DB, fresh id.Finding, runID id.Run, found reconciliation.Found) (findingID id.Finding, opened bool, err error) {
	detail := json.RawMessage("{}")
	if found.Detail != nil {
		if detail, err = json.Marshal(found.Detail); err != nil {
			return "", false, err
		}
	}
	arguments := pgx.NamedArgs{
		"id": fresh, "check_name": found.Kind.Check(), "kind": found.Kind, "subject": found.Subject, "sentence": found.Sentence, "detail": detail,
		"account_id": optional(found.AccountID), "currency": optional(found.Currency), "amount_micros": found.AmountMicros, "manner": optional(found.Manner), "run_id": runID,
	}
	changed, err := execute(ctx, tx, "FindingInsert", arguments)
	if err != nil || changed == 1 {
		return fresh, changed == 1, err
	}
	standing, err := one[struct {
		ID           id.Finding
		State        reconciliation.State
		AmountMicros money.Micros
	}](ctx, tx, "FindingStanding", pgx.NamedArgs{"kind": found.Kind, "subject": found.Subject})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, errors.New("a finding was resolved while it was seen again")
	}
	if err != nil {
		return "", false, err
	}
	correction, err := one[struct{ Corrected, Meanwhile bool }](ctx, tx, "FindingCorrected", pgx.NamedArgs{"id": standing.ID, "run_id": runID})
	if err != nil || correction.Meanwhile {
		return standing.ID, false, err
	}
	if correction.Corrected {
		if _, err := execute(ctx, tx, "FindingResolve", pgx.NamedArgs{"id": standing.ID, "run_id": runID}); err != nil {
			return "", false, err
		}
		changed, err = execute(ctx, tx, "FindingInsert", arguments)
		return fresh, changed == 1, err
	}
	arguments["id"] = standing.ID
	_, err = execute(ctx, tx, "FindingSeen", arguments)
	return standing.ID, standing.State == reconciliation.Dismissed && standing.AmountMicros != found.AmountMicros, err
}

// ResolveFindings closes what these checks of a run no longer saw.
func ResolveFindings(ctx context.Context, db DB, runID id.Run, checks []reconciliation.Check) error {
	_, err := execute(ctx, db, "FindingsResolve", pgx.NamedArgs{"run_id": runID, "checks": checks})
	return err
}

// CountFindings says how many findings a run opened and resolved.
func CountFindings(ctx context.Context, db DB, runID id.Run) (opened, resolved int64, err error) {
	row, err := one[struct{ Opened, Resolved int64 }](ctx, db, "FindingsOfRun", pgx.NamedArgs{"run_id": runID})
	return row.Opened, row.Resolved, err
}

// FindingSubjects lists what a check's findings that are not resolved are about.
func FindingSubjects(ctx context.Context, db DB, check reconciliation.Check, limit int) ([]string, error) {
	rows, err := many[struct{ Subject string }](ctx, db, "FindingSubjects", pgx.NamedArgs{"check_name": check, "row_limit": limit})
	subjects := make([]string, len(rows))
	for i, row := range rows {
		subjects[i] = row.Subject
	}
	return subjects, err
}

// OldestFinding is since when the oldest finding of a check that is not resolved is known; nil where there is none.
func OldestFinding(ctx context.Context, db DB, check reconciliation.Check) (*time.Time, error) {
	row, err := one[struct{ FirstSeenAt *time.Time }](ctx, db, "FindingOldest", pgx.NamedArgs{"check_name": check})
	return row.FirstSeenAt, err
}

// GetFinding reads a finding; pgx.ErrNoRows when there is none.
func GetFinding(ctx context.Context, db DB, findingID id.Finding) (Finding, error) {
	return one[Finding](ctx, db, "FindingGet", pgx.NamedArgs{"id": findingID})
}

// HoldFinding reads a finding and holds it until the transaction ends.
func HoldFinding(ctx context.Context, db DB, findingID id.Finding) (Finding, error) {
	return one[Finding](ctx, db, "FindingHold", pgx.NamedArgs{"id": findingID})
}

// Findings reads a page of findings, of one state and kind where they are named.
func Findings(ctx context.Context, db DB, state reconciliation.State, kind reconciliation.Kind, page Page) ([]Finding, error) {
	return many[Finding](ctx, db, "FindingPage", page.arguments(pgx.NamedArgs{"state": optional(state), "kind": optional(kind)}))
}

// DismissFinding writes that nobody wants to hear of a finding as long as it stays as it is; false when it is not open.
func DismissFinding(ctx context.Context, db DB, findingID id.Finding, by id.User, reason string) (bool, error) {
	changed, err := execute(ctx, db, "FindingDismiss", pgx.NamedArgs{"id": findingID, "dismissed_by": by, "reason": reason})
	return changed == 1, err
}

// Correction is a repair that somebody proposed. AmountMicros is as the account sees it.
type Correction struct {
	ID             id.Correction
	FindingID      id.Finding
	Subject        string
	Manner         reconciliation.Manner
	AccountID      id.Account
	Currency       string
	AmountMicros   money.Micros
	Reason         string
	SecondApprover bool
	ProposedBy     id.User
	ProposedAt     time.Time
	ApprovedBy     id.User
	PostedAt       *time.Time
	EntryID        *int64
	WithdrawnAt    *time.Time
}

// InsertCorrection writes a proposal; the constraint ConstraintCorrectionOnce refuses a second one of a finding.
func InsertCorrection(ctx context.Context, db DB, c Correction) error {
	_, err := execute(ctx, db, "CorrectionInsert", pgx.NamedArgs{
		"id": c.ID, "finding_id": c.FindingID, "subject": c.Subject, "manner": c.Manner, "account_id": c.AccountID, "currency": c.Currency,
		"amount_micros": c.AmountMicros, "reason": c.Reason, "second_approver": c.SecondApprover, "proposed_by": c.ProposedBy,
	})
	return err
}

// ConstraintCorrectionTwoPeople keeps whoever proposed a correction from approving it where two people are needed.
const ConstraintCorrectionTwoPeople = "reconciliation_corrections_two_people"

// CorrectionOf reads the correction of a finding that stands; pgx.ErrNoRows when there is none.
func CorrectionOf(ctx context.Context, db DB, findingID id.Finding) (Correction, error) {
	return one[Correction](ctx, db, "CorrectionOfFinding", pgx.NamedArgs{"finding_id": findingID})
}

// GetCorrection reads a correction; pgx.ErrNoRows when there is none.
func GetCorrection(ctx context.Context, db DB, correctionID id.Correction) (Correction, error) {
	return one[Correction](ctx, db, "CorrectionGet", pgx.NamedArgs{"id": correctionID})
}

// HoldCorrection reads a correction and holds it until the transaction ends.
func HoldCorrection(ctx context.Context, db DB, correctionID id.Correction) (Correction, error) {
	return one[Correction](ctx, db, "CorrectionHold", pgx.NamedArgs{"id": correctionID})
}

// WithdrawCorrection takes a proposal back that was not posted.
func WithdrawCorrection(ctx context.Context, db DB, correctionID id.Correction) error {
	_, err := execute(ctx, db, "CorrectionWithdraw", pgx.NamedArgs{"id": correctionID})
	return err
}

// PostCorrection writes who approved a correction and which entry it is; false when it was posted before.
func PostCorrection(ctx context.Context, db DB, correctionID id.Correction, by id.User, entryID int64) (bool, error) {
	changed, err := execute(ctx, db, "CorrectionPosted", pgx.NamedArgs{"id": correctionID, "approved_by": by, "entry_id": entryID})
	return changed == 1, err
}

// CorrectedMicros adds up what adjustments corrected already, by what they are about.
func CorrectedMicros(ctx context.Context, db DB, subjects []string) (map[string]money.Micros, error) {
	rows, err := many[struct {
		Subject      string
		AmountMicros money.Micros
	}](ctx, db, "CorrectedMicros", pgx.NamedArgs{"subjects": subjects})
	corrected := make(map[string]money.Micros, len(rows))
	for _, row := range rows {
		corrected[row.Subject] = row.AmountMicros
	}
	return corrected, err
}
