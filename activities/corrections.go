package activities

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Correct posts a proposed correction with its audit row and its event in one transaction, once. A repeat of the same person's answers the entry
// that stands; anybody else's is CorrectionSettled. Faults come back in the answer: CorrectionNotFound, CorrectionSettled, SecondApproverRequired,
// CorrectionOutdated, TenantClosed, InsufficientBalance, LedgerConflict.
func (r *Reconciliation) Correct(ctx context.Context, in workflows.ApproveCorrection) (workflows.CorrectionPosted, error) {
	var out workflows.CorrectionPosted
	err := r.correct(ctx, in, &out)
	var known *fault.Error
	if errors.As(err, &known) {
		refused, err := crossing(known)
		return workflows.CorrectionPosted{Fault: refused}, err
	}
	return out, err
}

func (r *Reconciliation) correct(ctx context.Context, in workflows.ApproveCorrection, out *workflows.CorrectionPosted) error {
	proposal, err := queries.GetCorrection(ctx, r.Pool, in.CorrectionID)
	if err != nil {
		return orFault(err, fault.CorrectionNotFound)
	}
	if err := errors.Join(r.Ledger.knowPlatform(ctx, proposal.Currency), r.Ledger.knowProvider(ctx, proposal.Currency)); err != nil {
		return err
	}
	approver := id.User(in.Actor.ID)
	return store.InTx(ctx, r.Pool, func(ctx context.Context, tx pgx.Tx) error {
		row, err := queries.HoldCorrection(ctx, tx, in.CorrectionID)
		if err != nil {
			return orFault(err, fault.CorrectionNotFound)
		}
		out.AccountID = row.AccountID
		switch {
		case row.EntryID != nil && row.ApprovedBy == approver:
			out.EntryID = *row.EntryID
			return nil
		case row.EntryID != nil, row.WithdrawnAt != nil:
			return fault.New(fault.CorrectionSettled, "")
		case row.SecondApprover && row.ProposedBy == approver:
			return fault.New(fault.SecondApproverRequired, "")
		}
		finding, err := queries.HoldFinding(ctx, tx, row.FindingID)
		if err != nil {
			return err
		}
		if finding.State != reconciliation.Open || finding.AmountMicros != row.AmountMicros || finding.Manner != row.Manner {
			return fault.New(fault.CorrectionOutdated, "")
		}
		if out.EntryID, err = r.post(ctx, tx, row, in); err != nil {
			return err
		}
		posted, err := queries.PostCorrection(ctx, tx, row.ID, approver, out.EntryID)
		if queries.Violates(err, queries.ConstraintCorrectionTwoPeople) {
			return fault.New(fault.SecondApproverRequired, "")
		}
		if err != nil || !posted {
			return errors.Join(err, notWritten(posted, "the correction "+string(row.ID)))
		}
		actor := in.Actor
		if in.RequestID == "" {
			actor = identity.Platform() // the proposal was the person's word, and is in the log
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			Actor: actor, Action: "correction.post", TargetType: "correction", TargetID: string(row.ID), RequestID: in.RequestID, CorrelationID: in.CorrelationID,
			Details: map[string]any{"finding_id": row.FindingID, "proposed_by": row.ProposedBy, "approved_by": approver, "account_id": row.AccountID, "amount_micros": row.AmountMicros,
				"entry_id": out.EntryID, "manner": row.Manner, "reason": in.Reason},
		})
	})
}

// post writes the entry of a correction.
func (r *Reconciliation) post(ctx context.Context, tx pgx.Tx, row queries.Correction, in workflows.ApproveCorrection) (int64, error) {
	adjustment := workflows.AdjustmentInput{
		AdjustmentID: AdjustmentOf(row.ID), AccountID: row.AccountID, Currency: row.Currency, AmountMicros: row.AmountMicros,
		Reason: fmt.Sprintf("%s (%s, %s)", row.Reason, row.FindingID, row.Subject), Actor: identity.Platform(), CorrelationID: in.CorrelationID,
	}
	if row.Manner == reconciliation.Deposit {
		return r.deposit(ctx, tx, row, adjustment)
	}
	result, err := r.Ledger.adjust(ctx, tx, adjustment)
	if err != nil {
		return 0, err
	}
	if result.Fault != nil {
		return 0, refusedAs(result.Fault)
	}
	return result.EntryID, nil
}

// AdjustmentOf is the adjustment that a correction is posted as.
func AdjustmentOf(correctionID id.Correction) id.Adjustment {
	sum := sha256.Sum256([]byte(correctionID))
	return id.New[id.Adjustment]([16]byte(sum[:16]))
}

// refusedAs is the fault of a step as the fault that it was.
func refusedAs(refused *workflows.Fault) error {
	known := fault.New(fault.Code(refused.Code), refused.Message)
	var details map[string]any
	if len(refused.Details) == 0 {
		return known
	}
	if err := json.Unmarshal(refused.Details, &details); err != nil {
		return err
	}
	return known.With(details)
}

// deposit credits a payment under the key of its fact. Who credits it meanwhile, or later, finds this entry.
func (r *Reconciliation) deposit(ctx context.Context, tx pgx.Tx, row queries.Correction, adjustment workflows.AdjustmentInput) (int64, error) {
	account, err := r.Ledger.adjustable(ctx, tx, adjustment)
	if err != nil {
		return 0, err
	}
	clearing, err := r.Ledger.platformAccount(ctx, queries.AccountPlatformStripeClearing, row.Currency)
	if err != nil {
		return 0, err
	}
	entry := queries.Entry{
		Kind: "deposit", DebitAccountID: clearing, CreditAccountID: row.AccountID, Currency: row.Currency, AmountMicros: row.AmountMicros, IdempotencyKey: depositKey(row.Subject),
	}
	entryID, posted, err := r.Ledger.transfer(ctx, tx, entry)
	switch {
	case queries.Violates(err, queries.ConstraintAccountOpen):
		return 0, fault.New(fault.TenantClosed, "")
	case err != nil:
		return 0, err
	case !posted:
		return 0, fault.New(fault.CorrectionOutdated, "The payment was credited meanwhile.")
	}
	return entryID, queries.InsertOutbox(ctx, tx, queries.Event{
		Type: event.BillingBalanceAdjusted, Fact: entry.IdempotencyKey, AggregateID: string(row.AccountID), OccurredAt: milliseconds(r.Now()), CorrelationID: adjustment.CorrelationID,
		Payload: balanceAdjusted{AdjustmentID: adjustment.AdjustmentID, TenantID: account.TenantID, AccountID: row.AccountID, Currency: row.Currency,
			AmountMicros: row.AmountMicros, Kind: entry.Kind, EntryIDs: []int64{entryID}},
	})
}
