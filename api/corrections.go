package api

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type correctionBody struct {
	ID             id.Correction `json:"id" pattern:"^corr_[a-z2-7]{26}$"`
	FindingID      string        `json:"finding_id"`
	Subject        string        `json:"subject"`
	Manner         string        `json:"manner" enum:"adjustment,deposit"`
	State          string        `json:"state" enum:"proposed,posted,withdrawn"`
	AccountID      string        `json:"account_id"`
	Currency       string        `json:"currency"`
	AmountMicros   int64         `json:"amount_micros" doc:"As the account sees it: positive is money in."`
	Reason         string        `json:"reason"`
	SecondApprover bool          `json:"second_approver" doc:"Whether another operator has to approve it."`
	ProposedBy     string        `json:"proposed_by"`
	ProposedAt     moment        `json:"proposed_at"`
	ApprovedBy     string        `json:"approved_by,omitempty"`
	PostedAt       *moment       `json:"posted_at,omitempty"`
	LedgerEntryID  int64         `json:"ledger_entry_id,omitempty"`
}

type (
	correctionOut       struct{ Body correctionBody }
	proposeCorrectionIn struct {
		FindingPath
		IdempotencyKey string `header:"X-Idempotency-Key" required:"true" minLength:"1" maxLength:"255"`
		Body           struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
	CorrectionPath struct {
		CorrectionID id.Correction `path:"correction_id" pattern:"^corr_[a-z2-7]{26}$"`
	}
	approveCorrectionIn struct {
		CorrectionPath
		IdempotencyKey string `header:"X-Idempotency-Key" required:"true" minLength:"1" maxLength:"255"`
		Body           struct {
			Reason string `json:"reason" minLength:"1" maxLength:"500" pattern:"^[^\\x00]+$"`
		}
	}
)

// correctionPatience is how long a request waits for a correction to be posted.
const correctionPatience = 15 * time.Second

// proposeCorrection writes a proposal of exactly what the finding says, and has it posted where policy asks for no second person.
func (s *server) proposeCorrection(ctx context.Context, in *proposeCorrectionIn) (*correctionOut, error) {
	limit, err := s.config.Policy.Int(ctx, authored.ReconciliationSecondApproverMinor)
	if err != nil {
		return nil, err
	}
	most, err := money.FromMinor(limit)
	if err != nil {
		return nil, err
	}
	who := middleware.Principal(ctx)
	correctionID := deriveID[id.Correction](s, string(who.TenantID), string(who.UserID), "proposeCorrection", string(in.FindingID)+"\x00"+in.IdempotencyKey)
	row := &queries.Audit{Action: "correction.propose", TargetType: "correction", TargetID: string(correctionID)}
	if err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		proposal, err := s.proposal(ctx, tx, in.FindingID)
		if err != nil {
			return err
		}
		proposal.ID, proposal.Reason, proposal.ProposedBy = correctionID, in.Body.Reason, who.UserID
		proposal.SecondApprover = max(proposal.AmountMicros, -proposal.AmountMicros) > most
		row.Details = map[string]any{
			"finding_id": proposal.FindingID, "subject": proposal.Subject, "manner": proposal.Manner, "account_id": proposal.AccountID,
			"amount_micros": proposal.AmountMicros, "reason": proposal.Reason, "second_approver": proposal.SecondApprover,
		}
		return queries.InsertCorrection(ctx, tx, proposal)
	}); err != nil {
		return nil, err
	}
	proposed, err := queries.GetCorrection(ctx, s.config.Pool, correctionID)
	if err != nil || proposed.SecondApprover || proposed.EntryID != nil {
		return &correctionOut{Body: renderCorrection(proposed)}, err
	}
	return s.post(ctx, correctionID, in.Body.Reason, "")
}

// proposal is what would correct a finding as it stands. An earlier one of another amount is withdrawn.
func (s *server) proposal(ctx context.Context, tx pgx.Tx, findingID id.Finding) (queries.Correction, error) {
	found, err := queries.HoldFinding(ctx, tx, findingID)
	if err != nil {
		return queries.Correction{}, orMissing(err, fault.FindingNotFound)
	}
	switch {
	case found.State != reconciliation.Open:
		return queries.Correction{}, fault.New(fault.FindingNotOpen, "")
	case found.Manner == "":
		return queries.Correction{}, fault.New(fault.FindingNotCorrectable, "")
	}
	standing, err := queries.CorrectionOf(ctx, tx, findingID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return queries.Correction{}, err
	case standing.EntryID != nil:
		// What remains of it is found by the next run.
		return queries.Correction{}, fault.New(fault.CorrectionSettled, "")
	case standing.AmountMicros == found.AmountMicros && standing.Manner == found.Manner:
		return queries.Correction{}, fault.New(fault.CorrectionProposed, "").With(map[string]any{"correction_id": standing.ID})
	default:
		if err := queries.WithdrawCorrection(ctx, tx, standing.ID); err != nil {
			return queries.Correction{}, err
		}
	}
	return queries.Correction{
		FindingID: found.ID, Subject: found.Subject, Manner: found.Manner, AccountID: found.AccountID, Currency: found.Currency, AmountMicros: found.AmountMicros,
	}, nil
}

func (s *server) approveCorrection(ctx context.Context, in *approveCorrectionIn) (*correctionOut, error) {
	if _, err := queries.GetCorrection(ctx, s.config.Pool, in.CorrectionID); err != nil {
		return nil, orMissing(err, fault.CorrectionNotFound)
	}
	return s.post(ctx, in.CorrectionID, in.Body.Reason, middleware.RequestOf(ctx).ID)
}

// post has a correction posted on the caller's word. requestID is empty where the request has its audit row already.
func (s *server) post(ctx context.Context, correctionID id.Correction, reason, requestID string) (*correctionOut, error) {
	var reply workflows.CorrectionReply
	if err := s.order(ctx, correctionPatience, orderedWorkflow{
		id: workflows.CorrectionWorkflowID(correctionID), queue: workflows.AllocationsQueue, kind: workflows.CorrectionType, update: workflows.ApproveUpdate,
		input: workflows.CorrectionInput{CorrectionID: correctionID}, summary: "Post the correction " + string(correctionID),
		asked: workflows.ApproveCorrection{
			CorrectionID: correctionID, Actor: middleware.Principal(ctx).Actor(), Reason: reason, RequestID: requestID, CorrelationID: telemetry.Correlation(ctx),
		},
	}, &reply); err != nil {
		return nil, err
	}
	if reply.Fault != nil {
		return nil, fromStep(reply.Fault)
	}
	posted, err := queries.GetCorrection(ctx, s.config.Pool, correctionID)
	return &correctionOut{Body: renderCorrection(posted)}, err
}

func renderCorrection(row queries.Correction) correctionBody {
	body := correctionBody{
		ID: row.ID, FindingID: string(row.FindingID), Subject: row.Subject, Manner: string(row.Manner), State: "proposed", AccountID: string(row.AccountID),
		Currency: row.Currency, AmountMicros: int64(row.AmountMicros), Reason: row.Reason, SecondApprover: row.SecondApprover, ProposedBy: string(row.ProposedBy),
		ProposedAt: moment(row.ProposedAt), ApprovedBy: string(row.ApprovedBy), PostedAt: maybe(row.PostedAt),
	}
	switch {
	case row.EntryID != nil:
		body.State, body.LedgerEntryID = "posted", *row.EntryID
	case row.WithdrawnAt != nil:
		body.State = "withdrawn"
	}
	return body
}
