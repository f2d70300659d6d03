// Package storetest gives a test a database of its own on a real PostgreSQL: migrated, seeded with nothing, and
// dropped when the test ends. It needs GPUAAS_TEST_DATABASE_URL, which `make test-integration` sets.
package storetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/asyncapitest"
)

// Database is one test's database. App connects with the rights of the programs, Owner with those of the migrations.
type Database struct {
	App, Owner       *pgxpool.Pool
	AppURL, OwnerURL string
	// Unpromised says that the test writes events that the contract does not know; all others are held against it when the test ends.
	Unpromised bool
}

// templates makes the migrated template database once a process and keeps its name.
var templates = sync.OnceValues(makeTemplate)

// New makes a migrated database for t and drops it when t ends.
func New(t testing.TB, options ...store.Option) *Database {
	t.Helper()
	template, err := templates()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := "test_" + suffix()
	if err := execute(ctx, adminURL(), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template)); err != nil {
		t.Fatal(err)
	}
	database := &Database{OwnerURL: withDatabase(adminURL(), name, "", ""), AppURL: withDatabase(adminURL(), name, appLogin, appPassword)}
	if database.Owner, err = store.Open(ctx, database.OwnerURL, store.MaxConnections(8)); err != nil {
		t.Fatal(err)
	}
	if database.App, err = store.Open(ctx, database.AppURL, options...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !database.Unpromised {
			holdEvents(t, database.Owner)
		}
		database.App.Close()
		database.Owner.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := execute(ctx, adminURL(), fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name)); err != nil {
			t.Error(err)
		}
	})
	return database
}

// mostHeld is how many events of each kind are held against the contract.
const mostHeld = 500

// holdEvents holds the events that a test wrote against their contract, whatever the test was about.
func holdEvents(t testing.TB, owner *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rows, err := owner.Query(ctx, `SELECT subject, payload::text FROM (
		SELECT subject, payload, row_number() OVER (PARTITION BY subject ORDER BY id) AS number FROM outbox WHERE stream <> 'DLQ') AS event
		WHERE number <= $1`, mostHeld)
	if err != nil {
		return // the test stopped its database, or took the table away
	}
	defer rows.Close()
	told, written := map[string]bool{}, map[string]bool{}
	defer func() { noteWritten(t, written) }()
	for rows.Next() {
		var subject, payload string
		if err := rows.Scan(&subject, &payload); err != nil {
			t.Error(err)
			return
		}
		written[subject] = true
		for _, mistake := range asyncapitest.Mistakes(subject, []byte(payload)) {
			if !told[subject] { // one of each kind says enough
				told[subject] = true
				t.Errorf("the test wrote an event: %s\n%s", mistake, payload)
			}
		}
	}
}

// WrittenDirectory names the variable of the environment with the directory in which a file tells of each kind of event that any test has written and
// held against its contract; scripts/ci/written looks whether one is missing.
const WrittenDirectory = "GPUAAS_TEST_WRITTEN_EVENTS"

func noteWritten(t testing.TB, subjects map[string]bool) {
	directory := os.Getenv(WrittenDirectory)
	if directory == "" {
		return
	}
	for subject := range subjects {
		if err := os.WriteFile(filepath.Join(directory, subject), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// NewEmpty makes a database without any migration and answers its owner's URL.
func NewEmpty(t testing.TB) string {
	t.Helper()
	if adminURL() == "" {
		t.Fatal(errNoServer)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := "test_" + suffix()
	if err := execute(ctx, adminURL(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := execute(ctx, adminURL(), fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name)); err != nil {
			t.Error(err)
		}
	})
	return withDatabase(adminURL(), name, "", "")
}

var errNoServer = errors.New("GPUAAS_TEST_DATABASE_URL is not set: run `make test-integration`, which starts a private PostgreSQL")

const (
	appLogin    = "gpuaas_test_app"
	appPassword = "gpuaas_test_app"
)

func adminURL() string { return os.Getenv("GPUAAS_TEST_DATABASE_URL") }

func makeTemplate() (string, error) {
	if adminURL() == "" {
		return "", errNoServer
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := "template_" + suffix()
	if err := execute(ctx, adminURL(), "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	if _, err := store.Migrate(ctx, withDatabase(adminURL(), name, "", "")); err != nil {
		return "", err
	}
	login := fmt.Sprintf(`DO $$ BEGIN
		CREATE ROLE %[1]s LOGIN PASSWORD '%[2]s';
	EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`, appLogin, appPassword)
	if err := execute(ctx, adminURL(), login); err != nil {
		return "", err
	}
	grant := fmt.Sprintf(`DO $$ BEGIN
		PERFORM pg_advisory_xact_lock(1735423329);
		IF NOT pg_has_role('%[1]s', 'gpuaas_app', 'MEMBER') THEN GRANT gpuaas_app TO %[1]s; END IF;
	END $$`, appLogin)
	return name, execute(ctx, adminURL(), grant)
}

func execute(ctx context.Context, databaseURL, statement string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect to the test database server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func withDatabase(base, name, user, password string) string {
	parsed, err := url.Parse(base)
	if err != nil {
		return base
	}
	parsed.Path = "/" + name
	if user != "" {
		parsed.User = url.UserPassword(user, password)
	}
	return parsed.String()
}

func suffix() string {
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails since Go 1.24
	return hex.EncodeToString(random)
}
