package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	balanceTail = 60
	readsARun   = 2000
	aimVsLookup = 1.5
)

func benchBalance(ctx context.Context, databases databaseURLs, chosen settings) error {
	owner, err := store.Open(ctx, databases.owner, store.MaxConnections(2), withoutStatementTimeout)
	if err != nil {
		return err
	}
	defer owner.Close()
	meters, err := makeMeters(ctx, owner, 1, 1, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		return err
	}
	account := meters[0].AccountID
	want, err := fillAccount(ctx, owner, account, chosen.entries)
	if err != nil {
		return err
	}
	pool, err := store.Open(ctx, databases.program, store.MaxConnections(4))
	if err != nil {
		return err
	}
	defer pool.Close()
	contenders := []contender{{"balance", readBalance(pool, account, want)}, {"one range", readOneRange(pool, account)}, {"lookup", readRow(pool, account)}}
	times := make([][]time.Duration, len(contenders))
	for round := range chosen.runs + 1 {
		line := fmt.Sprintf("balance run %d", round)
		for i, contender := range contenders {
			took, err := medianTime(ctx, contender.read)
			if err != nil {
				return fmt.Errorf("%s: %w", contender.name, err)
			}
			if round > 0 {
				times[i] = append(times[i], took)
			}
			line += fmt.Sprintf(" %s %v", contender.name, took)
		}
		if round > 0 { // the first one warms connections, caches and plans
			fmt.Println(line)
		}
	}
	balance, oneRange, lookup := median(times[0]), median(times[1]), median(times[2])
	fmt.Printf("balance median: %v over %d entries with a tail of %d, checkpoint and one range of one index %v, plain lookup %v\n",
		balance, chosen.entries, balanceTail, oneRange, lookup)
	fmt.Printf("ratio balance_one_range_vs_lookup %.3f\n", float64(oneRange)/float64(lookup))
	rig.AtMost("balance_read_vs_lookup", float64(balance)/float64(lookup), aimVsLookup)
	return nil
}

// contender is one way to read.
type contender struct {
	name string
	read func(context.Context) error
}

// readBalance reads as every program does.
func readBalance(pool *pgxpool.Pool, account id.Account, want money.Micros) func(context.Context) error {
	return func(ctx context.Context) error {
		balance, err := queries.Balance(ctx, pool, account)
		if err == nil && balance != want {
			err = fmt.Errorf("the balance is %d, want %d", balance, want)
		}
		return err
	}
}

// readRow is the limit: one row by its key.
func readRow(pool *pgxpool.Pool, account id.Account) func(context.Context) error {
	return func(ctx context.Context) error {
		rows, err := pool.Query(ctx, `SELECT tenant_id FROM accounts WHERE id = @account_id`, pgx.NamedArgs{"account_id": account})
		if err != nil {
			return err
		}
		_, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[struct{ TenantID id.Tenant }])
		return err
	}
}

// readOneRange is the least that a checkpoint and a tail can cost, however entries are laid out: the newest checkpoint, and one range of one
// index behind it. It looks at the wrong entries, and at as many. The bound is part of the text, so that the planner need not ask for it again.
func readOneRange(pool *pgxpool.Pool, account id.Account) func(context.Context) error {
	oneRange := fmt.Sprintf(`WITH newest AS MATERIALIZED (
			SELECT up_to_id FROM ledger_checkpoints WHERE account_id = @account_id ORDER BY up_to_id DESC LIMIT 1
		) SELECT count(amount_micros) AS entries FROM (
			SELECT amount_micros FROM ledger_entries WHERE id > (SELECT up_to_id FROM newest) ORDER BY id LIMIT %d
		) AS tail`, balanceTail)
	return func(ctx context.Context) error {
		rows, err := pool.Query(ctx, oneRange, pgx.NamedArgs{"account_id": account})
		if err != nil {
			return err
		}
		tail, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[struct{ Entries int }])
		if err == nil && tail.Entries != balanceTail {
			err = fmt.Errorf("the tail has %d entries, want %d", tail.Entries, balanceTail)
		}
		return err
	}
}

// withoutStatementTimeout is for the filling of the tables, which no program does.
func withoutStatementTimeout(config *pgxpool.Config) {
	config.ConnConfig.RuntimeParams["statement_timeout"] = "0"
}

// fillAccount gives an account its entries, half of them credits and half debits, and a checkpoint before the last 60,
// which arrive after the table was vacuumed, as the tail of a live account does. It answers the balance.
func fillAccount(ctx context.Context, owner *pgxpool.Pool, account id.Account, entries int) (money.Micros, error) {
	const insert = `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
		SELECT CASE WHEN n % 2 = 0 THEN 'adjustment_credit' ELSE 'adjustment_debit' END, gen_random_uuid(),
			CASE WHEN n % 2 = 0 THEN 'acct_platformcreditusdaaaaaaaaa' ELSE $1 END, CASE WHEN n % 2 = 0 THEN $1 ELSE 'acct_platformcreditusdaaaaaaaaa' END,
			'usd', 1000 + n, 'bench/' || n FROM generate_series($2::bigint, $3::bigint) AS n`
	const step = 100_000
	for from := 1; from <= entries-balanceTail; from += step {
		if _, err := owner.Exec(ctx, insert, account, from, min(from+step-1, entries-balanceTail)); err != nil {
			return 0, fmt.Errorf("fill the account: %w", err)
		}
	}
	for _, statement := range []string{
		`INSERT INTO ledger_checkpoints (account_id, up_to_id, balance_micros)
			SELECT '` + string(account) + `', max(id), sum(CASE WHEN credit_account_id = '` + string(account) + `' THEN amount_micros ELSE -amount_micros END) FROM ledger_entries`,
		`VACUUM ANALYZE`,
	} {
		if _, err := owner.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	if _, err := owner.Exec(ctx, insert, account, entries-balanceTail+1, entries); err != nil {
		return 0, err
	}
	var want money.Micros
	err := owner.QueryRow(ctx, `SELECT sum(CASE WHEN credit_account_id = $1 THEN amount_micros ELSE -amount_micros END)::bigint FROM ledger_entries`, account).Scan(&want)
	return want, err
}

// medianTime is how long one read takes, one after the other on the same pool.
func medianTime(ctx context.Context, read func(context.Context) error) (time.Duration, error) {
	times := make([]time.Duration, readsARun)
	for i := range times {
		began := time.Now()
		if err := read(ctx); err != nil {
			return 0, err
		}
		times[i] = time.Since(began)
	}
	return median(times), nil
}
