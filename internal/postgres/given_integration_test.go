//go:build integration

package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestGivenServer(t *testing.T) {
	s := start(t, t.TempDir())
	root := s.URL("postgres")
	execute(t, root, "CREATE ROLE poor LOGIN PASSWORD 'p'; CREATE ROLE able LOGIN CREATEDB CREATEROLE PASSWORD 'p'")
	as := func(role string) string { return s.roleURL(role, "p", "postgres") }

	_, err := OnGiven(t.Context(), as("poor"), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "needs CREATEDB and CREATEROLE") {
		t.Errorf("a role without rights got %v", err)
	}
	if _, err := OnGiven(t.Context(), "host=127.0.0.1", t.TempDir()); err == nil {
		t.Error("a DATABASE_URL that is no URL is taken")
	}

	dirA, dirB := t.TempDir(), t.TempDir()
	a, err := OnGiven(t.Context(), as("able"), dirA)
	if err != nil {
		t.Fatal(err)
	}
	if want := 300 - query[int](t, root, "SELECT current_setting('superuser_reserved_connections')::int"); a.Connections != want {
		t.Errorf("the server is said to take %d connections, want %d", a.Connections, want)
	}
	b, err := OnGiven(t.Context(), as("able"), dirB)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OnGiven(t.Context(), as("able"), dirA)
	if err != nil {
		t.Fatal(err)
	}
	if a.Product == b.Product || a.Product != again.Product {
		t.Errorf("the databases are %s, %s and again %s", a.Product, b.Product, again.Product)
	}
	execute(t, a.OwnerURL(a.Product), "CREATE ROLE gpuaas_app NOLOGIN")
	for _, d := range []Databases{a, b} {
		if err := d.AdmitPrograms(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !query[bool](t, d.ProgramURL(), "SELECT pg_has_role('gpuaas_app', 'MEMBER')") {
			t.Error("the programs' role is no member of the group role")
		}
	}
	execute(t, b.OwnerURL(b.Product), "CREATE TABLE used (n int); GRANT SELECT ON used TO gpuaas_app")
	if err := Remove(t.Context(), dirA); err == nil || !strings.Contains(err.Error(), "set DATABASE_URL") {
		t.Errorf("the names of databases on a given server were nearly forgotten: %v", err)
	}
	if err := DropGiven(t.Context(), as("able"), dirA); err != nil {
		t.Fatal(err)
	}
	if !query[bool](t, root, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gpuaas_app')") {
		t.Error("the group role went although another instance uses it")
	}
	if query[bool](t, root, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", a.Product) {
		t.Error("the dropped database is still there")
	}
	if !query[bool](t, root, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", b.Product) {
		t.Error("the other instance's database went too")
	}
	if err := Remove(t.Context(), dirA); err != nil {
		t.Error(err)
	}
	// Nobody is a member any more, and a table's grant alone keeps the role.
	execute(t, root, "REVOKE gpuaas_app FROM "+quote(b.programRole))
	if err := dropUnused(t, as("able")); err != nil {
		t.Fatal(err)
	}
	if !query[bool](t, root, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gpuaas_app')") {
		t.Error("the group role went although a table is granted to it")
	}
	if err := DropGiven(t.Context(), as("able"), dirB); err != nil {
		t.Fatal(err)
	}
	if query[bool](t, root, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gpuaas_app')") {
		t.Error("the last instance left the group role behind")
	}
}

func dropUnused(t *testing.T, url string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	return dropUnusedAppRole(t.Context(), conn)
}

// What one role leaves on a server must not hold up the next; where it is in use, the next is told before anything is made.
func TestAGroupRoleOfSomebodyElse(t *testing.T) {
	s := start(t, t.TempDir())
	root := s.URL("postgres")
	execute(t, root, "CREATE ROLE able LOGIN CREATEDB CREATEROLE PASSWORD 'p'")
	able := s.roleURL("able", "p", "postgres")
	// As the migrations do.
	alter := func(d Databases) {
		execute(t, d.OwnerURL(d.Product), `DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gpuaas_app') THEN CREATE ROLE gpuaas_app NOLOGIN; END IF;
			END $$; ALTER ROLE gpuaas_app SET statement_timeout = '15s'`)
	}
	asRoot, asAble := t.TempDir(), t.TempDir()
	d, err := OnGiven(t.Context(), root, asRoot)
	if err != nil {
		t.Fatal(err)
	}
	alter(d)
	if query[int](t, root, "SELECT current_setting('server_version_num')::int") >= rolesAreOwned {
		_, err = OnGiven(t.Context(), able, asAble)
		if err == nil || !strings.Contains(err.Error(), "DROP ROLE gpuaas_app") {
			t.Errorf("a role that may not alter gpuaas_app got %v", err)
		}
		if n := query[int](t, root, "SELECT count(*)::int FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = 'able'"); n != 0 {
			t.Errorf("it was refused after it had made %d databases", n)
		}
	}
	if err := DropGiven(t.Context(), root, asRoot); err != nil {
		t.Fatal(err)
	}
	if d, err = OnGiven(t.Context(), able, asAble); err != nil {
		t.Fatalf("after the other instance was removed: %v", err)
	}
	alter(d)
	if err := d.AdmitPrograms(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := DropGiven(t.Context(), able, asAble); err != nil {
		t.Fatal(err)
	}
}
