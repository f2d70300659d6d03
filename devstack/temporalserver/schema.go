package temporalserver

import (
	"context"
	"fmt"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	postgresschema "go.temporal.io/server/schema/postgresql/v12"
	"go.temporal.io/server/tools/common/schema"
	"go.temporal.io/server/tools/sql"
)

// migrate brings both databases to the schema of the linked server. It may run on every start.
func migrate(ctx context.Context, conf *config.Config, logger log.Logger) error {
	for _, store := range []struct{ name, schema, version string }{
		{conf.Persistence.DefaultStore, "postgresql/v12/temporal", postgresschema.Version},
		{conf.Persistence.VisibilityStore, "postgresql/v12/visibility", postgresschema.VisibilityVersion},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := migrateStore(conf.Persistence.DataStores[store.name].SQL, store.schema, store.version, logger); err != nil {
			return fmt.Errorf("the schema of Temporal's store %s cannot be brought to version %s: %w", store.name, store.version, err)
		}
	}
	return nil
}

func migrateStore(store *config.SQL, name, version string, logger log.Logger) error {
	if store == nil {
		return fmt.Errorf("it is no SQL store")
	}
	conn, err := sql.NewConnection(store, logger)
	if err != nil {
		return err
	}
	defer conn.Close()
	if current, err := conn.ReadSchemaVersion(); err == nil && current == version {
		return nil
	}
	if err := schema.NewSetupSchemaTask(conn, &schema.SetupConfig{InitialVersion: "0.0"}, logger).Run(); err != nil {
		return err
	}
	return schema.NewUpdateSchemaTask(conn, &schema.UpdateConfig{DBName: store.DatabaseName, SchemaName: name}, logger).Run()
}
