//go:build integration

package activities_test

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/workflows"
)

func adjustment(principal identity.Principal, amount money.Micros) workflows.AdjustmentInput {
	return workflows.AdjustmentInput{
		AdjustmentID: newID[id.Adjustment](), AccountID: principal.AccountID, Currency: "usd", AmountMicros: amount,
		Reason: "a test", Actor: identity.Actor{ID: "user_admin", Role: identity.RoleAdmin}, CorrelationID: "correlation",
	}
}

func TestAnAdjustmentIsPostedOnceWithItsAuditAndEvent(t *testing.T) {
	b := newBooks(t)
	owner := b.tenant("owner", 0)
	in := adjustment(owner, 5_000_000)
	first, err := b.ledger.Adjust(t.Context(), in)
	if err != nil || first.Fault != nil || first.EntryID == 0 || first.BalanceMicros != 5_000_000 {
		t.Fatalf("%+v, error %v", first, err)
	}
	again, err := b.ledger.Adjust(t.Context(), in)
	if err != nil || again != first {
		t.Fatalf("the repeat answers %+v, error %v", again, err)
	}
	other := in
	other.AmountMicros++
	if result, err := b.ledger.Adjust(t.Context(), other); err != nil || result.Fault == nil || result.Fault.Code != "ledger_conflict" {
		t.Fatalf("another amount under the same id: %+v, error %v", result, err)
	}
	if n := b.count(`SELECT count(*) FROM audit_logs WHERE action = 'ledger.adjust' AND target_id = $1 AND result = 'success' AND tenant_id = $2`, in.AdjustmentID, owner.TenantID); n != 1 {
		t.Fatalf("%d audit rows", n)
	}
	if n := b.count(`SELECT count(*) FROM outbox WHERE subject = 'billing.balance_adjusted' AND payload #>> '{payload,adjustment_id}' = $1`, in.AdjustmentID); n != 1 {
		t.Fatalf("%d events", n)
	}
}

func TestADebitIsAuthorisedAgainstWhatIsAvailable(t *testing.T) {
	b := newBooks(t)
	owner := b.tenant("owner", 100_000_000)
	b.meter(owner, 3_600_000_000, 60, b.now.Add(-time.Minute)) // 60 000 000 accrued, none of it posted
	in := adjustment(owner, -40_000_001)
	for attempt := range 2 {
		result, err := b.ledger.Adjust(t.Context(), in)
		if err != nil || result.Fault == nil || result.Fault.Code != "insufficient_balance" {
			t.Fatalf("attempt %d: %+v, error %v", attempt, result, err)
		}
	}
	if n := b.count(`SELECT count(*) FROM audit_logs WHERE target_id = $1 AND result = 'refused'`, in.AdjustmentID); n != 1 {
		t.Fatalf("%d refusals are audited", n)
	}
	if result, err := b.ledger.Adjust(t.Context(), adjustment(owner, -40_000_000)); err != nil || result.Fault != nil || result.BalanceMicros != 60_000_000 {
		t.Fatalf("a debit of what is available: %+v, error %v", result, err)
	}
	// More money does not turn a refusal that was given into a posting.
	if _, err := b.ledger.Adjust(t.Context(), adjustment(owner, 90_000_000)); err != nil {
		t.Fatal(err)
	}
	if result, err := b.ledger.Adjust(t.Context(), in); err != nil || result.Fault == nil {
		t.Fatalf("the refused debit again: %+v, error %v", result, err)
	}
}

func TestDebitsAtOnceNeverSpendMoreThanThereIs(t *testing.T) {
	b := newBooks(t)
	owner := b.tenant("owner", 10_000_000)
	var group errgroup.Group
	var mutex sync.Mutex
	posted := 0
	for range 25 {
		group.Go(func() error {
			result, err := b.ledger.Adjust(t.Context(), adjustment(owner, -1_000_000))
			mutex.Lock()
			defer mutex.Unlock()
			if err == nil && result.Fault == nil {
				posted++
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if balance := b.balance(owner.AccountID); posted != 10 || balance != 0 {
		t.Fatalf("%d debits were posted, the balance is %d", posted, balance)
	}
}

func TestAnAdjustmentOfWhatCannotBeIsRefused(t *testing.T) {
	b := newBooks(t)
	owner := b.tenant("owner", 0)
	for code, change := range map[string]func(*workflows.AdjustmentInput){
		"account_not_found":   func(in *workflows.AdjustmentInput) { in.AccountID = newID[id.Account]() },
		"currency_mismatch":   func(in *workflows.AdjustmentInput) { in.Currency = "eur" },
		"amount_out_of_range": func(in *workflows.AdjustmentInput) { in.AmountMicros = 0 },
	} {
		in := adjustment(owner, 1)
		change(&in)
		if result, err := b.ledger.Adjust(t.Context(), in); err != nil || result.Fault == nil || result.Fault.Code != code {
			t.Errorf("%s: %+v, error %v", code, result, err)
		}
	}
	opening := adjustment(owner, 3)
	opening.Opening = true
	if result, err := b.ledger.Adjust(t.Context(), opening); err != nil || result.Fault != nil {
		t.Fatalf("%+v, error %v", result, err)
	}
	if n := b.count(`SELECT count(*) FROM ledger_entries WHERE kind = 'opening_credit' AND credit_account_id = $1`, owner.AccountID); n != 1 {
		t.Fatalf("%d opening credits", n)
	}
}
