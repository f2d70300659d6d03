package activities

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// balanceMarks remembers, for the accounts this worker posts for, a balance at a sealed entry id: a checkpoint in
// memory. What is sealed is final, so a balance continued from there is the same as one from the first entry, and
// reading it costs only the entries since.
type balanceMarks struct {
	mutex sync.Mutex
	marks map[id.Account]queries.BalanceMark
}

// maxBalanceMarks bounds the memory; beyond it the marks are forgotten and read again.
const maxBalanceMarks = 100_000

func newBalanceMarks() *balanceMarks {
	return &balanceMarks{marks: map[id.Account]queries.BalanceMark{}}
}

// of answers where to continue each account's balance from, reading the checkpoint of those not met yet.
func (b *balanceMarks) of(ctx context.Context, db queries.DB, accounts []id.Account) ([]queries.BalanceMark, error) {
	since := make([]queries.BalanceMark, len(accounts))
	var unknown []id.Account
	b.mutex.Lock()
	for i, account := range accounts {
		mark, known := b.marks[account]
		if !known {
			unknown = append(unknown, account)
			mark.AccountID = account
		}
		since[i] = mark
	}
	b.mutex.Unlock()
	if len(unknown) == 0 {
		return since, nil
	}
	checkpoints, err := queries.NewestCheckpoints(ctx, db, unknown)
	if err != nil {
		return nil, err
	}
	newest := make(map[id.Account]queries.BalanceMark, len(checkpoints))
	for _, checkpoint := range checkpoints {
		newest[checkpoint.AccountID] = checkpoint
	}
	for i := range since {
		if checkpoint, found := newest[since[i].AccountID]; found && since[i].UpToID == 0 {
			since[i] = checkpoint
		}
	}
	return since, nil
}

// advance keeps the sealed part of each balance and answers the balances themselves.
func (b *balanceMarks) advance(continued []queries.ContinuedBalance) map[id.Account]money.Micros {
	balances := make(map[id.Account]money.Micros, len(continued))
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if len(b.marks) > maxBalanceMarks {
		clear(b.marks)
	}
	for _, balance := range continued {
		balances[balance.AccountID] = balance.BalanceMicros
		if mark, known := b.marks[balance.AccountID]; !known || mark.UpToID < balance.SealedID {
			b.marks[balance.AccountID] = queries.BalanceMark{AccountID: balance.AccountID, UpToID: balance.SealedID, BalanceMicros: balance.SealedBalanceMicros}
		}
	}
	return balances
}

// ledgerCounters count what the writer did since it was made.
type ledgerCounters struct {
	statements, posted, repeated, bisections, refused, conflicts atomic.Int64
}

// LedgerStats is what a Ledger did since it was made; counters that only rise.
type LedgerStats struct {
	// Statements is how many posting statements committed, Posted how many windows they added, Repeated how many
	// stood already.
	Statements, Posted, Repeated int64
	// Bisections is how often a refused statement was halved, Refused how many postings the database refuses.
	Bisections, Refused int64
	// Conflicts is how many windows stood otherwise than they would have been posted. It must stay zero.
	Conflicts int64
}

// Stats reads the counters.
func (l *Ledger) Stats() LedgerStats {
	return LedgerStats{
		Statements: l.stats.statements.Load(), Posted: l.stats.posted.Load(), Repeated: l.stats.repeated.Load(),
		Bisections: l.stats.bisections.Load(), Refused: l.stats.refused.Load(), Conflicts: l.stats.conflicts.Load(),
	}
}
