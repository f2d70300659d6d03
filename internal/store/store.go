// Package store is the way to PostgreSQL: connection pools with time-outs, the migrations, and the one
// transaction helper. It may import schema and the standard library; statements live in schema/queries.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Option changes how a pool is opened.
type Option func(*pgxpool.Config)

// MaxConnections bounds the pool.
func MaxConnections(n int32) Option {
	return func(config *pgxpool.Config) { config.MaxConns = n }
}

// ApplicationName is what pg_stat_activity shows of the pool's connections.
func ApplicationName(name string) Option {
	return func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["application_name"] = name }
}

// Open makes a pool for a PostgreSQL URL. It does not connect: a program starts while its database is away and
// says so in its readiness. Statements and idle transactions are bounded by the server, because an idle
// writing transaction stalls the ledger's seal.
func Open(ctx context.Context, url string, options ...Option) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database URL is not usable: %w", err)
	}
	parameters := config.ConnConfig.RuntimeParams
	setDefault(parameters, "timezone", "UTC")
	setDefault(parameters, "statement_timeout", "15000")
	setDefault(parameters, "idle_in_transaction_session_timeout", "10000")
	setDefault(parameters, "lock_timeout", "10000")
	// Every statement here is short: compiling one, or starting workers for it, takes longer than running it.
	setDefault(parameters, "jit", "off")
	setDefault(parameters, "max_parallel_workers_per_gather", "0")
	// The tables' busy ends are in memory, and disks do not seek any more: an index is cheaper than the default believes.
	setDefault(parameters, "random_page_cost", "1.1")
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	config.MaxConns = 16
	for _, option := range options {
		option(config)
	}
	return pgxpool.NewWithConfig(ctx, config)
}

func setDefault(parameters map[string]string, key, value string) {
	if _, given := parameters[key]; !given {
		parameters[key] = value
	}
}

// InTx runs do in one READ COMMITTED transaction and commits when it returns nil. The transaction takes its xid
// first, in a statement of its own: the seal of the ledger and the outbox holds only if every writing
// transaction has its xid before nextval runs. Serialization failures and deadlocks are tried again, so do
// must have no effect outside the database.
func InTx(ctx context.Context, pool *pgxpool.Pool, do func(ctx context.Context, tx pgx.Tx) error) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := once(ctx, pool, do)
		if err == nil || attempt == attempts || !retryable(err) || ctx.Err() != nil {
			return err
		}
	}
}

func once(ctx context.Context, pool *pgxpool.Pool, do func(ctx context.Context, tx pgx.Tx) error) error {
	// BEGIN and the xid go out together: two statements, one round trip.
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_current_xact_id()"})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	finished := false
	defer func() {
		if !finished { // a panic passes through: its connection goes back to the pool, with nothing written
			_ = rollBack(ctx, tx)
		}
	}()
	err = do(ctx, tx)
	finished = true
	if err != nil {
		if rollbackErr := rollBack(ctx, tx); rollbackErr != nil {
			return errors.Join(err, rollbackErr)
		}
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// rollBack ends a transaction that is not committed; a caller who was cancelled must not leave it open.
func rollBack(ctx context.Context, tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

func retryable(err error) bool {
	var failure *pgconn.PgError
	return errors.As(err, &failure) && (failure.Code == "40001" || failure.Code == "40P01")
}
