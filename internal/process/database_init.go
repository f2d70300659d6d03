package process

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema"
)

// DatabaseInitConfig says which database is brought to the newest schema.
type DatabaseInitConfig struct {
	OwnerURL string `env:"DATABASE_OWNER_URL,required,notEmpty" usage:"PostgreSQL URL of the role that owns the schema and may create roles"`
	Seed     bool   `env:"GPUAAS_SEED" envDefault:"false" usage:"also apply schema/seed.sql, which changes nothing that is there already"`
	Log      LogConfig
}

// Check finds no mistake beyond those of the single variables.
func (DatabaseInitConfig) Check() []string { return nil }

// RunDatabaseInit applies what is missing and says so; it ends when it is done.
func RunDatabaseInit(ctx context.Context, config DatabaseInitConfig) error {
	log := config.Log.logger("db-init")
	applied, err := store.Migrate(ctx, config.OwnerURL)
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "the schema is the newest", "applied", applied)
	if !config.Seed {
		return nil
	}
	conn, err := pgx.Connect(ctx, config.OwnerURL)
	if err != nil {
		return fmt.Errorf("connect to seed: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, schema.Seed); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	log.InfoContext(ctx, "the seed is there")
	return nil
}
