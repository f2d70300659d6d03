package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	postgresschema "go.temporal.io/server/schema/postgresql/v12"
	"go.temporal.io/server/tools/common/schema"
	"go.temporal.io/server/tools/sql"

	"github.com/gpuaas/gpuaas/internal/postgres"
)

// underConstruction is the comment on a database from the beginning of its first set-up to the end. Temporal's schema tool commits each statement alone
// and not every one can be repeated, so that a set-up which a kill cut short can only be begun anew; nothing is lost, as no server ran on it yet.
const underConstruction = "Temporal's schema is being made here for the first time; a start that finds this makes the database anew."

// migrate brings both databases to the schema of the linked server. It may run on every start.
func migrate(ctx context.Context, conf *config.Config, databaseURL string, logger log.Logger) error {
	for _, store := range []struct{ name, schema, version string }{
		{conf.Persistence.DefaultStore, "postgresql/v12/temporal", postgresschema.Version},
		{conf.Persistence.VisibilityStore, "postgresql/v12/visibility", postgresschema.VisibilityVersion},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		settings := conf.Persistence.DataStores[store.name].SQL
		if settings == nil {
			return fmt.Errorf("Temporal's store %s is no SQL store", store.name)
		}
		d := database{adminURL: databaseURL, name: settings.DatabaseName}
		if err := d.bringTo(ctx, settings, store.schema, store.version, logger); err != nil {
			return fmt.Errorf("the schema of Temporal's store %s cannot be brought to version %s: %w", store.name, store.version, err)
		}
	}
	return nil
}

// database is one of Temporal's two, on the server of adminURL.
type database struct{ adminURL, name string }

func (d database) bringTo(ctx context.Context, settings *config.SQL, schemaName, version string, logger log.Logger) error {
	found, err := d.standing(ctx)
	if err != nil {
		return err
	}
	switch {
	case found.version == version && !found.unfinished:
		return nil
	case !found.unfinished && !found.empty:
		return update(settings, schemaName, logger)
	case !found.empty:
		if err := postgres.Recreate(ctx, d.adminURL, d.name); err != nil {
			return err
		}
	}
	if err := d.comment(ctx, underConstruction); err != nil {
		return err
	}
	if err := update(settings, schemaName, logger); err != nil {
		return err
	}
	return d.comment(ctx, "")
}

// standing is how far the schema of a database is.
type standing struct {
	// version is empty where none is recorded.
	version string
	empty   bool
	// unfinished says that the first set-up was begun and did not come to its end.
	unfinished bool
}

// noVersion is what the schema tool records before its first statement.
const noVersion = "0.0"

func (d database) standing(ctx context.Context) (found standing, err error) {
	conn, err := d.connect(ctx)
	if err != nil {
		return found, err
	}
	defer func() { _ = conn.Close(ctx) }()
	var marked, versioned bool
	err = conn.QueryRow(ctx, `SELECT coalesce(shobj_description(oid, 'pg_database') = $1, false), to_regclass('public.schema_version') IS NOT NULL,
		NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public') FROM pg_database WHERE datname = current_database()`, underConstruction).
		Scan(&marked, &versioned, &found.empty)
	if err == nil && versioned {
		err = conn.QueryRow(ctx, "SELECT curr_version FROM schema_version WHERE version_partition = 0 AND db_name = $1", d.name).Scan(&found.version)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
	}
	if err != nil {
		return found, fmt.Errorf("how far the schema of %s is cannot be read: %w", d.name, err)
	}
	found.unfinished = marked || !found.empty && (found.version == "" || found.version == noVersion)
	return found, nil
}

// comment replaces the comment on the database; an empty one is none.
func (d database) comment(ctx context.Context, text string) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "COMMENT ON DATABASE "+pgx.Identifier{d.name}.Sanitize()+" IS '"+strings.ReplaceAll(text, "'", "''")+"'"); err != nil {
		return fmt.Errorf("the comment on %s cannot be written: %w", d.name, err)
	}
	return nil
}

func (d database) connect(ctx context.Context) (*pgx.Conn, error) {
	u, err := url.Parse(d.adminURL)
	if err != nil {
		return nil, errors.New("the database URL for Temporal is not usable")
	}
	u.Path = "/" + d.name
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("the database %s refuses its owner: %w", d.name, err)
	}
	return conn, nil
}

// update runs every statement that the schema tool has for what is there.
func update(settings *config.SQL, name string, logger log.Logger) error {
	conn, err := sql.NewConnection(settings, logger)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := schema.NewSetupSchemaTask(conn, &schema.SetupConfig{InitialVersion: noVersion}, logger).Run(); err != nil {
		return err
	}
	return schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{DBName: settings.DatabaseName, SchemaName: name}, logger).Run()
}
