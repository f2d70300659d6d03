//go:build integration

package activities_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Every rule of the ledger is refused by the database, to whoever asks: one violating statement a rule.
func TestTheDatabaseRefusesEveryViolationOfTheLedger(t *testing.T) {
	b := newBooks(t)
	owner := b.tenant("owner", 1_000)
	stranger := b.tenant("stranger", 0)
	meter := b.meter(owner, 3_600_000, 60, b.now)
	headless := b.meter(owner, 3_600_000, 60, b.now)
	settled := b.meter(owner, 3_600_000, 60, b.now)
	if _, err := b.ledger.PostWindows(t.Context(), windows(meter, 0, 2)); err != nil {
		t.Fatal(err)
	}
	b.exec(`INSERT INTO accounts (id, kind, currency) VALUES ('acct_platformrevenueeuraaaaaaaa', 'platform_revenue', 'eur')`)
	b.exec(`INSERT INTO ledger_settlements (allocation_id, account_id, metered_to) VALUES ($1, $2, $3)`, settled.AllocationID, owner.AccountID, b.now.Add(30*time.Second))
	b.exec(`INSERT INTO ledger_checkpoints (account_id, up_to_id, balance_micros) VALUES ($1, 1, 0)`, owner.AccountID)
	b.exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key, reverses_id)
		VALUES ('adjustment_debit', gen_random_uuid(), $1, 'acct_platformcreditusdaaaaaaaaa', 'usd', 1, 'reversal', (SELECT min(id) FROM ledger_entries))`, owner.AccountID)

	const columns = `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, allocation_id, period_start, period_end, prev_end, idempotency_key, reverses_id) VALUES `
	replace := strings.NewReplacer(
		"TENANT", "'"+string(owner.AccountID)+"'", "STRANGER", "'"+string(stranger.AccountID)+"'",
		"REVENUE", "'acct_platformrevenueusdaaaaaaaa'", "EURO", "'acct_platformrevenueeuraaaaaaaa'",
		"METER", "'"+string(meter.AllocationID)+"'", "HEADLESS", "'"+string(headless.AllocationID)+"'", "SETTLED", "'"+string(settled.AllocationID)+"'",
		"T0", stamp(b.now), "T30", stamp(b.now.Add(30*time.Second)), "T1", stamp(b.now.Add(time.Minute)), "T2", stamp(b.now.Add(2*time.Minute)),
		"T3", stamp(b.now.Add(3*time.Minute)), "T4", stamp(b.now.Add(4*time.Minute)), "UUID", "gen_random_uuid()")

	tests := []struct{ rule, statement, code, constraint string }{
		{"usage is not negative", columns + `('usage', UUID, TENANT, REVENUE, 'usd', -1, METER, T2, T3, T2, 'k', NULL)`, "23514", "ledger_amount"},
		{"a credit is positive", columns + `('usage_credit', UUID, REVENUE, TENANT, 'usd', 0, METER, T0, T1, NULL, 'k', NULL)`, "23514", "ledger_amount"},
		{"an amount there is", columns + `('usage', UUID, TENANT, REVENUE, 'usd', NULL, METER, T2, T3, T2, 'k', NULL)`, "23502", ""},
		{"a known kind", columns + `('gift', UUID, REVENUE, TENANT, 'usd', 1, NULL, NULL, NULL, NULL, 'k', NULL)`, "23514", "ledger_entries_kind_check"},
		{"two accounts", columns + `('adjustment_credit', UUID, TENANT, TENANT, 'usd', 1, NULL, NULL, NULL, NULL, 'k', NULL)`, "23514", "ledger_two_accounts"},
		{"the debited account's currency", columns + `('adjustment_debit', UUID, TENANT, EURO, 'eur', 1, NULL, NULL, NULL, NULL, 'k', NULL)`, "23503", "ledger_debit_currency"},
		{"the credited account's currency", columns + `('adjustment_debit', UUID, TENANT, EURO, 'usd', 1, NULL, NULL, NULL, NULL, 'k', NULL)`, "23503", "ledger_credit_currency"},
		{"usage names its allocation", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, NULL, T2, T3, T2, 'k', NULL)`, "23514", "ledger_allocation"},
		{"usage names its period", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, NULL, NULL, NULL, 'k', NULL)`, "23514", "ledger_metered_period"},
		{"a period has two ends", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T2, NULL, T2, 'k', NULL)`, "23514", "ledger_period_pair"},
		{"a period ends after it starts", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T2, T2, T2, 'k', NULL)`, "23514", "ledger_period"},
		{"a window is posted once", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T1, T3, T1, 'k', NULL)`, "23505", "ledger_usage_once"},
		{"no two windows end together", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T30, T2, T30, 'k', NULL)`, "23505", "ledger_usage_end"},
		{"no gap", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T3, T4, T3, 'k', NULL)`, "23503", "ledger_usage_chain"},
		{"no overlap", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T30, T3, T30, 'k', NULL)`, "23503", "ledger_usage_chain"},
		{"no window without its predecessor", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, HEADLESS, T1, T2, T1, 'k', NULL)`, "23503", "ledger_usage_chain"},
		{"a predecessor that ends where the window starts", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T3, T4, T2, 'k', NULL)`, "23514", "ledger_prev_end"},
		{"one head", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, METER, T2, T3, NULL, 'k', NULL)`, "23505", "ledger_usage_one_head"},
		{"the head lies at the anchor", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, HEADLESS, T1, T2, NULL, 'k', NULL)`, "23503", "ledger_usage_anchor"},
		{"usage is charged to the allocation's account", columns + `('usage', UUID, STRANGER, REVENUE, 'usd', 1, METER, T2, T3, T2, 'k', NULL)`, "23503", "ledger_usage_account"},
		{"no usage beyond a settled end", columns + `('usage', UUID, TENANT, REVENUE, 'usd', 1, SETTLED, T0, T1, NULL, 'k', NULL)`, "23000", "ledger_meter_open"},
		{"no outage credit after the settlement", columns + `('outage_credit', UUID, REVENUE, TENANT, 'usd', 1, SETTLED, T0, T30, NULL, 'k', NULL)`, "23000", "ledger_meter_open"},
		{"one settlement an allocation", `INSERT INTO ledger_settlements (allocation_id, account_id, metered_to) VALUES (SETTLED, TENANT, T1)`, "23505", "ledger_settlements_pkey"},
		{"an idempotency key is used once", columns + `('adjustment_credit', UUID, REVENUE, TENANT, 'usd', 1, NULL, NULL, NULL, NULL, 'reversal', NULL)`, "23505", "ledger_entries_idempotency_key_key"},
		{"an entry is reversed once", columns + `('adjustment_debit', UUID, TENANT, REVENUE, 'usd', 1, NULL, NULL, NULL, NULL, 'k', (SELECT min(id) FROM ledger_entries))`, "23505", "ledger_reverses_once"},
		{"what is reversed exists", columns + `('adjustment_debit', UUID, TENANT, REVENUE, 'usd', 1, NULL, NULL, NULL, NULL, 'k', 999999999)`, "23503", "ledger_entries_reverses_id_fkey"},
		{"nobody chooses an entry's id", `INSERT INTO ledger_entries (id, kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key) VALUES (5, 'adjustment_debit', UUID, TENANT, REVENUE, 'usd', 1, 'k')`, "428C9", ""},
		{"READ COMMITTED alone", `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; ` + columns + `('adjustment_credit', UUID, REVENUE, TENANT, 'usd', 1, NULL, NULL, NULL, NULL, 'k', NULL)`, "25000", "ledger_read_committed"},
	}
	for _, pool := range map[string]*pgxpool.Pool{"the programs": b.App, "the owner": b.Owner} {
		for _, test := range tests {
			refusedBy(t, pool, test.rule, replace.Replace(test.statement), test.code, test.constraint)
		}
	}

	if result, err := b.ledger.Adjust(t.Context(), adjustment(owner, 1)); err != nil || result.Fault != nil {
		t.Fatalf("%+v, error %v", result, err)
	}
	// The meter's rows are not the ledger's, but its chain hangs on them.
	refusedBy(t, b.App, "an anchor that moves", replace.Replace(`UPDATE allocations SET metered_from = T1 WHERE id = METER`), "23514", "")

	for _, table := range []string{"ledger_entries", "ledger_settlements", "audit_logs"} {
		if b.count(`SELECT count(*) FROM `+table) == 0 {
			t.Fatalf("%s is empty: a change of it would prove nothing", table)
		}
		for verb, statement := range map[string]string{
			"UPDATE": `UPDATE ` + table + ` SET created_at = now()`, "DELETE": `DELETE FROM ` + table, "TRUNCATE": `TRUNCATE ` + table + ` CASCADE`,
		} {
			refusedBy(t, b.App, verb+" of "+table+" by the programs", statement, "42501", "")
			refusedBy(t, b.Owner, verb+" of "+table+" by the owner", statement, "23000", "")
			refusedBy(t, b.Owner, verb+" of "+table+" by a replica role", `SET LOCAL session_replication_role = 'replica'; `+statement, "23000", "")
		}
	}
	refusedBy(t, b.App, "UPDATE of a checkpoint", `UPDATE ledger_checkpoints SET balance_micros = 1`, "42501", "")
}

func stamp(at time.Time) string { return "'" + at.UTC().Format(time.RFC3339Nano) + "'::timestamptz" }

// refusedBy runs the statement in a transaction that is rolled back and wants it refused with that SQLSTATE and rule.
func refusedBy(t *testing.T, pool *pgxpool.Pool, rule, statement, code, constraint string) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Conn().PgConn().Exec(t.Context(), statement).ReadAll()
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		t.Errorf("%s: not refused (%v): %s", rule, err, statement)
		return
	}
	if failure.Code != code || (constraint != "" && failure.ConstraintName != constraint) {
		t.Errorf("%s: refused with %s by %q (%s), want %s by %q", rule, failure.Code, failure.ConstraintName, failure.Message, code, constraint)
	}
}
