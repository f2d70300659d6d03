package api

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type closingBody struct {
	Tenant       tenantBody `json:"tenant"`
	RefundMicros int64      `json:"refund_micros" doc:"What remained of the balance and is due to be paid out."`
	Currency     string     `json:"currency" pattern:"^[a-z]{3}$"`
}

type refundDueBody struct {
	LedgerEntryID int64      `json:"ledger_entry_id"`
	TenantID      id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	AccountID     id.Account `json:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
	AmountMicros  int64      `json:"amount_micros"`
	Currency      string     `json:"currency" pattern:"^[a-z]{3}$"`
	Reason        string     `json:"reason"`
	CreatedAt     moment     `json:"created_at"`
}

type (
	closingOut       struct{ Body closingBody }
	refundDueListOut struct{ Body list[refundDueBody] }
	deleteMeIn       struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
)

func (s *server) closingOperations() {
	s.exportOperations()
	for _, operation := range []string{"closeTenant", "adminCloseTenant"} {
		handle(s, operation, s.closeTenant)
	}
	for _, operation := range []string{"reopenTenant", "adminReopenTenant"} {
		handle(s, operation, s.reopenTenant)
	}
	handle(s, "listRefundsDue", s.listRefundsDue)
	handle(s, deleteMe, s.deleteMe) // no answer of it is kept, as there would be nobody to keep it for; see departures
}

func (s *server) closeTenant(ctx context.Context, in *operateTenantIn) (*closingOut, error) {
	closure, err := s.changeClosure(ctx, workflows.CloseUpdate, in)
	if err != nil {
		return nil, err
	}
	tenant, err := s.tenant(ctx, in.TenantID)
	if err != nil {
		return nil, err
	}
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, in.TenantID)
	if err != nil {
		return nil, err
	}
	return &closingOut{Body: closingBody{Tenant: tenant.Body, RefundMicros: int64(closure.RefundMicros), Currency: account.Currency}}, nil
}

func (s *server) reopenTenant(ctx context.Context, in *operateTenantIn) (*tenantOut, error) {
	if _, err := s.changeClosure(ctx, workflows.ReopenUpdate, in); err != nil {
		return nil, err
	}
	return s.tenant(ctx, in.TenantID)
}

// changeClosure closes a tenant or opens it again: the workflow of its closure has Postgres keep the change, and erases the tenant
// once the notice has passed, however often a worker dies on the way.
func (s *server) changeClosure(ctx context.Context, update string, in *operateTenantIn) (workflows.ClosureReply, error) {
	change := workflows.ClosureChange{
		TenantID: in.TenantID, Actor: middleware.Principal(ctx).Actor(), Reason: in.Body.Reason,
		RequestID: middleware.RequestOf(ctx).ID, CorrelationID: telemetry.Correlation(ctx),
	}
	var reply workflows.ClosureReply
	if err := s.order(ctx, standingPatience, orderedWorkflow{
		id: workflows.TenantClosureWorkflowID(in.TenantID), queue: workflows.AllocationsQueue, kind: workflows.TenantClosureType, update: update,
		input: workflows.TenantClosureInput{TenantID: in.TenantID}, asked: change, summary: "Closure of " + string(in.TenantID),
	}, &reply); err != nil {
		return reply, err
	}
	if reply.Fault != nil {
		return reply, fromStep(reply.Fault)
	}
	return reply, nil
}

func (s *server) listRefundsDue(ctx context.Context, in *Paging) (*refundDueListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	var before int64
	if from.ID != "" {
		if before, err = strconv.ParseInt(from.ID, 10, 64); err != nil {
			return nil, invalid("query.cursor", "the cursor is not one that a page of refunds answered")
		}
	}
	rows, err := queries.ReadRefundsDue(ctx, s.config.Pool, from.Time, before, in.fetch())
	if err != nil {
		return nil, err
	}
	return &refundDueListOut{Body: paged(*in, rows, func(row queries.RefundDue) after { return after{row.CreatedAt, strconv.FormatInt(row.EntryID, 10)} },
		func(row queries.RefundDue) refundDueBody {
			return refundDueBody{
				LedgerEntryID: row.EntryID, TenantID: row.TenantID, AccountID: row.AccountID, AmountMicros: int64(row.AmountMicros),
				Currency: row.Currency, Reason: row.Reason, CreatedAt: moment(row.CreatedAt),
			}
		})}, nil
}

// deleteMe erases the caller at once, with the closed tenants that nobody else owns: whoever wants to be gone does not wait for a notice.
func (s *server) deleteMe(ctx context.Context, _ *deleteMeIn) (*struct{}, error) {
	who := middleware.Principal(ctx)
	row := &queries.Audit{TenantID: string(who.TenantID), Action: "user.erase", TargetType: "user", TargetID: string(who.UserID)}
	err := s.change(ctx, row, func(ctx context.Context, tx pgx.Tx) error {
		held, err := queries.HoldUser(ctx, tx, who.UserID)
		if err != nil {
			return orMissing(err, fault.UserNotFound)
		}
		if err := s.rememberDeparture(ctx, tx, held); err != nil {
			return err
		}
		if err := eraseClosedTenants(ctx, tx, who.UserID); err != nil {
			return err
		}
		if err := queries.EraseUser(ctx, tx, who.UserID); err != nil {
			return orRefused(err, map[string]fault.Code{queries.ConstraintLastOwner: fault.LastOwner, queries.ConstraintLastAdmin: fault.LastPlatformAdmin})
		}
		inUse, err := queries.UserInUse(ctx, tx, who.UserID)
		if err == nil && inUse {
			err = fault.New(fault.UserInUse, "")
		}
		return err
	})
	return nil, err
}

func eraseClosedTenants(ctx context.Context, tx pgx.Tx, user id.User) error {
	tenants, err := queries.ClosedTenantsOf(ctx, tx, user)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		if _, err := queries.EraseTenant(ctx, tx, tenant); err != nil {
			return err
		}
	}
	return nil
}
