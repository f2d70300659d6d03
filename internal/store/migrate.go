package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/schema/migrations"
)

// migrationLock is the advisory lock under which migrations run, so that two processes starting at once apply each once.
const migrationLock = 0x67707561 // "gpua"

// Migrate brings the database at url to the newest schema and returns the names of the migrations it applied,
// none when there was nothing to do. It is safe to run twice and by two processes at once. A migration whose
// text was changed after it was applied is an error: history only grows.
func Migrate(ctx context.Context, url string) (applied []string, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return nil, fmt.Errorf("wait for the migration lock: %w", err)
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
	}()

	const history = `CREATE TABLE IF NOT EXISTS schema_migrations (
		name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz(3) NOT NULL DEFAULT now())`
	if _, err := conn.Exec(ctx, history); err != nil {
		return nil, fmt.Errorf("make the migration history: %w", err)
	}
	known, err := appliedMigrations(ctx, conn)
	if err != nil {
		return nil, err
	}
	files, err := migrationFiles()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		sum, done := known[file.name]
		switch {
		case done && sum != file.sha256:
			return applied, fmt.Errorf("migration %s was changed after it was applied: add a new one instead", file.name)
		case done:
			continue
		}
		if err := applyMigration(ctx, conn, file); err != nil {
			return applied, err
		}
		applied = append(applied, file.name)
	}
	return applied, nil
}

type migrationFile struct{ name, sha256, text string }

func migrationFiles() ([]migrationFile, error) {
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	sort.Strings(names)
	files := make([]migrationFile, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", name, err)
		}
		sum := sha256.Sum256(text)
		files = append(files, migrationFile{name: strings.TrimSuffix(name, ".sql"), sha256: hex.EncodeToString(sum[:]), text: string(text)})
	}
	return files, nil
}

func appliedMigrations(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, "SELECT name, sha256 FROM schema_migrations")
	if err != nil {
		return nil, fmt.Errorf("read the migration history: %w", err)
	}
	known := map[string]string{}
	var name, sum string
	if _, err := pgx.ForEachRow(rows, []any{&name, &sum}, func() error { known[name] = sum; return nil }); err != nil {
		return nil, fmt.Errorf("read the migration history: %w", err)
	}
	return known, nil
}

func applyMigration(ctx context.Context, conn *pgx.Conn, file migrationFile) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin migration %s: %w", file.name, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, file.text); err != nil {
		return fmt.Errorf("migration %s: %w", file.name, err)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", file.name, file.sha256); err != nil {
		return fmt.Errorf("record migration %s: %w", file.name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit migration %s: %w", file.name, err)
	}
	return nil
}
