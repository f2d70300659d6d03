//go:build integration

package activities_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// stall makes writers of entries whose key begins with "stalled" wait in a BEFORE INSERT trigger, that is after they
// drew their id, until the returned function is called.
func (b *books) stall() (release func()) {
	b.t.Helper()
	b.exec(`CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$`)
	b.exec(`CREATE TRIGGER a_stall BEFORE INSERT ON ledger_entries FOR EACH ROW WHEN (NEW.idempotency_key LIKE 'stalled%') EXECUTE FUNCTION stall()`)
	holder, err := b.Owner.Acquire(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := holder.Exec(b.t.Context(), `SELECT pg_advisory_lock(4711)`); err != nil {
		b.t.Fatal(err)
	}
	return func() {
		if _, err := holder.Exec(context.Background(), `SELECT pg_advisory_unlock(4711)`); err != nil {
			b.t.Error(err)
		}
		holder.Release()
	}
}

const insertEntry = `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
	VALUES ('adjustment_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', 'acct_platformrevenueusdaaaaaaaa', 'usd', 1, $1) RETURNING id`

// begin opens a transaction that takes its xid at once.
func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{BeginQuery: "BEGIN; SELECT pg_current_xact_id()"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("it never came about that %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (b *books) waitsForStall() bool {
	return b.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0
}

func (b *books) highestID() int64 {
	return int64(b.count(`SELECT coalesce(max(id), 0) FROM ledger_entries`))
}

// A writer that drew its id and stalls is not passed by the seal, whichever transaction id came first. The naive
// max(id) has lost its row.
func TestTheSealNeverPassesAWriterThatStalls(t *testing.T) {
	tests := map[string]struct {
		// stalledFirst says which of the two transactions takes its xid first.
		stalledFirst bool
		// xmaxMayPass says that N = the snapshot's xmax may lose the stalled row.
		xmaxMayPass bool
	}{
		"the stalled writer has the lower transaction id":  {stalledFirst: true},
		"the stalled writer has the higher transaction id": {stalledFirst: false, xmaxMayPass: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			sealer := activities.NewSealer(b.App, slog.New(slog.DiscardHandler))
			release := b.stall()
			var stalled, quick pgx.Tx
			if test.stalledFirst {
				stalled, quick = begin(t, b.App), begin(t, b.App)
			} else {
				quick, stalled = begin(t, b.App), begin(t, b.App)
			}
			stalledID := make(chan int64, 1)
			go func() {
				var entryID int64
				if err := stalled.QueryRow(context.Background(), insertEntry, "stalled").Scan(&entryID); err != nil {
					t.Error(err)
				}
				if err := stalled.Commit(context.Background()); err != nil {
					t.Error(err)
				}
				stalledID <- entryID
			}()
			eventually(t, "the writer stalls", b.waitsForStall)
			var quickID int64
			if err := quick.QueryRow(t.Context(), insertEntry, "quick").Scan(&quickID); err != nil {
				t.Fatal(err)
			}
			if err := quick.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}

			// What the simpler rules would have said while the writer stalls.
			naive := b.highestID()
			var xmax, laterXmin int64
			row := func(sql string, into *int64) {
				if err := b.Owner.QueryRow(t.Context(), sql).Scan(into); err != nil {
					t.Fatal(err)
				}
			}
			row(`SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`, &xmax)
			row(`SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint`, &laterXmin)
			for range 20 {
				if err := sealer.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			sealed, err := queries.NewestSeal(t.Context(), b.App, queries.SealedLedger)
			if err != nil {
				t.Fatal(err)
			}
			if sealer.Lag() < 0 || sealed >= quickID {
				t.Fatalf("sealed up to %d while a row below %d is in flight", sealed, quickID)
			}

			release()
			lost := <-stalledID
			if lost >= naive {
				t.Fatalf("the stalled row has id %d, not below %d: the test shows nothing", lost, naive)
			}
			// A reader with a cursor at max(id) has lost it. So has one that trusts xmax, if nobody else on this server ended a
			// younger transaction meanwhile.
			switch passed := laterXmin >= xmax; {
			case passed && !test.xmaxMayPass:
				t.Errorf("the rule with xmax passes the writer (xmax %d, later xmin %d)", xmax, laterXmin)
			case test.xmaxMayPass:
				t.Logf("the rule with xmax passes the writer: %v (xmax %d, later xmin %d)", passed, xmax, laterXmin)
			}
			eventually(t, "both rows are sealed", func() bool {
				if err := sealer.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
				sealed, err := queries.NewestSeal(t.Context(), b.App, queries.SealedLedger)
				return err == nil && sealed >= quickID
			})
			if sealer.Lag() != 0 {
				t.Errorf("the lag is still %s", sealer.Lag())
			}
		})
	}
}

// A writer that forgets to take its xid first is covered by the table's own trigger; without both, the seal passes it.
func TestTheTableTakesTheTransactionIDFirst(t *testing.T) {
	for name, test := range map[string]struct{ withTrigger, passes bool }{
		"with the trigger":    {withTrigger: true, passes: false},
		"without the trigger": {withTrigger: false, passes: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t)
			if !test.withTrigger {
				b.exec(`DROP TRIGGER ledger_entries_xid_first ON ledger_entries`)
			}
			// nextval itself takes an xid when it writes to the log, which it does once in 32 ids: not for the next one.
			b.exec(insertEntry, "first")
			release := b.stall()
			done := make(chan error, 1)
			go func() {
				_, err := b.App.Exec(context.Background(), insertEntry, "stalled")
				done <- err
			}()
			eventually(t, "the writer stalls", b.waitsForStall)
			b.exec(insertEntry, "quick")
			quickID := b.highestID()
			sealer := activities.NewSealer(b.App, slog.New(slog.DiscardHandler))
			passes := func() bool {
				if err := sealer.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
				sealed, err := queries.NewestSeal(t.Context(), b.App, queries.SealedLedger)
				if err != nil {
					t.Fatal(err)
				}
				return sealed >= quickID
			}
			passed := false
			if test.passes {
				// Nothing of ours holds it back, but any transaction of another database on this server does while it lasts.
				eventually(t, "the seal passes the stalled writer", func() bool { passed = passes(); return passed })
			}
			for range 50 {
				passed = passed || passes()
			}
			release()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if passed != test.passes {
				t.Errorf("the seal passed the stalled writer: %v, want %v", passed, test.passes)
			}
		})
	}
}

func TestASealThatIsHeldUpIsMeasured(t *testing.T) {
	b := newBooks(t)
	sealer := activities.NewSealer(b.App, slog.New(slog.NewJSONHandler(b.log, nil)))
	idle := begin(t, b.App)
	b.exec(insertEntry, "held up")
	eventually(t, "the lag is above five seconds and alarms", func() bool {
		if err := sealer.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		return sealer.Lag() > 5*time.Second && b.log.has("alarm: a writing transaction")
	})
	if err := idle.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lag is gone", func() bool { return sealer.Seal(t.Context()) == nil && sealer.Lag() == 0 })
}

// Checkpoints change what a balance costs and never what it is: with them, without them, and cut by two at once.
func TestDeletingEveryCheckpointChangesNoBalance(t *testing.T) {
	b := newBooks(t)
	quiet := slog.New(slog.DiscardHandler)
	first, second := activities.NewSealer(b.App, quiet), activities.NewSealer(b.App, quiet)
	owner := b.tenant("owner", 50_000_000)
	meter := b.meter(owner, 3_599_999, 60, b.now)
	for round := range int64(6) {
		out, err := b.ledger.PostWindows(t.Context(), windows(meter, round*45, (round+1)*45))
		if err != nil {
			t.Fatal(err)
		}
		want := 50_000_000 - exactCharge(meter, out.PostedTo)
		if balance := b.balance(owner.AccountID); balance != want {
			t.Fatalf("round %d: the balance is %d, want %d", round, balance, want)
		}
		eventually(t, "the round is sealed and its checkpoints cut", func() bool {
			for _, sealer := range []*activities.Sealer{first, second} {
				if err := sealer.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := sealer.CutCheckpoints(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			sealed, err := queries.NewestSeal(t.Context(), b.App, queries.SealedLedger)
			return err == nil && sealed >= b.highestID()
		})
	}
	const revenue = "acct_platformrevenueusdaaaaaaaa"
	before := map[string]money.Micros{}
	for _, account := range []string{string(owner.AccountID), revenue} {
		if n := b.count(`SELECT count(*) FROM ledger_checkpoints WHERE account_id = $1`, account); n < 2 {
			t.Fatalf("%s has %d checkpoints after 270 entries", account, n)
		}
		if tail := b.count(`SELECT count(*) FROM ledger_entries WHERE $1 IN (debit_account_id, credit_account_id)
			AND id > (SELECT max(up_to_id) FROM ledger_checkpoints WHERE account_id = $1)`, account); tail > 60 {
			t.Errorf("%s has a tail of %d", account, tail)
		}
	}
	before[string(owner.AccountID)], before[revenue] = b.balance(owner.AccountID), b.balance(revenue)
	if before[string(owner.AccountID)] != b.summed(owner.AccountID) || before[revenue] != b.summed(revenue) {
		t.Fatalf("balances %v are not what the entries add up to", before)
	}
	if _, err := b.App.Exec(t.Context(), `DELETE FROM ledger_checkpoints`); err != nil {
		t.Fatal(err)
	}
	if b.balance(owner.AccountID) != before[string(owner.AccountID)] || b.balance(revenue) != before[revenue] {
		t.Fatal("deleting the checkpoints changed a balance")
	}
}
