package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type reconciliationCheckBody struct {
	Check    string `json:"check" doc:"What was compared: windows, entries, workflows, custody, provider, balances."`
	Examined int64  `json:"examined" doc:"How many objects were looked at."`
	Found    int64  `json:"found" doc:"How much was found, or found again."`
	Reason   string `json:"reason,omitempty" doc:"Why it was not made to its end; absent when it was."`
}

type reconciliationBody struct {
	ID        id.Run                    `json:"id" pattern:"^recon_[a-z2-7]{26}$"`
	AskedBy   string                    `json:"asked_by,omitempty" doc:"Who asked for it; absent for the schedule."`
	Whole     bool                      `json:"whole"`
	State     string                    `json:"state" enum:"running,completed,incomplete" doc:"Incomplete says that a check could not be made; its findings stay as they were."`
	Checks    []reconciliationCheckBody `json:"checks"`
	Opened    int64                     `json:"opened" doc:"How many findings it was the first to see."`
	Resolved  int64                     `json:"resolved" doc:"How many findings it saw no more."`
	StartedAt moment                    `json:"started_at"`
	EndedAt   *moment                   `json:"ended_at,omitempty"`
}

type (
	reconciliationOut     struct{ Body reconciliationBody }
	reconciliationListOut struct{ Body list[reconciliationBody] }
	startReconciliationIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Whole bool `json:"whole,omitempty" default:"false" doc:"Look at everything there ever was, and not only at what may have changed."`
		}
	}
	RunPath struct {
		RunID id.Run `path:"run_id" pattern:"^recon_[a-z2-7]{26}$"`
	}
)

func (s *server) reconciliationOperations() {
	handle(s, "startReconciliation", s.startReconciliation)
	handle(s, "listReconciliations", s.listReconciliations)
	handle(s, "getReconciliation", s.getReconciliation)
	handle(s, "listFindings", s.listFindings)
	handle(s, "getFinding", s.getFinding)
	handle(s, "dismissFinding", s.dismissFinding)
	handle(s, "resumeFinding", s.resumeFinding)
	handle(s, "proposeCorrection", s.proposeCorrection)
	handle(s, "approveCorrection", s.approveCorrection)
}

// startReconciliation starts the workflow of a run and writes the run down, so that it can be asked for at once. A repeat finds both. What
// Temporal refuses to start is written nowhere: a run that nobody makes would be said to run for ever.
func (s *server) startReconciliation(ctx context.Context, in *startReconciliationIn) (*reconciliationOut, error) {
	cluster, err := s.temporal()
	if err != nil {
		return nil, err
	}
	who := middleware.Principal(ctx)
	runID := deriveID[id.Run](s, string(who.TenantID), string(who.UserID), "startReconciliation", middleware.RequestOf(ctx).ID)
	if _, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.ReconciliationWorkflowID(runID), TaskQueue: workflows.AllocationsQueue, StaticSummary: "Compare the books with everything else",
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING, WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
	}, workflows.ReconciliationType, workflows.ReconciliationInput{RunID: runID, Whole: in.Body.Whole, AskedBy: string(who.UserID)}); err != nil {
		return nil, temporal.FromError(err)
	}
	row := &queries.Audit{Action: "reconciliation.start", TargetType: "reconciliation", TargetID: string(runID), Details: map[string]any{"whole": in.Body.Whole}}
	if err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		return queries.InsertReconciliationRun(ctx, tx, runID, string(who.UserID), in.Body.Whole)
	}); err != nil {
		return nil, err
	}
	return s.reconciliation(ctx, runID)
}

func (s *server) getReconciliation(ctx context.Context, in *RunPath) (*reconciliationOut, error) {
	return s.reconciliation(ctx, in.RunID)
}

func (s *server) reconciliation(ctx context.Context, runID id.Run) (*reconciliationOut, error) {
	run, err := queries.GetReconciliationRun(ctx, s.config.Pool, runID)
	if err != nil {
		return nil, orMissing(err, fault.ReconciliationRunNotFound)
	}
	body, err := renderReconciliation(run)
	return &reconciliationOut{Body: body}, err
}

func (s *server) listReconciliations(ctx context.Context, in *Paging) (*reconciliationListOut, error) {
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReconciliationRuns(ctx, s.config.Pool, page)
	if err != nil {
		return nil, err
	}
	var unreadable error
	body := paged(*in, rows, func(run queries.ReconciliationRun) after { return after{run.StartedAt, string(run.ID)} },
		func(run queries.ReconciliationRun) reconciliationBody {
			item, err := renderReconciliation(run)
			unreadable = errors.Join(unreadable, err)
			return item
		})
	return &reconciliationListOut{Body: body}, unreadable
}

func renderReconciliation(run queries.ReconciliationRun) (reconciliationBody, error) {
	body := reconciliationBody{
		ID: run.ID, AskedBy: run.AskedBy, Whole: run.Whole, State: run.State, Checks: []reconciliationCheckBody{}, Opened: run.Opened, Resolved: run.Resolved,
		StartedAt: moment(run.StartedAt), EndedAt: maybe(run.EndedAt),
	}
	if err := json.Unmarshal(run.Checks, &body.Checks); err != nil {
		return body, fmt.Errorf("the checks of %s: %w", run.ID, err)
	}
	return body, nil
}

type findingBody struct {
	ID              id.Finding      `json:"id" pattern:"^find_[a-z2-7]{26}$"`
	Check           string          `json:"check" doc:"Which comparison found it."`
	Kind            string          `json:"kind" doc:"What is wrong."`
	Subject         string          `json:"subject" doc:"What it is about: an allocation, a node, an entry, a payment at the provider."`
	Message         string          `json:"message" doc:"What is the case, for a person."`
	Detail          freeForm        `json:"detail" doc:"The figures behind it."`
	AccountID       string          `json:"account_id,omitempty"`
	Currency        string          `json:"currency,omitempty"`
	AmountMicros    int64           `json:"amount_micros" doc:"What the account is owed: positive has too little, negative too much."`
	Manner          string          `json:"manner,omitempty" enum:"adjustment,deposit" doc:"By which kind of entry it can be corrected; absent where none can."`
	Resumable       bool            `json:"resumable" doc:"Whether the workflow that it misses can be begun again (resumeFinding)."`
	State           string          `json:"state" enum:"open,resolved,dismissed"`
	DismissedBy     string          `json:"dismissed_by,omitempty"`
	DismissedReason string          `json:"dismissed_reason,omitempty"`
	FirstRunID      string          `json:"first_run_id"`
	LastRunID       string          `json:"last_run_id"`
	ResolvedRunID   string          `json:"resolved_run_id,omitempty" doc:"The run that saw it no more."`
	FirstSeenAt     moment          `json:"first_seen_at"`
	LastSeenAt      moment          `json:"last_seen_at"`
	ResolvedAt      *moment         `json:"resolved_at,omitempty"`
	Correction      *correctionBody `json:"correction,omitempty"`
}

type (
	findingOut     struct{ Body findingBody }
	findingListOut struct{ Body list[findingBody] }
	findingFilter  struct {
		Paging
		State string `query:"state" enum:"open,resolved,dismissed" doc:"Only findings in this state."`
		Kind  string `query:"kind" maxLength:"100" pattern:"^[a-z_]+$" doc:"Only findings of this kind."`
	}
	FindingPath struct {
		FindingID id.Finding `path:"finding_id" pattern:"^find_[a-z2-7]{26}$"`
	}
	dismissFindingIn struct {
		FindingPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
	resumeFindingIn struct {
		FindingPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
)

func (s *server) listFindings(ctx context.Context, in *findingFilter) (*findingListOut, error) {
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.Findings(ctx, s.config.Pool, reconciliation.State(in.State), reconciliation.Kind(in.Kind), page)
	if err != nil {
		return nil, err
	}
	return &findingListOut{Body: paged(in.Paging, rows, func(row queries.Finding) after { return after{row.FirstSeenAt, string(row.ID)} }, renderFinding)}, nil
}

func (s *server) getFinding(ctx context.Context, in *FindingPath) (*findingOut, error) {
	return s.finding(ctx, in.FindingID)
}

// finding reads a finding with its correction.
func (s *server) finding(ctx context.Context, findingID id.Finding) (*findingOut, error) {
	row, err := queries.GetFinding(ctx, s.config.Pool, findingID)
	if err != nil {
		return nil, orMissing(err, fault.FindingNotFound)
	}
	body := renderFinding(row)
	correction, err := queries.CorrectionOf(ctx, s.config.Pool, findingID)
	if err == nil {
		rendered := renderCorrection(correction)
		body.Correction = &rendered
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return &findingOut{Body: body}, err
}

func (s *server) dismissFinding(ctx context.Context, in *dismissFindingIn) (*findingOut, error) {
	row := &queries.Audit{Action: "finding.dismiss", TargetType: "finding", TargetID: string(in.FindingID), Details: map[string]any{"reason": in.Body.Reason}}
	if err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		found, err := queries.HoldFinding(ctx, tx, in.FindingID)
		if err != nil {
			return orMissing(err, fault.FindingNotFound)
		}
		row.Details["kind"], row.Details["subject"], row.Details["amount_micros"] = found.Kind, found.Subject, found.AmountMicros
		dismissed, err := queries.DismissFinding(ctx, tx, in.FindingID, middleware.Principal(ctx).UserID, in.Body.Reason)
		if err == nil && !dismissed {
			return fault.New(fault.FindingNotOpen, "")
		}
		return err
	}); err != nil {
		return nil, err
	}
	return s.finding(ctx, in.FindingID)
}

// resumeFinding begins the workflow that a finding misses again and writes down who did so. Temporal comes first, as when a run is started: what it
// refuses is written nowhere, and a repeat whose first request was cut off between the two sends a signal that the workflow takes once.
func (s *server) resumeFinding(ctx context.Context, in *resumeFindingIn) (*findingOut, error) {
	if _, made, err := s.changed(ctx); err != nil {
		return nil, err
	} else if made {
		return s.finding(ctx, in.FindingID)
	}
	found, err := queries.GetFinding(ctx, s.config.Pool, in.FindingID)
	if err != nil {
		return nil, orMissing(err, fault.FindingNotFound)
	}
	missing, resumable := resumption(found)
	switch {
	case !resumable:
		return nil, fault.New(fault.FindingNotResumable, "")
	case found.State != reconciliation.Open:
		return nil, fault.New(fault.FindingNotOpen, "")
	}
	cluster, err := s.temporal()
	if err != nil {
		return nil, err
	}
	once := temporal.WithRequestID(ctx, middleware.RequestOf(ctx).ID)
	if err := temporal.Resume(once, cluster, missing, found.Subject, "an operator resumed it", telemetry.Correlation(ctx)); err != nil {
		return nil, temporal.FromError(err)
	}
	row := &queries.Audit{Action: "finding.resume", TargetType: "finding", TargetID: string(in.FindingID), Details: map[string]any{
		"reason": in.Body.Reason, "kind": found.Kind, "subject": found.Subject, "workflow_id": missing.WorkflowID,
	}}
	if err := s.change(ctx, row, func(context.Context, pgx.Tx) error { return nil }); err != nil {
		return nil, err
	}
	return s.finding(ctx, in.FindingID)
}

// resumption is how the workflow that a finding misses is begun again, and whether it can be.
func resumption(found queries.Finding) (missing workflows.Resumption, resumable bool) {
	var detail struct {
		Start workflows.Resumption `json:"start"`
	}
	err := json.Unmarshal(found.Detail, &detail)
	return detail.Start, err == nil && detail.Start.Valid()
}

func renderFinding(row queries.Finding) findingBody {
	body := findingBody{
		ID: row.ID, Check: string(row.CheckName), Kind: string(row.Kind), Subject: row.Subject, Message: row.Sentence, AccountID: string(row.AccountID), Currency: row.Currency,
		AmountMicros: int64(row.AmountMicros), Manner: string(row.Manner), State: string(row.State), DismissedBy: row.DismissedBy, DismissedReason: row.DismissedReason,
		FirstRunID: string(row.FirstRunID), LastRunID: string(row.LastRunID), ResolvedRunID: string(row.ResolvedRunID), FirstSeenAt: moment(row.FirstSeenAt),
		LastSeenAt: moment(row.LastSeenAt), ResolvedAt: maybe(row.ResolvedAt), Detail: freeForm{},
	}
	_, body.Resumable = resumption(row)
	_ = json.Unmarshal(row.Detail, &body.Detail) // the database holds it to be an object
	return body
}
