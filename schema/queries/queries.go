// Package queries holds every SQL statement of the programs: a .sql file a noun, and beside it the Go file with
// its typed rows, mapped by pgx. It may import domain and pgx; no statement joins two domains' tables, and every
// statement on a tenant's table names the tenant. A test prepares each statement against the migrated schema.
package queries

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
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

// Statements copies the SQL of every named statement, for the test that prepares them.
func Statements() map[string]string {
	copied := make(map[string]string, len(statements))
	for name, loaded := range statements {
		copied[name] = loaded.sql
	}
	return copied
}

// sqlStatement is a statement with positional arguments, and their names in that order. pgx would look for the names anew
// at every execution, which for a long statement takes as long as a short one takes altogether.
type sqlStatement struct {
	sql   string
	names []string
}

// bind puts named arguments in the statement's order; a name without an argument is NULL.
func (s sqlStatement) bind(arguments []any) []any {
	if len(arguments) != 1 {
		return arguments
	}
	named, is := arguments[0].(pgx.NamedArgs)
	if !is {
		return arguments
	}
	values := make([]any, len(s.names))
	for i, name := range s.names {
		values[i] = named[name]
	}
	return values
}

// statement is the SQL under "-- name: NAME"; an unknown name is a mistake of the programmer.
func statement(name string) sqlStatement {
	loaded, known := statements[name]
	if !known {
		panic("schema/queries has no statement named " + name)
	}
	return loaded
}

// argumentName is what may be the name of an argument; pgx knows which of them stand in a comment or a literal.
var argumentName = regexp.MustCompile(`@([A-Za-z_][A-Za-z0-9_]*)`)

// positional numbers the named arguments of a statement. pgx does it, with each name as its own value.
func positional(text string) (sqlStatement, error) {
	candidates := pgx.NamedArgs{}
	for _, match := range argumentName.FindAllStringSubmatch(text, -1) {
		candidates[match[1]] = match[1]
	}
	sql, values, err := candidates.RewriteQuery(context.Background(), nil, text, nil)
	if err != nil {
		return sqlStatement{}, err
	}
	numbered := sqlStatement{sql: sql, names: make([]string, len(values))}
	for i, value := range values {
		numbered.names[i] = fmt.Sprint(value)
	}
	return numbered, nil
}

func mustLoad(source fs.FS) map[string]sqlStatement {
	names, err := fs.Glob(source, "*.sql")
	if err != nil {
		panic(err)
	}
	loaded := map[string]sqlStatement{}
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
			if loaded[title], err = positional(strings.TrimSuffix(strings.TrimSpace(body), ";")); err != nil {
				panic(fmt.Sprintf("the statement %s: %v", title, err))
			}
		}
	}
	return loaded
}

// one runs a statement that answers exactly one row; pgx.ErrNoRows when there is none.
func one[Row any](ctx context.Context, db DB, name string, arguments ...any) (Row, error) {
	wanted := statement(name)
	rows, err := db.Query(ctx, wanted.sql, wanted.bind(arguments)...)
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
	wanted := statement(name)
	rows, err := db.Query(ctx, wanted.sql, wanted.bind(arguments)...)
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
	wanted := statement(name)
	tag, err := db.Exec(ctx, wanted.sql, wanted.bind(arguments)...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return tag.RowsAffected(), nil
}

// queue adds a statement to a batch.
func queue(batch *pgx.Batch, name string, arguments ...any) {
	wanted := statement(name)
	batch.Queue(wanted.sql, wanted.bind(arguments)...)
}
