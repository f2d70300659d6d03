package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/worker"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Closures closes tenants, opens them again and erases them. Its tools are the database, the ledger's writer and the clock.
type Closures struct {
	Pool   *pgxpool.Pool
	Ledger *Ledger
	Now    func() time.Time
}

// Bind registers the steps of TenantClosure.
func (c *Closures) Bind(registry worker.ActivityRegistry) {
	workflows.StepCloseTenant.Bind(registry, c.Close)
	workflows.StepReopenTenant.Bind(registry, c.Reopen)
	workflows.StepEraseTenant.Bind(registry, c.Erase)
}

// Close closes an active tenant of which nothing runs, ends what could act for it, and takes what remains out of its balance.
// Faults: TenantNotFound, TenantStateConflict, TenantInUse, BalanceNegative.
func (c *Closures) Close(ctx context.Context, in workflows.ClosureChange) (workflows.Closure, error) {
	account, err := queries.AccountOfTenant(ctx, c.Pool, in.TenantID)
	if err != nil {
		return workflows.Closure{}, orFault(err, fault.TenantNotFound)
	}
	// Read before the transaction begins; see knowPlatform.
	if _, err := c.Ledger.platformAccount(ctx, queries.AccountPlatformRefundsDue, account.Currency); err != nil {
		return workflows.Closure{}, err
	}
	return c.once(ctx, in, func(ctx context.Context, tx pgx.Tx) error { return c.closeTenant(ctx, tx, in, account) })
}

// Reopen makes a closed tenant active again. What was taken out of its balance stays due. Faults: TenantNotFound,
// TenantStateConflict where it is not closed, or was erased.
func (c *Closures) Reopen(ctx context.Context, in workflows.ClosureChange) (workflows.Closure, error) {
	return c.once(ctx, in, func(ctx context.Context, tx pgx.Tx) error {
		tenant, err := queries.HoldTenant(ctx, tx, in.TenantID)
		if err != nil {
			return orFault(err, fault.TenantNotFound)
		}
		if tenant.ErasedAt != nil {
			return fault.New(fault.TenantStateConflict, "The tenant was erased.").With(map[string]any{"status": tenant.Status})
		}
		changed, err := queries.ReopenTenant(ctx, tx, in.TenantID, in.Reason)
		if err == nil && !changed {
			err = notInState(tenant)
		}
		if err != nil {
			return err
		}
		return auditClosure(ctx, tx, in, "tenant.reopen", map[string]any{"reason": in.Reason})
	})
}

// Erase removes what is personal of a closed tenant whose notice has passed. It answers not closed once nothing is left to do: the
// tenant was erased, now or before, or is open again.
func (c *Closures) Erase(ctx context.Context, in workflows.EraseTenantIn) (closure workflows.Closure, err error) {
	err = store.InTx(ctx, c.Pool, func(ctx context.Context, tx pgx.Tx) error {
		tenant, err := queries.HoldTenant(ctx, tx, in.TenantID)
		if err != nil {
			return orFault(err, fault.TenantNotFound)
		}
		closure = closureOf(tenant)
		if !closure.Closed || closure.EraseAt.After(milliseconds(c.Now())) {
			return nil
		}
		if _, err := queries.EraseTenant(ctx, tx, in.TenantID); err != nil {
			return err
		}
		closure = workflows.Closure{}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(in.TenantID), Actor: identity.Platform(), Action: "tenant.erase", TargetType: "tenant", TargetID: string(in.TenantID),
			CorrelationID: workflows.TenantClosureWorkflowID(in.TenantID),
		})
	})
	return closure, err
}

// once makes a change once for its request and answers how the tenant stands then.
func (c *Closures) once(ctx context.Context, in workflows.ClosureChange, change func(context.Context, pgx.Tx) error) (closure workflows.Closure, err error) {
	err = store.InTx(ctx, c.Pool, func(ctx context.Context, tx pgx.Tx) error {
		switch _, err := queries.AuditOfRequest(ctx, tx, in.RequestID); {
		case errors.Is(err, pgx.ErrNoRows):
			if err := change(ctx, tx); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		tenant, err := queries.GetTenant(ctx, tx, in.TenantID)
		if err != nil {
			return err
		}
		closure = closureOf(tenant)
		due, err := queries.FindEntry(ctx, tx, refundKey(in.TenantID, in.RequestID))
		if due != nil {
			closure.RefundMicros, closure.Currency = due.AmountMicros, due.Currency
		}
		return err
	})
	return closure, err
}

func closureOf(tenant queries.Tenant) workflows.Closure {
	if tenant.Status != queries.TenantClosed || tenant.ErasedAt != nil || tenant.EraseAt == nil {
		return workflows.Closure{}
	}
	return workflows.Closure{Closed: true, EraseAt: milliseconds(*tenant.EraseAt)}
}

func notInState(tenant queries.Tenant) error {
	return fault.Newf(fault.TenantStateConflict, "The tenant is %s.", tenant.Status).With(map[string]any{"status": tenant.Status})
}

// closeTenant holds first the account and then the tenant, as an admission does, so that the two take turns.
func (c *Closures) closeTenant(ctx context.Context, tx pgx.Tx, in workflows.ClosureChange, account queries.Account) error {
	if _, err := queries.LockAccount(ctx, tx, in.TenantID, account.ID); err != nil {
		return err
	}
	tenant, err := queries.HoldTenant(ctx, tx, in.TenantID)
	if err != nil {
		return orFault(err, fault.TenantNotFound)
	}
	if tenant.Status != queries.TenantActive {
		return notInState(tenant)
	}
	balance, err := closingBalance(ctx, tx, in.TenantID, account)
	if err != nil {
		return err
	}
	values, err := policy.ReadForTenant(ctx, tx, in.TenantID)
	if err != nil {
		return err
	}
	eraseAt := milliseconds(c.Now()).Add(values.Seconds(authored.TenancyErasureNoticeSeconds))
	changed, err := queries.CloseTenant(ctx, tx, in.TenantID, in.Reason, eraseAt)
	if err == nil && !changed {
		err = fmt.Errorf("the tenant %s was active under the lock and could not be closed", in.TenantID)
	}
	if err != nil {
		return err
	}
	if err := c.Ledger.refundClosing(ctx, tx, in, account, balance); err != nil {
		return err
	}
	return auditClosure(ctx, tx, in, "tenant.close", map[string]any{
		"reason": in.Reason, "refund_micros": balance, "currency": account.Currency, "erase_at": eraseAt.Format(time.RFC3339Nano),
	})
}

// closingBalance is what remains once nothing runs any more: every meter is settled then, so nothing can still be charged.
func closingBalance(ctx context.Context, tx pgx.Tx, tenant id.Tenant, account queries.Account) (balance money.Micros, err error) {
	inUse, err := queries.TenantInUse(ctx, tx, tenant)
	if err != nil {
		return 0, err
	}
	if inUse {
		return 0, fault.New(fault.TenantInUse, "")
	}
	if balance, err = queries.Balance(ctx, tx, account.ID); err != nil {
		return 0, err
	}
	if balance < 0 {
		return 0, fault.New(fault.BalanceNegative, "").With(map[string]any{"balance_micros": balance, "currency": account.Currency})
	}
	return balance, nil
}

func auditClosure(ctx context.Context, tx pgx.Tx, in workflows.ClosureChange, action string, details map[string]any) error {
	return queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(in.TenantID), Actor: in.Actor, Action: action, TargetType: "tenant", TargetID: string(in.TenantID),
		CorrelationID: in.CorrelationID, RequestID: in.RequestID, Details: details,
	})
}

// refundKey names the refund of one closing.
func refundKey(tenant id.Tenant, request string) string {
	return fmt.Sprintf("closing/%s/%s", tenant, request)
}

// refundClosing takes what remains out of a tenant's balance, which is exactly zero then, and into what the platform owes.
func (l *Ledger) refundClosing(ctx context.Context, tx pgx.Tx, in workflows.ClosureChange, account queries.Account, balance money.Micros) error {
	if balance == 0 {
		return nil
	}
	due, err := l.platformAccount(ctx, queries.AccountPlatformRefundsDue, account.Currency)
	if err != nil {
		return err
	}
	entryID, inserted, err := queries.InsertEntry(ctx, tx, queries.Entry{
		Kind: "closing_refund", TxnID: randomUUID(), DebitAccountID: account.ID, CreditAccountID: due, Currency: account.Currency,
		AmountMicros: balance, IdempotencyKey: refundKey(in.TenantID, in.RequestID),
	})
	if err == nil && !inserted {
		err = fmt.Errorf("the refund of %s stands although its closing does not", in.TenantID)
	}
	if err != nil {
		return err
	}
	return queries.InsertRefundDue(ctx, tx, queries.RefundDue{
		EntryID: entryID, TenantID: in.TenantID, AccountID: account.ID, Currency: account.Currency, AmountMicros: balance, Reason: in.Reason,
	})
}
