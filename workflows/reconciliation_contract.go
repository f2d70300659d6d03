package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
)

// The registered names of the workflows that compare the books with everything else, and repair them (docs/flows/reconciliation.md).
const (
	ReconciliationType = "Reconciliation"
	CorrectionType     = "Correction"
)

// ReconciliationScheduleID is the one schedule that runs Reconciliation.
const ReconciliationScheduleID = "reconciliation"

// ReconciliationWorkflowID is the workflow id of a run that somebody asked for.
func ReconciliationWorkflowID(runID id.Run) string { return "reconciliation/" + string(runID) }

// CorrectionWorkflowID is the workflow id of a correction.
func CorrectionWorkflowID(correctionID id.Correction) string {
	return "correction/" + string(correctionID)
}

// ReconciliationInput starts a run. Without a RunID, as the schedule starts it, the run's id derives from the workflow's own.
type ReconciliationInput struct {
	RunID id.Run `json:"run_id,omitempty"`
	// Whole looks at everything there ever was, and not only at what may have changed.
	Whole   bool   `json:"whole,omitempty"`
	AskedBy string `json:"asked_by,omitempty"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int                    `json:"continue_after_events,omitempty"`
	Carried             *ReconciliationCarried `json:"carried,omitempty"`
}

// ReconciliationCarried is how far a run has come.
type ReconciliationCarried struct {
	Terms  ReconciliationTerms `json:"terms"`
	Made   []CheckMade         `json:"made"`
	Cursor CheckCursor         `json:"cursor"`
}

// Resumption is how a workflow that is missing is begun again where it was: by the signal that would wake it, or by its start alone where
// there is no signal. A finding holds it as `detail.start`.
type Resumption struct {
	WorkflowID   string `json:"workflow_id"`
	WorkflowType string `json:"workflow_type"`
	TaskQueue    string `json:"task_queue"`
	Signal       string `json:"signal,omitempty"`
	Input        any    `json:"input"`
}

// resumable says which signal wakes which type, if any: nothing else is started on the word of a finding.
var resumable = map[string]string{
	AllocationType: "", FundsType: FundsChangedSignal, PaymentType: LookSignal, RefundType: LookSignal, DisputeType: LookSignal,
}

// Valid says whether a workflow can be begun again by this.
func (r Resumption) Valid() bool {
	signal, known := resumable[r.WorkflowType]
	return known && r.Signal == signal && r.WorkflowID != "" && r.TaskQueue != "" && r.Input != nil
}

// Argument is what the signal carries: the words of whoever sends it, and what their request is known by.
func (r Resumption) Argument(because, correlationID string) any {
	if r.Signal == FundsChangedSignal {
		return FundsChange{Because: because, CorrelationID: correlationID}
	}
	return because
}

// BeginReconciliation asks for a run to be written down. Key names the workflow's run where nobody named the reconciliation's.
type BeginReconciliation struct {
	RunID   id.Run `json:"run_id,omitempty"`
	Key     string `json:"key"`
	Whole   bool   `json:"whole"`
	AskedBy string `json:"asked_by,omitempty"`
}

// ReconciliationTerms is what all checks of a run go by. Times are UTC milliseconds.
type ReconciliationTerms struct {
	RunID     id.Run    `json:"run_id"`
	StartedAt time.Time `json:"started_at"`
	// Since is from when on what has ended is looked at; nil looks at everything.
	Since *time.Time `json:"since,omitempty"`
	// ProviderSince is from when on the payment provider's books are read.
	ProviderSince time.Time `json:"provider_since"`
	// LagSeconds is how late anything may be without being wrong.
	LagSeconds int64 `json:"lag_seconds"`
	// EntriesAfter and EntriesUpTo bound the entries that are looked at; the upper one is final.
	EntriesAfter int64 `json:"entries_after"`
	EntriesUpTo  int64 `json:"entries_up_to"`
}

// Lag is how late anything may be without being wrong.
func (t ReconciliationTerms) Lag() time.Duration { return time.Duration(t.LagSeconds) * time.Second }

// CheckCursor is where a check goes on: behind an id, with the sums that it carries along.
type CheckCursor struct {
	After string `json:"after,omitempty"`
	// Micros adds up, by currency, what must come to zero.
	Micros map[string]money.Micros `json:"micros,omitempty"`
	// Examined and Found count what the check has looked at, and seen, so far.
	Examined int64 `json:"examined"`
	Found    int64 `json:"found"`
}

// CheckIn asks for a stretch of a check.
type CheckIn struct {
	Terms  ReconciliationTerms  `json:"terms"`
	Check  reconciliation.Check `json:"check"`
	Cursor CheckCursor          `json:"cursor"`
}

// CheckOut is where the check stands after a stretch; Done says that it is complete.
type CheckOut struct {
	Cursor CheckCursor `json:"cursor"`
	Done   bool        `json:"done"`
}

// CheckMade is what a check came to. Reason says why it could not be made to its end.
type CheckMade struct {
	Check    reconciliation.Check `json:"check"`
	Examined int64                `json:"examined"`
	Found    int64                `json:"found"`
	Reason   string               `json:"reason,omitempty"`
}

// FinishReconciliation asks for a run to be ended.
type FinishReconciliation struct {
	Terms ReconciliationTerms `json:"terms"`
	Made  []CheckMade         `json:"made"`
}

// ReconciliationResult is what a run came to.
type ReconciliationResult struct {
	RunID    id.Run      `json:"run_id"`
	State    string      `json:"state"`
	Opened   int64       `json:"opened"`
	Resolved int64       `json:"resolved"`
	Checks   []CheckMade `json:"checks"`
}

// CorrectionInput starts a correction's workflow.
type CorrectionInput struct {
	CorrectionID id.Correction `json:"correction_id"`
}

// ApproveUpdate takes ApproveCorrection and answers CorrectionReply once the entry stands, or was refused.
const ApproveUpdate = "approve"

// ApproveCorrection is somebody's word that a proposed correction is to be posted. RequestID is the request's that approves it, empty where
// the one that proposed it did.
type ApproveCorrection struct {
	CorrectionID  id.Correction  `json:"correction_id"`
	Actor         identity.Actor `json:"actor"`
	Reason        string         `json:"reason"`
	RequestID     string         `json:"request_id,omitempty"`
	CorrelationID string         `json:"correlation_id"`
}

// CorrectionReply is the entry of a correction, or the fault that refused it.
type CorrectionReply struct {
	EntryID int64  `json:"entry_id,omitempty"`
	Fault   *Fault `json:"fault,omitempty"`
}

// CorrectionPosted is the entry of a correction, and whose balance it moved, now or when the step ran before.
type CorrectionPosted struct {
	EntryID   int64      `json:"entry_id,omitempty"`
	AccountID id.Account `json:"account_id,omitempty"`
	Fault     *Fault     `json:"fault,omitempty"`
}

// retryCheck gives a check up after some minutes: the run says so, and the next one makes it again.
var retryCheck = &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second, MaximumAttempts: 8}

// Steps of Reconciliation and Correction.
var (
	// StepBeginReconciliation writes the run and answers what it goes by (queue: allocations).
	StepBeginReconciliation = Step[BeginReconciliation, ReconciliationTerms]{Name: "reconciliation.begin", Queue: AllocationsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepCheck makes a stretch of a check and writes what it finds; a repeat finds the same once (queue: allocations).
	StepCheck = Step[CheckIn, CheckOut]{Name: "reconciliation.check", Queue: AllocationsQueue, StartToClose: 5 * time.Minute, Retry: retryCheck}
	// StepCheckProvider makes the check that asks the payment provider, where its key is (queue: payments).
	StepCheckProvider = Step[CheckIn, CheckOut]{Name: "reconciliation.check_provider", Queue: PaymentsQueue, ScheduleToStart: 5 * time.Minute, StartToClose: 10 * time.Minute, Retry: retryCheck}
	// StepFinishReconciliation closes what is no longer seen and writes what the run came to (queue: allocations).
	StepFinishReconciliation = Step[FinishReconciliation, ReconciliationResult]{Name: "reconciliation.finish", Queue: AllocationsQueue, StartToClose: 30 * time.Second, Retry: retryAlways}
	// StepCorrect posts a correction with whoever approved it, its audit row and its event in one transaction (queue: allocations).
	StepCorrect = Step[ApproveCorrection, CorrectionPosted]{Name: "reconciliation.correct", Queue: AllocationsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
)
