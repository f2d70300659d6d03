package activities

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// Adjust posts one correction of a tenant's balance with its audit and outbox rows in one transaction. A repeat answers
// the entry that stands, or the refusal that was given: both are kept by the adjustment's id. Faults of the domain
// come back in the result, because a refused adjustment is an outcome and not a failure.
func (l *Ledger) Adjust(ctx context.Context, in workflows.AdjustmentInput) (workflows.AdjustmentResult, error) {
	var result workflows.AdjustmentResult
	err := l.knowPlatform(ctx, in.Currency)
	if err == nil {
		err = store.InTx(ctx, l.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
			result, err = l.adjust(ctx, tx, in)
			return err
		})
	}
	var known *fault.Error
	if errors.As(err, &known) {
		refused, err := crossing(known)
		return workflows.AdjustmentResult{Fault: refused}, err
	}
	return result, err
}

func (l *Ledger) adjust(ctx context.Context, tx pgx.Tx, in workflows.AdjustmentInput) (workflows.AdjustmentResult, error) {
	account, err := l.adjustable(ctx, tx, in)
	if err != nil {
		return workflows.AdjustmentResult{}, err
	}
	entry, err := l.adjustmentEntry(ctx, in)
	if err != nil {
		return workflows.AdjustmentResult{}, err
	}
	balance, err := queries.Balance(ctx, tx, in.AccountID)
	if err != nil {
		return workflows.AdjustmentResult{}, err
	}
	standing, err := queries.FindEntry(ctx, tx, entry.IdempotencyKey)
	if err != nil {
		return workflows.AdjustmentResult{}, err
	}
	if standing != nil {
		return l.standingAdjustment(ctx, in, entry, *standing, balance)
	}
	refusal, err := l.refusal(ctx, tx, account, in, balance)
	if err != nil || refusal != nil {
		return workflows.AdjustmentResult{BalanceMicros: balance, Fault: refusal}, err
	}
	entryID, inserted, err := queries.InsertEntry(ctx, tx, entry)
	if queries.Violates(err, queries.ConstraintAccountOpen) {
		return workflows.AdjustmentResult{}, fault.New(fault.TenantClosed, "")
	}
	if err != nil {
		return workflows.AdjustmentResult{}, err
	}
	if !inserted {
		return workflows.AdjustmentResult{}, errors.New("the same adjustment was written by another transaction under the same lock")
	}
	if err := l.recordAdjustment(ctx, tx, account.TenantID, in, entry, entryID); err != nil {
		return workflows.AdjustmentResult{}, err
	}
	return workflows.AdjustmentResult{EntryID: entryID, BalanceMicros: balance + in.AmountMicros}, nil
}

// adjustable locks the account that is to be adjusted; whoever authorises spending of it waits here.
func (l *Ledger) adjustable(ctx context.Context, tx pgx.Tx, in workflows.AdjustmentInput) (queries.TenantAccount, error) {
	account, err := queries.GetAccount(ctx, tx, in.AccountID)
	if errors.Is(err, pgx.ErrNoRows) {
		return account, fault.New(fault.AccountNotFound, "")
	}
	if err != nil {
		return account, err
	}
	if account.Currency != in.Currency {
		return account, fault.Newf(fault.CurrencyMismatch, "The account holds %s, not %s.", account.Currency, in.Currency)
	}
	if in.AmountMicros == 0 || in.AmountMicros > money.MaxSafe || in.AmountMicros < -money.MaxSafe || (in.Opening && in.AmountMicros < 0) {
		return account, fault.New(fault.AmountOutOfRange, "An adjustment is not zero and fits what a reader of JSON holds exactly; an opening credit is positive.")
	}
	_, err = queries.LockAccount(ctx, tx, account.TenantID, account.ID)
	return account, err
}

// adjustmentEntry is the ledger entry of an adjustment: platform credit against the tenant's account.
func (l *Ledger) adjustmentEntry(ctx context.Context, in workflows.AdjustmentInput) (queries.Entry, error) {
	platform, err := l.platformAccount(ctx, queries.AccountPlatformCredit, in.Currency)
	if err != nil {
		return queries.Entry{}, err
	}
	entry := queries.Entry{
		Kind: "adjustment_credit", TxnID: randomUUID(), DebitAccountID: platform, CreditAccountID: in.AccountID,
		Currency: in.Currency, AmountMicros: in.AmountMicros, IdempotencyKey: workflows.AdjustmentWorkflowID(in.AdjustmentID),
	}
	switch {
	case in.Opening:
		entry.Kind = "opening_credit"
	case in.AmountMicros < 0:
		entry.Kind, entry.AmountMicros = "adjustment_debit", -in.AmountMicros
		entry.DebitAccountID, entry.CreditAccountID = in.AccountID, platform
	}
	return entry, nil
}

// standingAdjustment answers a repeat: the entry that stands, which must be the same adjustment.
func (l *Ledger) standingAdjustment(ctx context.Context, in workflows.AdjustmentInput, wanted queries.Entry, standing queries.StandingEntry, balance money.Micros) (workflows.AdjustmentResult, error) {
	same := standing.Kind == wanted.Kind && standing.AmountMicros == wanted.AmountMicros &&
		standing.DebitAccountID == wanted.DebitAccountID && standing.CreditAccountID == wanted.CreditAccountID
	if !same {
		l.stats.conflicts.Add(1)
		l.log.ErrorContext(ctx, "alarm: an adjustment stands otherwise than it is asked for", "adjustment_id", in.AdjustmentID, "entry_id", standing.ID)
		return workflows.AdjustmentResult{}, fault.Newf(fault.LedgerConflict, "The adjustment %s stands with another amount or account.", in.AdjustmentID)
	}
	return workflows.AdjustmentResult{EntryID: standing.ID, BalanceMicros: balance}, nil
}

const (
	auditAdjust           = "ledger.adjust"
	auditTargetAdjustment = "adjustment"
)

// refusal is the fault of a debit beyond what is available = balance − accrued; nil when it may be posted. It is written
// to the audit log, which makes a repeat the same refusal. What is held for a refund is not in the balance any more.
func (l *Ledger) refusal(ctx context.Context, tx pgx.Tx, account queries.TenantAccount, in workflows.AdjustmentInput, balance money.Micros) (*workflows.Fault, error) {
	if in.AmountMicros > 0 {
		return nil, nil
	}
	refused, err := queries.AuditRefused(ctx, tx, auditAdjust, auditTargetAdjustment, string(in.AdjustmentID))
	if err != nil {
		return nil, err
	}
	accrued, err := l.accrued(ctx, tx, account.TenantID, account.ID)
	if err != nil {
		return nil, err
	}
	available := balance - accrued
	if !refused && available >= -in.AmountMicros {
		return nil, nil
	}
	details := map[string]any{"available_micros": available, "requested_micros": -in.AmountMicros, "shortfall_micros": max(-in.AmountMicros-available, 0), "currency": in.Currency}
	if !refused {
		err := queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(account.TenantID), Actor: in.Actor, Action: auditAdjust, TargetType: auditTargetAdjustment, TargetID: string(in.AdjustmentID),
			Refused: true, Details: map[string]any{"account_id": in.AccountID, "amount_micros": in.AmountMicros, "reason": in.Reason, "available_micros": available},
			CorrelationID: in.CorrelationID,
		})
		if err != nil {
			return nil, err
		}
	}
	return crossing(fault.New(fault.InsufficientBalance, "The balance less what has accrued does not cover this debit.").With(details))
}

// accrued is what the account's meters have run up beyond their posted windows.
func (l *Ledger) accrued(ctx context.Context, tx pgx.Tx, tenant id.Tenant, account id.Account) (money.Micros, error) {
	meters, err := queries.RunningMeters(ctx, tx, tenant, account)
	if err != nil || len(meters) == 0 {
		return 0, err
	}
	allocations := make([]id.Allocation, len(meters))
	for i, meter := range meters {
		allocations[i] = meter.AllocationID
	}
	posted, err := queries.LastPostedEnds(ctx, tx, allocations)
	if err != nil {
		return 0, err
	}
	now := milliseconds(l.now())
	var total money.Micros
	for _, meter := range meters {
		if posted[meter.AllocationID].Settled {
			continue
		}
		part, err := billing.Meter{RateMicrosPerHour: meter.RateMicrosPerHour, Anchor: meter.MeteredFrom, End: meter.MeteredTo}.
			Accrued(posted[meter.AllocationID].PostedTo, now)
		if err != nil {
			return 0, err
		}
		total += part
	}
	return total, nil
}

// balanceAdjusted is the payload of billing.balance_adjusted; AmountMicros is signed.
type balanceAdjusted struct {
	AdjustmentID id.Adjustment `json:"adjustment_id"`
	TenantID     id.Tenant     `json:"tenant_id"`
	AccountID    id.Account    `json:"account_id"`
	Currency     string        `json:"currency"`
	AmountMicros money.Micros  `json:"amount_micros"`
	Kind         string        `json:"kind"`
	EntryIDs     []int64       `json:"entry_ids"`
}

// recordAdjustment writes the audit row and the outbox row of a posted adjustment.
func (l *Ledger) recordAdjustment(ctx context.Context, tx pgx.Tx, tenant id.Tenant, in workflows.AdjustmentInput, entry queries.Entry, entryID int64) error {
	err := queries.InsertAudit(ctx, tx, queries.Audit{
		TenantID: string(tenant), Actor: in.Actor, Action: auditAdjust, TargetType: auditTargetAdjustment, TargetID: string(in.AdjustmentID),
		Details: map[string]any{
			"account_id": in.AccountID, "amount_micros": in.AmountMicros, "reason": in.Reason, "kind": entry.Kind, "entry_id": entryID,
		},
		CorrelationID: in.CorrelationID,
	})
	if err != nil {
		return err
	}
	return queries.InsertOutbox(ctx, tx, queries.Event{
		Type: event.BillingBalanceAdjusted, Fact: entry.IdempotencyKey, AggregateID: string(in.AccountID), OccurredAt: l.now().Truncate(time.Millisecond),
		CorrelationID: in.CorrelationID,
		Payload: balanceAdjusted{AdjustmentID: in.AdjustmentID, TenantID: tenant, AccountID: in.AccountID, Currency: in.Currency,
			AmountMicros: in.AmountMicros, Kind: entry.Kind, EntryIDs: []int64{entryID}},
	})
}
