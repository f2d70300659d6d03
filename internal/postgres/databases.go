package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// Owner owns the databases of a private cluster and runs the migrations. It may make databases and roles and
	// is no superuser, like the role an operator would give us on a server of theirs.
	Owner = "gpuaas_owner"
	// AppRole is the group role that the migrations make and grant to.
	AppRole = "gpuaas_app"

	programRole   = "gpuaas_program"
	oldestVersion = OldestMajor * 10000
	// rolesAreOwned is the version since which CREATEROLE alone does not let a role alter others.
	rolesAreOwned = 160000
)

// Conditions that the server names by SQLSTATE.
const (
	databaseExists             = "42P04"
	roleExists                 = "42710"
	uniqueViolation            = "23505"
	dependentObjectsStillExist = "2BP01"
	insufficientPrivilege      = "42501"
)

// Databases are the databases of one instance and how to reach them.
type Databases struct {
	// AdminURL signs in as the role that owns the databases, on the server's own database.
	AdminURL string
	// Product, Temporal and Visibility are the names of the databases.
	Product, Temporal, Visibility string
	// Connections is how many the server takes of roles that are no superusers, all of its databases together.
	Connections int

	programRole, programPassword string
}

// OwnerURL signs in to one of the databases as the owner: for migrations and for Temporal's own tables.
func (d Databases) OwnerURL(database string) string { return withDatabase(d.AdminURL, database) }

// ProgramURL signs in to the product's database as a member of AppRole: what our programs get. It works once
// AdmitPrograms ran.
func (d Databases) ProgramURL() string {
	u, err := url.Parse(withDatabase(d.AdminURL, d.Product))
	if err != nil {
		return ""
	}
	u.User = url.UserPassword(d.programRole, d.programPassword)
	return u.String()
}

// Databases makes the owner role and the databases of this instance on the private server.
func (s *Server) Databases(ctx context.Context) (Databases, error) {
	if s.state.OwnerPassword == "" {
		s.state.OwnerPassword = secret()
		if err := s.state.save(); err != nil {
			return Databases{}, err
		}
	}
	conn, err := pgx.Connect(ctx, s.URL(maintenanceDatabase))
	if err != nil {
		return Databases{}, fmt.Errorf("the private Postgres refuses its superuser: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := ensureRole(ctx, conn, Owner, s.state.OwnerPassword, "CREATEDB CREATEROLE"); err != nil {
		return Databases{}, err
	}
	return prepareDatabases(ctx, s.roleURL(Owner, s.state.OwnerPassword, maintenanceDatabase), s.state)
}

// OnGiven makes the databases of the instance in dataDir on a server that the caller names by its URL. The
// role in it needs CREATEDB and CREATEROLE; names carry a suffix of this instance, so that several share a server.
func OnGiven(ctx context.Context, adminURL, dataDir string) (Databases, error) {
	if u, err := url.Parse(adminURL); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return Databases{}, errors.New("DATABASE_URL is not a URL of the form postgres://user:password@host:port/database")
	}
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return Databases{}, err
	}
	st, err := openState(dir)
	if err != nil {
		return Databases{}, err
	}
	if st.Suffix == "" {
		st.Suffix = secret()[:8]
		if err := st.save(); err != nil {
			return Databases{}, err
		}
	}
	return prepareDatabases(ctx, adminURL, st)
}

// DropGiven removes the databases and the roles that OnGiven, the migrations and AdmitPrograms made for the instance in dataDir.
func DropGiven(ctx context.Context, adminURL, dataDir string) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	st, err := openState(dir)
	if err != nil || st.Suffix == "" {
		return err
	}
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("the server of DATABASE_URL does not answer: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	d := named(adminURL, st)
	for _, name := range []string{d.Product, d.Temporal, d.Visibility} {
		if err := dropDatabase(ctx, conn, name); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "DROP ROLE IF EXISTS "+quote(d.programRole)); err != nil {
		return fmt.Errorf("the role %s cannot be dropped: %w", d.programRole, err)
	}
	if err := dropUnusedAppRole(ctx, conn); err != nil {
		return err
	}
	st.Suffix = ""
	return st.save()
}

// dropUnusedAppRole drops the group role with the last instance that used it: since PostgreSQL 16 only who made a role may alter it, so that it would
// be in the way of a later instance of another role. Whatever still uses it, in any database of the server, keeps it.
func dropUnusedAppRole(ctx context.Context, conn *pgx.Conn) error {
	var used bool
	// Who made the role, or may grant it, is a member with the admin option and no user of it.
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
		WHERE r.rolname = $1 AND NOT m.admin_option)`, AppRole).Scan(&used)
	if err != nil {
		return fmt.Errorf("the members of %s cannot be read: %w", AppRole, err)
	}
	if used {
		return nil
	}
	_, err = conn.Exec(ctx, "DROP ROLE IF EXISTS "+AppRole)
	if err != nil && !hasCode(err, dependentObjectsStillExist) && !hasCode(err, insufficientPrivilege) {
		return fmt.Errorf("the role %s cannot be dropped: %w", AppRole, err)
	}
	return nil
}

// Recreate drops one database of the server, whoever is connected to it, and makes it anew.
func Recreate(ctx context.Context, adminURL, name string) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("the database server refuses the connection: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := dropDatabase(ctx, conn, name); err != nil {
		return err
	}
	return ensureDatabase(ctx, conn, name)
}

func dropDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("the database %s cannot be dropped: %w", name, err)
	}
	return nil
}

func named(adminURL string, st *state) Databases {
	end := ""
	if st.Suffix != "" {
		end = "_" + st.Suffix
	}
	return Databases{
		AdminURL: adminURL, Product: "gpuaas" + end, Temporal: "temporal" + end, Visibility: "temporal_visibility" + end,
		programRole: programRole + end, programPassword: st.ProgramPassword,
	}
}

func prepareDatabases(ctx context.Context, adminURL string, st *state) (Databases, error) {
	if st.ProgramPassword == "" {
		st.ProgramPassword = secret()
		if err := st.save(); err != nil {
			return Databases{}, err
		}
	}
	d := named(adminURL, st)
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return Databases{}, fmt.Errorf("the database server refuses the connection: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if d.Connections, err = mayPrepare(ctx, conn); err != nil {
		return Databases{}, err
	}
	for _, name := range []string{d.Product, d.Temporal, d.Visibility} {
		if err := ensureDatabase(ctx, conn, name); err != nil {
			return Databases{}, err
		}
	}
	return d, nil
}

// mayPrepare answers before the first change whether the rest can work, in one sentence, and how many connections the server takes.
func mayPrepare(ctx context.Context, conn *pgx.Conn) (connections int, err error) {
	var (
		role                       string
		version                    int
		createsDB, createsRole, su bool
		appRoleIsAnothers          bool
	)
	err = conn.QueryRow(ctx, `SELECT u.rolname, current_setting('server_version_num')::int, u.rolcreatedb, u.rolcreaterole, u.rolsuper,
			a.oid IS NOT NULL AND NOT pg_has_role(a.oid, 'MEMBER WITH ADMIN OPTION'),
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			- coalesce(current_setting('reserved_connections', true)::int, 0)
		FROM pg_roles u LEFT JOIN pg_roles a ON a.rolname = $1 WHERE u.rolname = current_user`, AppRole).
		Scan(&role, &version, &createsDB, &createsRole, &su, &appRoleIsAnothers, &connections)
	switch {
	case err != nil:
		return 0, fmt.Errorf("the database server does not say what our role may do: %w", err)
	case version < oldestVersion:
		return 0, fmt.Errorf("the database server is PostgreSQL %d and %d or later is needed", version/10000, OldestMajor)
	case !su && (!createsDB || !createsRole):
		return 0, fmt.Errorf("the role %q of DATABASE_URL needs CREATEDB and CREATEROLE: run ALTER ROLE %s CREATEDB CREATEROLE as a superuser", role, quote(role))
	case !su && appRoleIsAnothers && version >= rolesAreOwned:
		return 0, fmt.Errorf("the server has a role %s that the role %q of DATABASE_URL may not alter: run DROP ROLE %s, or GRANT %s TO %s WITH ADMIN OPTION, as a superuser",
			AppRole, role, AppRole, AppRole, quote(role))
	}
	return connections, nil
}

func ensureDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return fmt.Errorf("the databases cannot be listed: %w", err)
	}
	if exists {
		return nil
	}
	_, err := conn.Exec(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	if err != nil && !hasCode(err, databaseExists) { // another process was quicker
		return fmt.Errorf("the database %s cannot be made: %w", name, err)
	}
	return nil
}

// ensureRole makes a login role or gives it its attributes and password again.
func ensureRole(ctx context.Context, conn *pgx.Conn, name, password, attributes string) error {
	with := quote(name) + " LOGIN " + attributes + " PASSWORD '" + strings.ReplaceAll(password, "'", "''") + "'"
	_, err := conn.Exec(ctx, "CREATE ROLE "+with)
	if hasCode(err, roleExists) || hasCode(err, uniqueViolation) {
		_, err = conn.Exec(ctx, "ALTER ROLE "+with)
	}
	if err != nil {
		return fmt.Errorf("the role %s cannot be made: %w", name, withoutSecret(err))
	}
	return nil
}

// AdmitPrograms makes the login role of our programs and a member of AppRole of it. The migrations must have
// run: they make AppRole. A role inherits rights but not settings, so the time-outs set on AppRole are copied.
func (d Databases) AdmitPrograms(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.OwnerURL(d.Product))
	if err != nil {
		return fmt.Errorf("the product's database refuses its owner: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := ensureRole(ctx, conn, d.programRole, d.programPassword, ""); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "GRANT "+AppRole+" TO "+quote(d.programRole)); err != nil {
		return fmt.Errorf("the programs' role cannot join %s, which another role of this server may own: %w", AppRole, err)
	}
	rows, err := conn.Query(ctx, `SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
		WHERE r.rolname = $1 AND s.setdatabase = 0`, AppRole)
	if err != nil {
		return fmt.Errorf("the settings of %s cannot be read: %w", AppRole, err)
	}
	settings, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("the settings of %s cannot be read: %w", AppRole, err)
	}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		_, err := conn.Exec(ctx, "ALTER ROLE "+quote(d.programRole)+" SET "+quote(key)+" = '"+strings.ReplaceAll(value, "'", "''")+"'")
		if err != nil {
			return fmt.Errorf("the setting %s cannot be given to the programs' role: %w", key, err)
		}
	}
	return nil
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// withoutSecret drops the statement that some errors quote: it holds a password.
func withoutSecret(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("%s (%s)", pg.Message, pg.Code)
	}
	return err
}

func withDatabase(serverURL, database string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		return serverURL
	}
	u.Path = "/" + database
	return u.String()
}
