package api

import (
	"context"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type refundBody struct {
	ID            id.Refund  `json:"id" pattern:"^ref_[a-z2-7]{26}$"`
	PaymentID     id.Payment `json:"payment_id" pattern:"^pay_[a-z2-7]{26}$"`
	TenantID      id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	AccountID     id.Account `json:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
	UserID        id.User    `json:"user_id" pattern:"^user_[a-z2-7]{26}$"`
	State         string     `json:"state" enum:"pending,succeeded,failed"`
	FailureReason string     `json:"failure_reason,omitempty" doc:"What the payment provider or a bank said."`
	AmountMinor   int64      `json:"amount_minor"`
	AmountMicros  int64      `json:"amount_micros"`
	Currency      string     `json:"currency" pattern:"^[a-z]{3}$"`
	Reason        string     `json:"reason"`
	LedgerEntryID int64      `json:"ledger_entry_id"`
	CreatedAt     moment     `json:"created_at"`
	EndedAt       *moment    `json:"ended_at,omitempty"`
}

type disputeBody struct {
	ID            id.Dispute `json:"id" pattern:"^disp_[a-z2-7]{26}$"`
	PaymentID     id.Payment `json:"payment_id" pattern:"^pay_[a-z2-7]{26}$"`
	TenantID      id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	AccountID     id.Account `json:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
	State         string     `json:"state" enum:"open,won,lost"`
	Withdrawn     bool       `json:"withdrawn" doc:"Whether the bank took the money, or only asks so far."`
	AmountMinor   int64      `json:"amount_minor"`
	AmountMicros  int64      `json:"amount_micros"`
	Currency      string     `json:"currency" pattern:"^[a-z]{3}$"`
	Reason        string     `json:"reason"`
	EvidenceDueAt *moment    `json:"evidence_due_at,omitempty"`
	CreatedAt     moment     `json:"created_at"`
	ClosedAt      *moment    `json:"closed_at,omitempty"`
}

type (
	refundOut      struct{ Body refundBody }
	refundListOut  struct{ Body list[refundBody] }
	disputeListOut struct{ Body list[disputeBody] }
	RefundPath     struct {
		RefundID id.Refund `path:"refund_id" pattern:"^ref_[a-z2-7]{26}$"`
	}
	refundFilter struct {
		Paging
		Where
		PaymentID id.Payment `query:"payment_id" pattern:"^pay_[a-z2-7]{26}$"`
	}
	disputeFilter struct {
		Paging
		State string `query:"state" enum:"open,won,lost"`
	}
)

type createRefundIn struct {
	PaymentPath
	IdempotencyKey string `header:"X-Idempotency-Key" required:"true" minLength:"1" maxLength:"255"`
	Body           struct {
		AmountMinor int64  `json:"amount_minor" minimum:"1" maximum:"100000000000"`
		Reason      string `json:"reason" minLength:"1" maxLength:"500"`
	}
}

func (s *server) refundOperations() {
	handle(s, "createRefund", s.createRefund)
	handle(s, "listRefunds", s.listRefunds)
	handle(s, "getRefund", s.getRefund)
	handle(s, "adminListDisputes", s.adminListDisputes)
}

// createRefund starts the refund's workflow, whose id derives from the key, and waits until the amount is taken out or refused. What Stripe
// makes of it is seen later.
func (s *server) createRefund(ctx context.Context, in *createRefundIn) (*refundOut, error) {
	who, at := middleware.Principal(ctx), middleware.At(ctx)
	amount, err := money.FromMinor(in.Body.AmountMinor)
	if err != nil {
		return nil, fault.New(fault.RefundExceedsPayment, "")
	}
	refundID := deriveID[id.Refund](s, string(at.TenantID), string(who.UserID), "createRefund", in.IdempotencyKey)
	var reply workflows.RefundReply
	if err := s.order(ctx, paymentPatience, orderedWorkflow{
		id: workflows.RefundWorkflowID(refundID), queue: workflows.PaymentsQueue, kind: workflows.RefundType, update: workflows.AuthoriseUpdate,
		input: workflows.RefundInput{RefundID: refundID}, summary: "Refund of " + string(in.PaymentID),
		asked: workflows.RefundRequest{
			RefundID: refundID, PaymentID: in.PaymentID, TenantID: at.TenantID, UserID: who.UserID, AmountMicros: amount, Reason: in.Body.Reason,
			Actor: who.Actor(), CorrelationID: telemetry.Correlation(ctx),
		},
	}, &reply); err != nil {
		return nil, err
	}
	if reply.Fault != nil {
		return nil, fromStep(reply.Fault)
	}
	row, err := queries.GetRefund(ctx, s.config.Pool, at.TenantID, refundID)
	if err != nil {
		return nil, err
	}
	if row.AmountMicros != amount || row.PaymentID != in.PaymentID {
		return nil, fault.New(fault.IdempotencyConflict, "This X-Idempotency-Key was used longer ago than answers are kept.")
	}
	return &refundOut{Body: renderRefund(row)}, nil
}

func renderRefund(row queries.Refund) refundBody {
	return refundBody{
		ID: row.ID, PaymentID: row.PaymentID, TenantID: row.TenantID, AccountID: row.AccountID, UserID: row.UserID, State: string(row.State),
		FailureReason: row.FailureReason, AmountMinor: row.AmountMicros.Minor(), AmountMicros: int64(row.AmountMicros), Currency: row.Currency,
		Reason: row.Reason, LedgerEntryID: row.EntryID, CreatedAt: moment(row.CreatedAt), EndedAt: maybe(row.EndedAt),
	}
}

func (s *server) getRefund(ctx context.Context, _ *RefundPath) (*refundOut, error) {
	row, found := middleware.At(ctx).Object.(queries.Refund)
	if !found {
		return nil, fault.New(fault.RefundNotFound, "")
	}
	return &refundOut{Body: renderRefund(row)}, nil
}

func (s *server) listRefunds(ctx context.Context, in *refundFilter) (*refundListOut, error) {
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.RefundsOfTenant(ctx, s.config.Pool, middleware.At(ctx).TenantID, in.PaymentID, page)
	if err != nil {
		return nil, err
	}
	return &refundListOut{Body: paged(in.Paging, rows, func(row queries.Refund) after { return after{row.CreatedAt, string(row.ID)} }, renderRefund)}, nil
}

func (s *server) adminListDisputes(ctx context.Context, in *disputeFilter) (*disputeListOut, error) {
	page, err := in.behind()
	if err != nil {
		return nil, err
	}
	rows, err := queries.AllDisputes(ctx, s.config.Pool, payment.DisputeState(in.State), page)
	if err != nil {
		return nil, err
	}
	return &disputeListOut{Body: paged(in.Paging, rows, func(row queries.Dispute) after { return after{row.CreatedAt, string(row.ID)} },
		func(row queries.Dispute) disputeBody {
			return disputeBody{
				ID: row.ID, PaymentID: row.PaymentID, TenantID: row.TenantID, AccountID: row.AccountID, State: string(row.State), Withdrawn: row.WithdrawnEntryID != nil,
				AmountMinor: row.AmountMicros.Minor(), AmountMicros: int64(row.AmountMicros), Currency: row.Currency, Reason: row.Reason,
				EvidenceDueAt: maybe(row.EvidenceDueAt), CreatedAt: moment(row.CreatedAt), ClosedAt: maybe(row.ClosedAt),
			}
		})}, nil
}
