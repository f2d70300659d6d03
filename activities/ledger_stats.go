package activities

import "sync/atomic"

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
