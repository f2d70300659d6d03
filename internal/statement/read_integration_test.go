//go:build integration

package statement_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/statement"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	tenant  = "tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	account = "acct_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	other   = "acct_bbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// newLedger is a ledger of three months with entries of two tenants every seven minutes: a charge of 1 000 + n micros an entry, every
// fifth a credit. Times and ids rise together, but for pairs that stand the wrong way round by half a minute.
func newLedger(t *testing.T) *storetest.Database {
	t.Helper()
	db := storetest.New(t)
	exec := func(sql string, arguments ...any) {
		if _, err := db.Owner.Exec(t.Context(), sql, arguments...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO tenants (id, kind, name) VALUES ($1, 'personal', 'a'), ('tenant_bbbbbbbbbbbbbbbbbbbbbbbbbb', 'personal', 'b')`, tenant)
	exec(`INSERT INTO accounts (id, kind, tenant_id, currency, created_at) VALUES ($1, 'tenant', $2, 'usd', '2026-01-15'),
		($3, 'tenant', 'tenant_bbbbbbbbbbbbbbbbbbbbbbbbbb', 'usd', '2026-01-15')`, account, tenant, other)
	// The entries that matter here hang on no meter: what a meter may post is the ledger's own test.
	exec(`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key, created_at)
		SELECT CASE WHEN n % 5 = 0 THEN 'adjustment_credit' ELSE 'adjustment_debit' END, gen_random_uuid(),
			CASE WHEN n % 5 = 0 THEN 'acct_platformcreditusdaaaaaaaaa' ELSE of_account END, CASE WHEN n % 5 = 0 THEN of_account ELSE 'acct_platformcreditusdaaaaaaaaa' END,
			'usd', 1000 + n, of_account || n, '2026-01-15'::timestamptz + n * interval '7 minutes' + CASE n % 10 WHEN 3 THEN interval '7.5 minutes' ELSE interval '0' END
		FROM generate_series(1, 14000) AS n, unnest(ARRAY[$1, $2]) AS of_account ORDER BY n`, account, other)
	exec(`INSERT INTO seals (relation, sealed_id) SELECT 'ledger_entries', max(id) FROM ledger_entries`)
	return db
}

// The months follow on each other without a gap, hold each entry once, and end at the balance.
func TestMonthsFollowOnEachOther(t *testing.T) {
	db := newLedger(t)
	now := time.Date(2026, 4, 1, 0, 30, 0, 0, time.UTC)
	reader := statement.NewReader(db.App, func() time.Time { return now })
	of := queries.Account{ID: account, Currency: "usd"}
	var closing money.Micros
	var entries int64
	for month := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); month.Month() <= time.April; month = month.AddDate(0, 1, 0) {
		found, err := reader.Of(t.Context(), tenant, of, month, month.AddDate(0, 1, 0))
		if err != nil {
			t.Fatal(err)
		}
		if found.OpeningMicros != closing {
			t.Errorf("%s opens at %d, and the month before closed at %d", month.Format("2006-01"), found.OpeningMicros, closing)
		}
		closing = found.ClosingMicros
		for _, movement := range found.Movements {
			entries += movement.Entries
			var want money.Micros
			if err := db.Owner.QueryRow(t.Context(), `SELECT sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END)::bigint FROM ledger_entries
				WHERE kind = $2 AND (credit_account_id = $1 OR debit_account_id = $1) AND created_at >= $3 AND created_at < $4`,
				account, movement.Kind, month, month.AddDate(0, 1, 0)).Scan(&want); err != nil || movement.AmountMicros != want {
				t.Errorf("%s of %s is %d, not %d: %v", movement.Kind, month.Format("2006-01"), movement.AmountMicros, want, err)
			}
		}
		if wantFinal := month.Month() < time.March; found.Final != wantFinal {
			t.Errorf("half an hour into April, %s final: %v", month.Format("2006-01"), found.Final)
		}
	}
	balance, err := queries.Balance(t.Context(), db.App, account)
	if err != nil || closing != balance || entries != 14000 {
		t.Errorf("the last month closes at %d after %d entries, the balance is %d: %v", closing, entries, balance, err)
	}
}

// Who sells and what tax is contained is what policy said at the month's end: no later change alters what is final.
func TestAStatementSaysWhatPolicySaidThen(t *testing.T) {
	db := newLedger(t)
	set := func(sql string) {
		t.Helper()
		if _, err := db.Owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	reader := statement.NewReader(db.App, func() time.Time { return time.Date(2026, 4, 1, 3, 0, 0, 0, time.UTC) })
	requireSellers := func(when string, want ...string) {
		t.Helper()
		for i, month := 0, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); i < len(want); i, month = i+1, month.AddDate(0, 1, 0) {
			found, err := reader.Of(t.Context(), tenant, queries.Account{ID: account, Currency: "usd"}, month, month.AddDate(0, 1, 0))
			if got := fmt.Sprintf("%s %d", found.Seller.LegalName, found.Tax.BasisPoints); err != nil || got != want[i] {
				t.Errorf("%s, %s is of %q and not %q: %v", when, month.Format("2006-01"), got, want[i], err)
			}
		}
	}
	set(`INSERT INTO policy_values (key, version, value, actor_user_id, created_at) VALUES
		('billing.legal_name', 1, '"First"', 'platform', '2026-01-20'), ('billing.legal_name', 2, '"Second"', 'platform', '2026-03-01'),
		('billing.tax_basis_points', 1, '1900', 'platform', '2026-01-20')`)
	set(`INSERT INTO tenant_policy_values (tenant_id, key, version, value, actor_user_id, created_at) VALUES ('` + tenant + `', 'billing.tax_basis_points', 1, '700', 'platform', '2026-02-10')`)
	requireSellers("at first", "First 1900", "First 700", "Second 700", "Second 700")
	set(`INSERT INTO policy_values (key, version, value, actor_user_id, created_at) VALUES ('billing.legal_name', 3, '"Third"', 'platform', '2026-04-01 02:00')`)
	set(`INSERT INTO tenant_policy_values (tenant_id, key, version, value, actor_user_id, created_at) VALUES ('` + tenant + `', 'billing.tax_basis_points', 2, NULL, 'platform', '2026-04-01 02:00')`)
	requireSellers("after a change", "First 1900", "First 700", "Second 700", "Third 1900")
}

// Another tenant's account is empty to whoever names it.
func TestAnotherTenantsAccountIsEmpty(t *testing.T) {
	db := newLedger(t)
	reader := statement.NewReader(db.App, time.Now)
	march := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	found, err := reader.Of(t.Context(), tenant, queries.Account{ID: other, Currency: "usd"}, march, march.AddDate(0, 1, 0))
	if err != nil || len(found.Movements) != 0 || found.ClosingMicros != 0 {
		t.Errorf("a stranger reads %+v: %v", found, err)
	}
}

// A range of ids holds every entry of its time, wherever the time lies.
func TestEntriesWithinHoldsAllOfATime(t *testing.T) {
	db := newLedger(t)
	for n := range 40 {
		from := time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * 61 * time.Hour)
		to := from.Add(time.Duration(n%7+1) * 13 * time.Hour)
		within, err := queries.EntriesWithin(t.Context(), db.App, from, to)
		if err != nil {
			t.Fatal(err)
		}
		var outside int
		if err := db.Owner.QueryRow(t.Context(), `SELECT count(*) FROM ledger_entries WHERE created_at >= $1 AND created_at < $2 AND (id <= $3 OR id > $4)`,
			from, to, within.After, within.UpTo).Scan(&outside); err != nil || outside != 0 {
			t.Error(fmt.Sprintf("%d entries from %s to %s lie outside %+v", outside, from, to, within), err)
		}
	}
}
