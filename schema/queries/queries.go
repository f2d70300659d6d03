// Package queries holds every SQL statement of the programs: a .sql file a noun, and beside it the Go file with
// its typed rows, mapped by pgx. It may import domain and pgx; no statement joins two domains' tables, and every
// statement on a tenant's table names the tenant. A test prepares each statement against the migrated schema.
package queries

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DB is what a statement runs on: a pool, or the transaction it is part of.
type DB interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row
}

//go:embed *.sql
var files embed.FS

// statements is read once from the embedded files and never changes.
var statements = mustLoad(files)

// Statements copies every named statement, for the test that prepares them.
func Statements() map[string]string {
	copied := make(map[string]string, len(statements))
	for name, text := range statements {
		copied[name] = text
	}
	return copied
}

// statement is the SQL under "-- name: NAME"; an unknown name is a mistake of the programmer.
func statement(name string) string {
	text, known := statements[name]
	if !known {
		panic("schema/queries has no statement named " + name)
	}
	return text
}

func mustLoad(source fs.FS) map[string]string {
	names, err := fs.Glob(source, "*.sql")
	if err != nil {
		panic(err)
	}
	loaded := map[string]string{}
	for _, name := range names {
		text, err := fs.ReadFile(source, name)
		if err != nil {
			panic(err)
		}
		for _, section := range strings.Split("\n"+string(text), "\n-- name: ")[1:] {
			title, body, _ := strings.Cut(section, "\n")
			title = strings.TrimSpace(title)
			if _, twice := loaded[title]; twice {
				panic(fmt.Sprintf("the statement %s is defined twice", title))
			}
			loaded[title] = strings.TrimSuffix(strings.TrimSpace(body), ";")
		}
	}
	return loaded
}

// one runs a statement that answers exactly one row; pgx.ErrNoRows when there is none.
func one[Row any](ctx context.Context, db DB, name string, arguments ...any) (Row, error) {
	rows, err := db.Query(ctx, statement(name), arguments...)
	if err != nil {
		var zero Row
		return zero, fmt.Errorf("%s: %w", name, err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Row])
	if err != nil {
		return row, fmt.Errorf("%s: %w", name, err)
	}
	return row, nil
}

// many runs a statement that answers any number of rows.
func many[Row any](ctx context.Context, db DB, name string, arguments ...any) ([]Row, error) {
	rows, err := db.Query(ctx, statement(name), arguments...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Row])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return found, nil
}

// execute runs a statement that answers no rows and says how many it changed.
func execute(ctx context.Context, db DB, name string, arguments ...any) (int64, error) {
	tag, err := db.Exec(ctx, statement(name), arguments...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return tag.RowsAffected(), nil
}
