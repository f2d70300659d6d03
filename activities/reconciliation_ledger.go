package activities

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/reconciliation"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// How much one statement reads at most.
const (
	checkMeters   = 50
	checkRows     = 2000
	checkAccounts = 200
	checkSums     = 200_000
)

// checkWindows holds the usage of a stretch of allocations, as of one instant, beside their meters and the charge rule.
func (r *Reconciliation) checkWindows(ctx context.Context, terms workflows.ReconciliationTerms, cursor *workflows.CheckCursor) (all []reconciliation.Found, done bool, err error) {
	again, err := queries.FindingSubjects(ctx, r.Pool, reconciliation.Windows, mostAgain)
	if err != nil {
		return nil, false, err
	}
	var meters []queries.MeterToCheck
	var bills map[id.Allocation]*reconciliation.Billed
	var now time.Time
	err = snapshot(ctx, r.Pool, func(tx pgx.Tx) (err error) {
		now = milliseconds(r.Now())
		if meters, err = queries.MetersToCheck(ctx, tx, id.Allocation(cursor.After), terms.Since, again, checkMeters); err != nil {
			return err
		}
		bills, err = billed(ctx, tx, meters)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	for _, meter := range meters {
		judged, err := bills[meter.ID].Judge(now, terms.Lag())
		if err != nil {
			return nil, false, fmt.Errorf("the bill of %s: %w", meter.ID, err)
		}
		all = append(all, wrongBill(meter, *bills[meter.ID], judged)...)
		cursor.After = string(meter.ID)
	}
	cursor.Examined += int64(len(meters))
	return all, len(meters) < checkMeters, nil
}

// billed reads what the ledger holds of each of these meters.
func billed(ctx context.Context, tx pgx.Tx, meters []queries.MeterToCheck) (map[id.Allocation]*reconciliation.Billed, error) {
	bills := make(map[id.Allocation]*reconciliation.Billed, len(meters))
	ids, subjects := make([]id.Allocation, len(meters)), make([]string, len(meters))
	for i, meter := range meters {
		ids[i], subjects[i] = meter.ID, string(meter.ID)
		bills[meter.ID] = &reconciliation.Billed{
			RateMicrosPerHour: meter.RateMicrosPerHour, Window: time.Duration(meter.WindowSeconds) * time.Second, WindowsPerSettlement: meter.WindowsPerSettlement,
			Anchor: meter.MeteredFrom, End: meter.MeteredTo, SuspendedAt: meter.SuspendedAt, ChangedAt: meter.UpdatedAt,
		}
	}
	usage, err := queries.UsageOf(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	settled, err := queries.SettledMeters(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	credits, err := queries.UsageCreditsOf(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	corrected, err := queries.CorrectedMicros(ctx, tx, subjects)
	if err != nil {
		return nil, err
	}
	for allocation, bill := range bills {
		if posted, any := usage[allocation]; any {
			bill.Windows, bill.FirstStart, bill.LastEnd = posted.Windows, &posted.FirstStart, &posted.LastEnd
			bill.UsageMicros, bill.GapMS, bill.OverlapMS = posted.UsageMicros, posted.GapMs, posted.OverlapMs
		}
		if end, closed := settled[allocation]; closed {
			bill.Settled = &end
		}
		bill.CorrectedMicros = corrected[string(allocation)]
	}
	for _, credit := range credits {
		bill := bills[credit.AllocationID]
		if credit.Kind == "usage_credit" {
			bill.CreditMicros += credit.AmountMicros
			continue
		}
		bill.Forgiven = append(bill.Forgiven, reconciliation.Forgiven{Period: billing.Period{Start: credit.PeriodStart, End: credit.PeriodEnd}, Micros: credit.AmountMicros})
	}
	return bills, nil
}

// wrongBill is what was found about an allocation's bill; nothing when it is right.
func wrongBill(meter queries.MeterToCheck, bill reconciliation.Billed, judged reconciliation.Judgement) []reconciliation.Found {
	var all []reconciliation.Found
	found := reconciliation.Found{
		Subject: string(meter.ID), AccountID: meter.AccountID, Currency: meter.Currency, AmountMicros: judged.OwedMicros,
		Detail: map[string]any{"missing_ms": judged.MissingMS, "surplus_ms": judged.SurplusMS, "windows": bill.Windows, "usage_micros": bill.UsageMicros,
			"credit_micros": bill.CreditMicros, "corrected_micros": bill.CorrectedMicros, "metered_from": bill.Anchor, "metered_to": bill.End, "posted_to": bill.LastEnd},
	}
	switch {
	case judged.OwedMicros < 0 || judged.OwedMicros == 0 && judged.MissingMS > 0:
		found.Kind = reconciliation.Unbilled
		found.Sentence = fmt.Sprintf("%d ms of %s, %d micros, are not billed.", judged.MissingMS, meter.ID, -judged.OwedMicros)
	case judged.OwedMicros > 0 || judged.SurplusMS > 0:
		found.Kind = reconciliation.Overbilled
		found.Sentence = fmt.Sprintf("%s is billed %d ms, %d micros, too much.", meter.ID, judged.SurplusMS, judged.OwedMicros)
	}
	if found.Kind != "" {
		if found.AmountMicros != 0 {
			found.Manner = reconciliation.Adjust
		}
		all = append(all, found)
	}
	if judged.SettlementDiffers {
		all = append(all, reconciliation.Found{
			Kind: reconciliation.SettlementDiffers, Subject: string(meter.ID), AccountID: meter.AccountID, Currency: meter.Currency,
			Sentence: fmt.Sprintf("The ledger did not close the meter of %s where the allocation ended.", meter.ID),
			Detail:   map[string]any{"metered_to": bill.End, "settled_to": bill.Settled},
		})
	}
	return all
}

const entrySubject = "ledger_entry/"

// checkEntries holds a stretch of entries, as of one instant, beside the accounts, allocations and payments that they are about; at first those
// of which something was found before.
func (r *Reconciliation) checkEntries(ctx context.Context, terms workflows.ReconciliationTerms, cursor *workflows.CheckCursor) (all []reconciliation.Found, done bool, err error) {
	var entries []queries.EntryToCheck
	err = snapshot(ctx, r.Pool, func(tx pgx.Tx) (err error) {
		if cursor.After == "" {
			entries, err = entriesAgain(ctx, tx)
			cursor.After = strconv.FormatInt(terms.EntriesAfter, 10)
		} else {
			after, parseErr := strconv.ParseInt(cursor.After, 10, 64)
			if parseErr != nil {
				return parseErr
			}
			entries, err = queries.EntriesToCheck(ctx, tx, after, terms.EntriesUpTo, checkRows)
			if done = len(entries) < checkRows; len(entries) > 0 {
				cursor.After = strconv.FormatInt(entries[len(entries)-1].ID, 10)
			}
		}
		if err == nil && len(entries) > 0 {
			all, err = oddEntries(ctx, tx, entries)
		}
		return err
	})
	cursor.Examined += int64(len(entries))
	return all, done, err
}

func entriesAgain(ctx context.Context, tx pgx.Tx) ([]queries.EntryToCheck, error) {
	subjects, err := queries.FindingSubjects(ctx, tx, reconciliation.Entries, mostAgain)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, subject := range subjects {
		if number, err := strconv.ParseInt(strings.TrimPrefix(subject, entrySubject), 10, 64); err == nil {
			ids = append(ids, number)
		}
	}
	return queries.EntriesToCheckAgain(ctx, tx, ids)
}

// oddEntries finds the entries that nothing stands behind, or that say otherwise than what they are about.
func oddEntries(ctx context.Context, tx pgx.Tx, entries []queries.EntryToCheck) ([]reconciliation.Found, error) {
	var accountIDs []id.Account
	var allocationIDs []id.Allocation
	var adjustments []string
	ids := make([]int64, len(entries))
	for i, entry := range entries {
		ids[i] = entry.ID
		accountIDs = append(accountIDs, entry.DebitAccountID, entry.CreditAccountID)
		if key, is := strings.CutPrefix(entry.IdempotencyKey, workflows.AdjustmentWorkflowID("")); is {
			adjustments = append(adjustments, key)
		}
		if entry.AllocationID != "" {
			allocationIDs = append(allocationIDs, entry.AllocationID)
		}
	}
	accounts, err := queries.KnownAccounts(ctx, tx, accountIDs)
	if err != nil {
		return nil, err
	}
	allocations, err := queries.KnownAllocations(ctx, tx, allocationIDs)
	if err != nil {
		return nil, err
	}
	claimed, err := queries.ClaimedEntries(ctx, tx, ids, adjustments)
	if err != nil {
		return nil, err
	}
	var all []reconciliation.Found
	for _, entry := range entries {
		if found := oddEntry(entry, accounts, allocations, claimed[entry.ID]); found != nil {
			all = append(all, *found)
		}
	}
	return uncorrected(ctx, tx, all)
}

// owners name, for the kinds that something else names as its own, what that is. A correction names any.
var owners = map[string]string{
	"deposit": "payment", "refund": "refund", "refund_settled": "refund", "refund_reversed": "refund",
	"dispute_withdrawn": "dispute", "dispute_reinstated": "dispute", "dispute_lost": "dispute",
	"adjustment_credit": "adjustment in the audit log", "adjustment_debit": "adjustment in the audit log", "opening_credit": "adjustment in the audit log",
	"closing_refund": "closing",
}

func oddEntry(entry queries.EntryToCheck, accounts map[id.Account]queries.KnownAccount, allocations map[id.Allocation]queries.KnownAllocation, claimed bool) *reconciliation.Found {
	found := &reconciliation.Found{Subject: entrySubject + strconv.FormatInt(entry.ID, 10), Detail: map[string]any{
		"entry_id": entry.ID, "kind": entry.Kind, "debit_account_id": entry.DebitAccountID, "credit_account_id": entry.CreditAccountID,
		"amount_micros": entry.AmountMicros, "allocation_id": entry.AllocationID,
	}}
	orphaned := func(format string, arguments ...any) *reconciliation.Found {
		found.Kind, found.Sentence = reconciliation.EntryOrphaned, fmt.Sprintf(format, arguments...)
		return found
	}
	contradicted := func(format string, arguments ...any) *reconciliation.Found {
		found.Kind, found.Sentence = reconciliation.EntryContradicted, fmt.Sprintf(format, arguments...)
		return found
	}
	for _, account := range []id.Account{entry.DebitAccountID, entry.CreditAccountID} {
		if _, known := accounts[account]; !known {
			return orphaned("Entry %d is about the account %s, which does not exist.", entry.ID, account)
		}
	}
	// The correction that is offered takes the entry back from the tenant whose account it moved.
	owner, owed := accounts[entry.CreditAccountID], -entry.AmountMicros
	if owner.TenantID == "" {
		owner, owed = accounts[entry.DebitAccountID], entry.AmountMicros
	}
	if owner.TenantID != "" && owner.Currency == entry.Currency && owed != 0 {
		found.AccountID, found.Currency, found.AmountMicros, found.Manner = owner.ID, owner.Currency, owed, reconciliation.Adjust
	}
	if owner := owners[entry.Kind]; owner != "" && !claimed {
		return orphaned("Entry %d is a %s that no %s knows of.", entry.ID, entry.Kind, owner)
	}
	if entry.AllocationID == "" {
		return nil
	}
	allocation, known := allocations[entry.AllocationID]
	switch {
	case !known:
		return orphaned("Entry %d is about %s, which does not exist.", entry.ID, entry.AllocationID)
	case allocation.AccountID != entry.DebitAccountID && allocation.AccountID != entry.CreditAccountID:
		return contradicted("Entry %d of %s moves another account than the allocation's.", entry.ID, entry.AllocationID)
	case allocation.MeteredFrom == nil:
		return contradicted("Entry %d bills %s, which was never metered.", entry.ID, entry.AllocationID)
	case entry.PeriodStart != nil && entry.PeriodStart.Before(*allocation.MeteredFrom):
		return contradicted("Entry %d bills %s before its meter began.", entry.ID, entry.AllocationID)
	default:
		return nil
	}
}

// checkBalances holds what is answered as the balance of a stretch of accounts beside their entries, up to a final one. In the end all of it
// comes to zero, because every entry moves the same from one account to another.
func (r *Reconciliation) checkBalances(ctx context.Context, terms workflows.ReconciliationTerms, cursor *workflows.CheckCursor) (all []reconciliation.Found, done bool, err error) {
	balances, err := queries.BalancesToCheck(ctx, r.Pool, id.Account(cursor.After), terms.EntriesUpTo, checkAccounts)
	if err != nil {
		return nil, false, err
	}
	if cursor.Micros == nil {
		cursor.Micros = map[string]money.Micros{}
	}
	for _, answered := range balances {
		summed, err := r.summed(ctx, terms, answered)
		if err != nil {
			return nil, false, err
		}
		cursor.Micros[answered.Currency] += answered.BalanceMicros
		cursor.After = string(answered.ID)
		if summed != answered.BalanceMicros {
			all = append(all, reconciliation.Found{
				Kind: reconciliation.BalanceDiffers, Subject: string(answered.ID), AccountID: answered.ID, Currency: answered.Currency,
				Sentence: fmt.Sprintf("The balance of %s is answered as %d micros, and its entries come to %d.", answered.ID, answered.BalanceMicros, summed),
				Detail:   map[string]any{"answered_micros": answered.BalanceMicros, "summed_micros": summed, "checkpoint_id": answered.CheckpointID, "up_to_id": terms.EntriesUpTo},
			})
		}
	}
	cursor.Examined += int64(len(balances))
	if len(balances) == checkAccounts {
		return all, false, nil
	}
	for currency, total := range cursor.Micros {
		if total != 0 {
			all = append(all, reconciliation.Found{
				Kind: reconciliation.BooksUnbalanced, Subject: currency, Sentence: fmt.Sprintf("All balances in %s come to %d micros, not to zero.", currency, total),
				Detail: map[string]any{"total_micros": total, "up_to_id": terms.EntriesUpTo},
			})
		}
	}
	return all, true, nil
}

// summed is what an account's entries come to: all of them in a whole run, otherwise from the checkpoint before the one that is answered from.
func (r *Reconciliation) summed(ctx context.Context, terms workflows.ReconciliationTerms, answered queries.BalanceToCheck) (money.Micros, error) {
	after, total := int64(0), money.Micros(0)
	if answered.CheckpointID != nil && terms.Since != nil {
		var err error
		if after, total, err = queries.Baseline(ctx, r.Pool, answered.ID, *answered.CheckpointID-1, *terms.Since); err != nil {
			return 0, err
		}
	}
	for {
		part, err := queries.SumEntries(ctx, r.Pool, answered.ID, after, terms.EntriesUpTo, checkSums)
		if err != nil {
			return 0, err
		}
		total += part.Micros
		if part.Entries < checkSums {
			return total, nil
		}
		after = part.NextID
	}
}
