package activities

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	// sealInterval is how often a sealer looks; what reads sealed rows is behind by about twice that.
	sealInterval = 20 * time.Millisecond
	// sealLagAlarm is the age of an unsealed observation that somebody must hear of: a writing transaction hangs.
	sealLagAlarm = 5 * time.Second
	// maxTail is how many entries a balance adds up at most beside what is not sealed yet.
	maxTail = 60
	// checkpointInterval is how often tails are looked at.
	checkpointInterval = 500 * time.Millisecond
	// forgetInterval is how often replaced seals and checkpoints are deleted.
	forgetInterval = 10 * time.Minute
)

// Sealer says up to which id the rows of the ledger and the outbox are final, and cuts the ledger's checkpoints there. Two
// may run at once: what both write is true and the same.
//
// It reads X, the highest visible id, and after that takes a transaction id N of its own. A writer takes its transaction id
// before its row id; so whoever holds an id ≤ X, visible or not, has a transaction id below N. Once no transaction below
// N runs, every id ≤ X is final. The snapshot's xmax would not do for N: it is one above the newest transaction that
// ended, and a transaction that runs may have a higher one with a lower row id.
type Sealer struct {
	pool *pgxpool.Pool
	log  *slog.Logger

	noted   queries.Observation
	pending []sealCandidate
	alarmed time.Time
	// lag is the age of the oldest unsealed observation, in milliseconds.
	lag atomic.Int64
	// checkpoints counts what was cut; looked is when rows were last looked for, in Unix milliseconds.
	checkpoints, looked atomic.Int64

	counted    int64
	countedAll bool
	tails      map[id.Account]int64
}

// sealCandidate waits until no transaction below its boundary runs any more.
type sealCandidate struct {
	ledgerID, outboxID int64
	boundary           uint64
	seenAt             time.Time
}

// NewSealer makes a sealer on a pool.
func NewSealer(pool *pgxpool.Pool, log *slog.Logger) *Sealer {
	return &Sealer{pool: pool, log: log, tails: map[id.Account]int64{}}
}

// Lag is how long the oldest rows that this sealer saw have been waiting to be sealed; above five seconds it alarms.
func (s *Sealer) Lag() time.Duration { return time.Duration(s.lag.Load()) * time.Millisecond }

// Checkpoints counts the checkpoints that this sealer cut.
func (s *Sealer) Checkpoints() int64 { return s.checkpoints.Load() }

// Looked is when this sealer last looked for rows to seal, with success; zero before.
func (s *Sealer) Looked() time.Time {
	if looked := s.looked.Load(); looked != 0 {
		return time.UnixMilli(looked)
	}
	return time.Time{}
}

// Run seals and cuts checkpoints until ctx ends. A database that is away is tried again.
func (s *Sealer) Run(ctx context.Context) error {
	seal, cut, forget := time.NewTicker(sealInterval), time.NewTicker(checkpointInterval), time.NewTicker(forgetInterval)
	defer seal.Stop()
	defer cut.Stop()
	defer forget.Stop()
	var troubled time.Time
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-seal.C:
			err = s.Seal(ctx)
		case <-cut.C:
			err = s.CutCheckpoints(ctx)
		case <-forget.C:
			err = queries.ForgetOldMarks(ctx, s.pool)
		}
		if err != nil && ctx.Err() == nil && time.Since(troubled) > sealLagAlarm {
			troubled = time.Now()
			s.log.WarnContext(ctx, "sealing had trouble and goes on", "error", err.Error())
		}
	}
}

// Seal looks once: it notes a new candidate if there are new rows, and seals the newest candidate that is due.
func (s *Sealer) Seal(ctx context.Context) error {
	seen, err := queries.Observe(ctx, s.pool)
	if err != nil {
		return err
	}
	if seen.LedgerID > s.noted.LedgerID || seen.OutboxID > s.noted.OutboxID {
		boundary, err := queries.NextTransactionID(ctx, s.pool)
		if err != nil {
			return err
		}
		s.noted = seen
		s.pending = append(s.pending, sealCandidate{seen.LedgerID, seen.OutboxID, boundary, time.Now()})
	}
	if err := s.sealDue(ctx, seen.OldestRunning); err != nil {
		return err
	}
	s.looked.Store(time.Now().UnixMilli())
	return nil
}

func (s *Sealer) sealDue(ctx context.Context, oldestRunning uint64) error {
	due := 0
	for due < len(s.pending) && s.pending[due].boundary <= oldestRunning {
		due++
	}
	if due > 0 {
		newest := s.pending[due-1]
		if err := queries.InsertSeals(ctx, s.pool, newest.ledgerID, newest.outboxID); err != nil {
			return err
		}
		s.pending = append(s.pending[:0:0], s.pending[due:]...)
	}
	s.watchLag(ctx, oldestRunning)
	return nil
}

func (s *Sealer) watchLag(ctx context.Context, oldestRunning uint64) {
	if len(s.pending) == 0 {
		s.lag.Store(0)
		return
	}
	lag := time.Since(s.pending[0].seenAt)
	s.lag.Store(lag.Milliseconds())
	if lag > sealLagAlarm && time.Since(s.alarmed) > sealLagAlarm {
		s.alarmed = time.Now()
		s.log.ErrorContext(ctx, "alarm: a writing transaction keeps the ledger and the outbox from being sealed",
			"lag_ms", lag.Milliseconds(), "oldest_running_xid", oldestRunning, "waits_for_xid", s.pending[0].boundary)
	}
}

// CutCheckpoints cuts a checkpoint for every account, the platform's included, whose tail exceeds 60 sealed entries. It
// counts tails as entries are sealed, and from the tables once at its start.
func (s *Sealer) CutCheckpoints(ctx context.Context) error {
	sealed, err := queries.NewestSeal(ctx, s.pool, queries.SealedLedger)
	if err != nil || sealed == s.counted {
		return err
	}
	var grown []queries.Tail
	if s.countedAll {
		grown, err = queries.Touched(ctx, s.pool, s.counted, sealed)
	} else {
		grown, err = queries.Tails(ctx, s.pool, sealed)
	}
	if err != nil {
		return err
	}
	for _, tail := range grown {
		s.tails[tail.AccountID] += tail.Entries
	}
	s.counted, s.countedAll = sealed, true
	return s.cut(ctx, sealed)
}

func (s *Sealer) cut(ctx context.Context, sealed int64) error {
	var long []id.Account
	for account, entries := range s.tails {
		if entries > maxTail {
			long = append(long, account)
		}
	}
	if len(long) == 0 {
		return nil
	}
	cut, err := queries.CutCheckpoints(ctx, s.pool, long, sealed)
	if err != nil {
		return err
	}
	s.checkpoints.Add(cut)
	for _, account := range long {
		delete(s.tails, account)
	}
	return nil
}
