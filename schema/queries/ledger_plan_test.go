//go:build integration

package queries_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// In a ledger where two accounts have everything, an idle account's tail lies far behind the newest id. Its balance must
// not be read through everybody's entries since, whether the plan knows the account or serves all.
func TestABalanceReadsItsOwnTailAlone(t *testing.T) {
	database := storetest.New(t)
	const busy, idle, platform = "acct_busyaaaaaaaaaaaaaaaaaaaaaa", "acct_idleaaaaaaaaaaaaaaaaaaaaaa", "acct_platformcreditusdaaaaaaaaa"
	for _, fill := range []string{
		`INSERT INTO tenants (id, kind, name) VALUES ('tenant_busyaaaaaaaaaaaaaaaaaaaaaa', 'personal', 'busy'), ('tenant_idleaaaaaaaaaaaaaaaaaaaaaa', 'personal', 'idle')`,
		`INSERT INTO accounts (id, kind, tenant_id, currency) VALUES ('` + busy + `', 'tenant', 'tenant_busyaaaaaaaaaaaaaaaaaaaaaa', 'usd'), ('` + idle + `', 'tenant', 'tenant_idleaaaaaaaaaaaaaaaaaaaaaa', 'usd')`,
		`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
			SELECT 'adjustment_credit', gen_random_uuid(), '` + platform + `', CASE WHEN n <= 10 THEN '` + idle + `' ELSE '` + busy + `' END, 'usd', n, 'plan/' || n
			FROM generate_series(1, 20000) AS n`,
		`INSERT INTO ledger_checkpoints (account_id, up_to_id, balance_micros) SELECT '` + idle + `', min(id) + 5, 21 FROM ledger_entries`,
		`ANALYZE`,
	} {
		if _, err := database.Owner.Exec(t.Context(), fill); err != nil {
			t.Fatal(err)
		}
	}
	connection, err := database.App.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Release()
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		for name, execute := range map[string]string{"LedgerBalance": `('` + idle + `')`} {
			prepared := strings.ToLower(name + "_" + mode)
			plan, err := explain(t, connection.Conn(), mode, prepared, queries.Statements()[name], execute)
			if err != nil {
				t.Fatalf("%s with %s: %v", name, mode, err)
			}
			if !strings.Contains(plan, "ledger_by_credit") || !strings.Contains(plan, "ledger_by_debit") ||
				strings.Contains(plan, "Seq Scan on ledger_entries") || strings.Contains(plan, "ledger_entries_pkey") {
				t.Errorf("%s with %s reads more than the tail:\n%s", name, mode, plan)
			}
		}
	}
	balance, err := queries.Balance(t.Context(), database.App, idle)
	if err != nil || balance != 55 {
		t.Fatalf("the balance is %d, error %v, want the sum of 1 to 10", balance, err)
	}
}

func explain(t *testing.T, connection *pgx.Conn, mode, prepared, sql, arguments string) (string, error) {
	t.Helper()
	for _, statement := range []string{"SET plan_cache_mode = " + mode, fmt.Sprintf("PREPARE %s AS %s", prepared, sql)} {
		if _, err := connection.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return "", err
		}
	}
	rows, err := connection.Query(t.Context(), "EXPLAIN EXECUTE "+prepared+arguments, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}
