//go:build integration

package ledgerchain

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/internal/evidence"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const tenantAccount = "acct_aaaaaaaaaaaaaaaaaaaaaaaaaa"

// books is a ledger with entries of every shape, in blocks of fifty.
type books struct {
	*storetest.Database
	t     *testing.T
	chain *Chain
}

func newBooks(t *testing.T, entries int) *books {
	t.Helper()
	b := &books{Database: storetest.New(t), t: t}
	b.chain = b.replica(nil)
	b.exec(`INSERT INTO tenants (id, kind, name) VALUES ('tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa', 'personal', 'a')`)
	b.exec(`INSERT INTO accounts (id, kind, tenant_id, currency) VALUES ($1, 'tenant', 'tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa', 'usd')`, tenantAccount)
	b.lockNothing()
	b.add(entries)
	b.seal()
	b.cut(b.chain)
	return b
}

func (b *books) replica(heads *Heads) *Chain {
	chain := New(b.App, heads, slog.New(slog.DiscardHandler))
	chain.most = 50
	return chain
}

// lockNothing makes the table's owner able to do what a thief with the disk could: no constraint and no trigger speaks up.
func (b *books) lockNothing() {
	b.t.Helper()
	rows, err := b.Owner.Query(b.t.Context(), `SELECT conrelid::regclass::text, conname FROM pg_constraint
		WHERE conrelid IN ('ledger_entries'::regclass, 'ledger_blocks'::regclass) AND contype IN ('c', 'f')`)
	if err != nil {
		b.t.Fatal(err)
	}
	constraints, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Name string }])
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range constraints {
		b.exec(fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s CASCADE", c.Table, c.Name))
	}
	b.exec(`ALTER TABLE ledger_entries ALTER COLUMN id DROP IDENTITY, ALTER COLUMN id SET DEFAULT 0, DISABLE TRIGGER ALL`)
	b.exec(`ALTER TABLE ledger_blocks DISABLE TRIGGER ALL`)
	// A generated column is stored like any other: on the disk it can be altered, and an instant can hold microseconds.
	for _, column := range generated {
		b.exec(fmt.Sprintf("ALTER TABLE ledger_entries ALTER COLUMN %s DROP EXPRESSION", column))
	}
	for _, column := range instants {
		b.exec(fmt.Sprintf("ALTER TABLE ledger_entries ALTER COLUMN %s TYPE timestamptz", column))
	}
}

var (
	generated = []string{"usage_allocation_id", "usage_start", "usage_end", "usage_prev_end", "usage_head"}
	instants  = []string{"period_start", "period_end", "prev_end", "created_at"}
)

// add inserts entries of which every column differs from row to row, a third of them usage, and some of that the first of its allocation.
func (b *books) add(entries int) {
	b.t.Helper()
	b.exec(`INSERT INTO ledger_entries (id, kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, allocation_id,
			period_start, period_end, prev_end, idempotency_key, reverses_id, created_at)
		SELECT (SELECT coalesce(max(id), 0) FROM ledger_entries) + n,
			CASE n % 3 WHEN 0 THEN 'usage' WHEN 1 THEN 'adjustment_credit' ELSE 'outage_credit' END, gen_random_uuid(), $1,
			'acct_platformrevenueusdaaaaaaaa', 'usd', 1000 + n, CASE WHEN n % 3 <> 1 THEN 'alloc_' || (SELECT coalesce(max(id), 0) FROM ledger_entries) + n END,
			CASE WHEN n % 3 <> 1 THEN began + n * interval '1 minute' END, CASE WHEN n % 3 <> 1 THEN began + (n + 1) * interval '1 minute' END,
			CASE WHEN n % 3 = 0 AND n % 2 = 0 THEN began + n * interval '1 minute' END, 'key/' || gen_random_uuid(), CASE WHEN n % 5 = 0 THEN (SELECT coalesce(max(id), 0) FROM ledger_entries) + n END, began + n * interval '1 second'
		FROM generate_series(1, $2::integer) AS n, (SELECT date_trunc('milliseconds', now()) AS began) AS at`, tenantAccount, entries)
	b.exec(`UPDATE ledger_entries SET usage_allocation_id = allocation_id, usage_start = period_start, usage_end = period_end, usage_prev_end = prev_end,
		usage_head = CASE WHEN prev_end IS NULL THEN period_start END WHERE kind = 'usage' AND usage_start IS NULL`)
}

// seal says that everything that stands is final.
func (b *books) seal() {
	b.exec(`INSERT INTO seals (relation, sealed_id) SELECT 'ledger_entries', max(id) FROM ledger_entries ON CONFLICT DO NOTHING`)
}

func (b *books) cut(chain *Chain) {
	b.t.Helper()
	if err := chain.Cut(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *books) number(sql string) (n int64) {
	b.t.Helper()
	if err := b.Owner.QueryRow(b.t.Context(), sql).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *books) exec(sql string, arguments ...any) {
	b.t.Helper()
	if _, err := b.Owner.Exec(b.t.Context(), sql, arguments...); err != nil {
		b.t.Fatal(err)
	}
}

// verify goes through the whole chain, seven blocks at a time.
func (b *books) verify() (total Verified) {
	b.t.Helper()
	for next := int64(1); next > 0; {
		part, err := b.chain.Verify(b.t.Context(), next, 7)
		if err != nil {
			b.t.Fatal(err)
		}
		total.Blocks, total.Entries = append(total.Blocks, part.Blocks...), total.Entries+part.Entries
		total.Broken, total.Uncovered = append(total.Broken, part.Broken...), part.Uncovered
		next = part.Next
	}
	return total
}

// requireBroken wants exactly these blocks to be named.
func (b *books) requireBroken(what string, numbers ...int64) {
	b.t.Helper()
	var named []int64
	for _, broken := range b.verify().Broken {
		named = append(named, broken.Number)
	}
	if !slices.Equal(named, numbers) {
		b.t.Errorf("%s: the blocks %v are named, not %v", what, named, numbers)
	}
}

func TestAChainCoversWhatIsSealed(t *testing.T) {
	b := newBooks(t, 495)
	found := b.verify()
	if len(found.Blocks) != 10 || found.Entries != 495 || len(found.Broken) != 0 || found.Uncovered != (queries.Behind{}) {
		t.Fatalf("%d blocks with %d entries, broken %v, uncovered %+v", len(found.Blocks), found.Entries, found.Broken, found.Uncovered)
	}
	b.add(30) // not sealed yet
	b.cut(b.chain)
	if found := b.verify(); found.Entries != 495 || found.Uncovered.Entries != 30 || found.Uncovered.UpToID != 525 {
		t.Fatalf("%d entries are covered, and behind them lie %+v", found.Entries, found.Uncovered)
	}
	b.seal()
	b.cut(b.chain)
	if found := b.verify(); found.Entries != 525 || len(found.Broken) != 0 || found.Uncovered.Entries != 0 {
		t.Fatalf("%+v", found)
	}
}

func TestManyCutTheSameChain(t *testing.T) {
	b := newBooks(t, 1)
	var cutting errgroup.Group
	for range 4 {
		chain := b.replica(nil)
		cutting.Go(func() error {
			for range 20 {
				if err := chain.Cut(context.Background()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 20 {
		b.add(37)
		b.seal()
	}
	if err := cutting.Wait(); err != nil {
		t.Fatal(err)
	}
	b.cut(b.chain)
	if found := b.verify(); found.Entries != 741 || len(found.Broken) != 0 {
		t.Fatalf("%d entries, broken %v", found.Entries, found.Broken)
	}
}

// columns are all there are, with SQL that alters one byte of what they hold, or of how it is stored.
var columns = map[string]string{
	"id":                "id + 1000000",
	"kind":              "overlay(kind placing chr(ascii(substr(kind, $2 % length(kind) + 1, 1)) # 1) from $2 % length(kind) + 1 for 1)",
	"txn_id":            "overlay(txn_id::text placing to_hex((('x' || lpad(substr(txn_id::text, 36, 1), 8, '0'))::bit(32)::integer + 1 + $2 % 15) % 16) from 36 for 1)::uuid",
	"debit_account_id":  "overlay(debit_account_id placing 'z' from $2 % 20 + 6 for 1)",
	"credit_account_id": "overlay(credit_account_id placing '7' from $2 % 20 + 6 for 1)",
	"currency":          "overlay(currency placing 'x' from $2 % 3 + 1 for 1)",
	"amount_micros":     "amount_micros # (1::bigint << ($2 % 62))",
	"allocation_id":     "allocation_id || chr(97 + $2 % 26)",
	"period_start":      "period_start + (1 + $2 % 1000) * interval '1 millisecond'",
	"period_end":        "period_end - (1 + $2 % 1000) * interval '1 millisecond'",
	"prev_end":          "prev_end + (1 + $2 % 1000) * interval '1 millisecond'",
	"idempotency_key":   "overlay(idempotency_key placing '_' from $2 % 20 + 5 for 1)",
	"reverses_id":       "reverses_id # (1::bigint << ($2 % 40))",
	"created_at":        "created_at + (1 + $2 % 1000) * interval '1 millisecond'",

	"usage_allocation_id": "usage_allocation_id || chr(97 + $2 % 26)",
	"usage_start":         "usage_start + (1 + $2 % 1000) * interval '1 millisecond'",
	"usage_end":           "usage_end + (1 + $2 % 1000) * interval '1 microsecond'",
	"usage_prev_end":      "usage_prev_end - (1 + $2 % 1000) * interval '1 millisecond'",
	"usage_head":          "usage_head - (1 + $2 % 1000) * interval '1 millisecond'",
}

// One altered byte in any cell is found, and the block is named.
func TestAnAlteredByteInAnyCellIsFound(t *testing.T) {
	const cells = 200
	b := newBooks(t, 500)
	random := rand.New(rand.NewPCG(2, 71))
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range columns {
			if !yield(name) {
				return
			}
		}
	})
	var written []string
	rows, err := b.Owner.Query(t.Context(), `SELECT column_name::text FROM information_schema.columns
		WHERE table_name = 'ledger_entries' ORDER BY 1`)
	if err == nil {
		written, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil || !slices.Equal(written, names) {
		t.Fatalf("the table has the columns %v, and the chain is tried on %v (%v)", written, names, err)
	}
	b.exec(`CREATE TABLE kept AS SELECT * FROM ledger_entries`)
	altered := map[string]int{}
	for done := 0; done < cells; {
		column, row, salt := names[random.IntN(len(names))], 1+random.Int64N(500), random.IntN(1<<20)
		tag, err := b.Owner.Exec(t.Context(), fmt.Sprintf(`UPDATE ledger_entries SET %s = %s WHERE id = $1 AND %[1]s IS NOT NULL AND $2::integer >= 0`,
			column, columns[column]), row, salt)
		if err != nil {
			t.Fatalf("%s of %d: %v", column, row, err)
		}
		if tag.RowsAffected() == 0 {
			continue // it is NULL there
		}
		var same bool
		err = b.Owner.QueryRow(t.Context(), `SELECT NOT EXISTS (SELECT * FROM ledger_entries EXCEPT SELECT * FROM kept)`).Scan(&same)
		if err != nil {
			t.Fatal(err)
		}
		if same {
			continue // the byte was what it became
		}
		done++
		altered[column]++
		b.requireBroken(fmt.Sprintf("%s of entry %d", column, row), (row-1)/50+1)
		b.exec(`DELETE FROM ledger_entries WHERE id = $1 OR id = $1 + 1000000`, row)
		b.exec(`INSERT INTO ledger_entries SELECT * FROM kept WHERE id = $1`, row)
	}
	b.requireBroken("after everything was put back")
	t.Logf("altered: %v", altered)
	if len(altered) != len(columns) {
		t.Errorf("only %d of %d columns were altered", len(altered), len(columns))
	}
}

// Only milliseconds are hashed, so an instant that holds more was altered.
func TestMicrosecondsInAnInstantAreFound(t *testing.T) {
	b := newBooks(t, 200)
	for _, column := range instants {
		// Of an entry that is no usage, so that nothing is generated from it.
		row := b.number(fmt.Sprintf(`SELECT min(id) FROM ledger_entries WHERE %s IS NOT NULL AND id > 100 AND (kind <> 'usage' OR '%[1]s' = 'prev_end')`, column))
		b.exec(fmt.Sprintf(`UPDATE ledger_entries SET %[1]s = %[1]s + interval '7 microseconds' WHERE id = $1`, column), row)
		b.requireBroken(column, 3)
		b.exec(fmt.Sprintf(`UPDATE ledger_entries SET %[1]s = %[1]s - interval '7 microseconds' WHERE id = $1`, column), row)
	}
	b.requireBroken("after everything was put back")
}

func TestWhatIsMissingOrTooMuchIsFound(t *testing.T) {
	b := newBooks(t, 500)
	for what, change := range map[string]struct {
		do, undo string
		named    []int64
	}{
		"an entry is gone": {`CREATE TABLE gone AS SELECT * FROM ledger_entries WHERE id = 120; DELETE FROM ledger_entries WHERE id = 120`,
			`INSERT INTO ledger_entries SELECT * FROM gone`, []int64{3}},
		"an entry before the first":   {`UPDATE ledger_entries SET id = -5 WHERE id = 1`, `UPDATE ledger_entries SET id = 1 WHERE id = -5`, []int64{1}},
		"a block's hash":              {`UPDATE ledger_blocks SET sha256 = sha256(sha256) WHERE number = 4`, ``, []int64{4, 5}},
		"a block's stretch":           {`UPDATE ledger_blocks SET up_to_id = up_to_id - 1 WHERE number = 6`, `UPDATE ledger_blocks SET up_to_id = up_to_id + 1 WHERE number = 6`, []int64{6, 7}},
		"a block's count":             {`UPDATE ledger_blocks SET entries = entries + 1 WHERE number = 8`, `UPDATE ledger_blocks SET entries = entries - 1 WHERE number = 8`, []int64{8}},
		"an encoding that nobody has": {`UPDATE ledger_blocks SET encoding = 9 WHERE number = 10`, `UPDATE ledger_blocks SET encoding = 1 WHERE number = 10`, []int64{10}},
	} {
		if what == "a block's hash" {
			continue // cannot be undone: last
		}
		b.exec1(change.do)
		b.requireBroken(what, change.named...)
		b.exec1(change.undo)
		b.requireBroken("after it was undone: " + what)
	}
	b.exec(`UPDATE ledger_blocks SET sha256 = sha256(sha256) WHERE number = 4`)
	b.requireBroken("a block's hash", 4, 5)
	b.exec(`DELETE FROM ledger_blocks WHERE number IN (4, 5)`)
	b.requireBroken("two blocks are gone", 6)
}

// exec1 runs several statements.
func (b *books) exec1(sql string) {
	b.t.Helper()
	for _, one := range strings.Split(sql, ";") {
		b.exec(one)
	}
}

func TestHeadsAreSignedAndKeptOutside(t *testing.T) {
	b := newBooks(t, 60)
	pem, err := evidence.Generate()
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	keyFile := filepath.Join(directory, "key.pem")
	if err := os.WriteFile(keyFile, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := evidence.LoadKeys(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	heads, err := NewHeads(filepath.Join(directory, "heads"), keys)
	if err != nil {
		t.Fatal(err)
	}
	chain := b.replica(heads)
	b.cut(chain)
	b.cut(chain) // the same head is not kept twice
	newest, err := queries.NewestLedgerBlock(t.Context(), b.App)
	if err != nil {
		t.Fatal(err)
	}
	later := HeadOf(*newest, time.Now().Add(2*time.Minute))
	later.Number++
	if err := heads.Keep(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(directory, "heads", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	var text []byte
	for _, name := range files {
		part, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	published, err := keys.Published()
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := evidence.ParsePublicKeys([]byte(published[0].PEM))
	if err != nil {
		t.Fatal(err)
	}
	read := func(text string, trusted []ed25519.PublicKey) (int, error) {
		found, err := evidence.ReadHeads(t.Context(), strings.NewReader(text), trusted)
		if err == nil && len(found) > 0 && found[0].SHA256 != HeadOf(*newest, time.Now()).SHA256 {
			t.Errorf("the first head is %+v", found[0])
		}
		return len(found), err
	}
	if n, err := read(string(text), trusted); n != 2 || err != nil {
		t.Errorf("%d heads are read, %v", n, err)
	}
	if n, err := read(string(text)+`{"payload":"cut off`, trusted); n != 2 || err != nil {
		t.Errorf("with a last line that was cut short %d heads are read, %v", n, err)
	}
	for at := range len(text) - 1 {
		if changed := []byte(string(text)); at%7 == 0 && changed[at] != '\n' {
			changed[at] ^= 1
			if _, err := read(string(changed), trusted); err == nil {
				t.Fatalf("byte %d of the heads was changed, and nobody says so", at)
			}
		}
	}
	if _, err := read(string(text), nil); err == nil {
		t.Error("heads hold without a key")
	}
}
