//go:build integration

package temporalserver

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	postgresschema "go.temporal.io/server/schema/postgresql/v12"

	"github.com/gpuaas/gpuaas/internal/postgres"
)

// bench is a pair of Temporal's databases on a server of the test's own.
type bench struct {
	t         *testing.T
	databases postgres.Databases
	conf      *config.Config
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	server, err := postgres.Start(t.Context(), postgres.Config{DataDir: dir, BinDir: os.Getenv("GPUAAS_POSTGRES_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
		if err := postgres.Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t}
	if b.databases, err = server.Databases(t.Context()); err != nil {
		t.Fatal(err)
	}
	file, err := FindConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	err = export(Config{
		File: file, DatabaseURL: b.databases.AdminURL, Database: b.databases.Temporal, Visibility: b.databases.Visibility, LogFile: filepath.Join(dir, "temporal.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.conf, err = config.Load(config.WithConfigFile(file)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) migrate() error {
	return migrate(b.t.Context(), b.conf, b.databases.AdminURL, log.NewNoopLogger())
}

func (b *bench) connect(name string) *pgx.Conn {
	b.t.Helper()
	u, err := url.Parse(b.databases.AdminURL)
	if err != nil {
		b.t.Fatal(err)
	}
	u.Path = "/" + name
	conn, err := pgx.Connect(b.t.Context(), u.String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (b *bench) execute(name, statements string) {
	b.t.Helper()
	conn := b.connect(name)
	if _, err := conn.Exec(b.t.Context(), statements); err != nil {
		b.t.Fatal(err)
	}
	if err := conn.Close(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) version(name string) string {
	b.t.Helper()
	var version string
	if err := b.connect(name).QueryRow(b.t.Context(), "SELECT curr_version FROM schema_version").Scan(&version); err != nil {
		b.t.Fatal(err)
	}
	return version
}

// holds says whether the table that a case leaves behind is still there.
func (b *bench) holds(name string) bool {
	b.t.Helper()
	var holds bool
	if err := b.connect(name).QueryRow(b.t.Context(), "SELECT to_regclass('public.kept') IS NOT NULL").Scan(&holds); err != nil {
		b.t.Fatal(err)
	}
	return holds
}

func TestASetUpThatWasCutShortBeginsAnewAndAFinishedOneIsKept(t *testing.T) {
	b := newBench(t)
	if err := b.migrate(); err != nil {
		t.Fatalf("the first set-up: %v", err)
	}
	main, visibility := b.databases.Temporal, b.databases.Visibility
	mark := func(name string) string {
		return "; COMMENT ON DATABASE " + pgx.Identifier{name}.Sanitize() + " IS '" + strings.ReplaceAll(underConstruction, "'", "''") + "'"
	}
	// Each case finds a complete schema and leaves what a kill would have left, beside a table that tells whether the database was made anew.
	for _, c := range []struct {
		what, database, left string
		kept                 bool
	}{
		{"finished", main, "", true},
		{"finished by an earlier server", main, "UPDATE schema_version SET curr_version = '1.18'", true},
		{"cut within the first version", main, "UPDATE schema_version SET curr_version = '0.0'" + mark(main), false},
		{"cut within a later version, whose DROP cannot be repeated", main, "UPDATE schema_version SET curr_version = '1.12'" + mark(main), false},
		{"cut before anything was recorded", main, "DROP TABLE schema_version" + mark(main), false},
		{"cut within the first version by a stack that left no mark", main, "UPDATE schema_version SET curr_version = '0.0'", false},
		{"finished, visibility", visibility, "", true},
		{"cut within the first version, visibility", visibility, "UPDATE schema_version SET curr_version = '0.0'" + mark(visibility), false},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := &bench{t: t, databases: b.databases, conf: b.conf}
			b.execute(c.database, "CREATE TABLE IF NOT EXISTS kept (n int);"+c.left)
			if err := b.migrate(); err != nil {
				t.Fatal(err)
			}
			if kept := b.holds(c.database); kept != c.kept {
				t.Errorf("what was there is kept: %v", kept)
			}
			if at := b.version(main); at != postgresschema.Version {
				t.Errorf("the schema is at %s, want %s", at, postgresschema.Version)
			}
			if at := b.version(visibility); at != postgresschema.VisibilityVersion {
				t.Errorf("the schema of visibility is at %s, want %s", at, postgresschema.VisibilityVersion)
			}
			// A mark that stayed would cost the whole database at the next start.
			b.execute(c.database, "CREATE TABLE IF NOT EXISTS kept (n int)")
			if err := b.migrate(); err != nil || !b.holds(c.database) {
				t.Errorf("the next start makes the database anew, or %v", err)
			}
		})
	}
}
