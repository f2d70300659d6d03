//go:build integration

package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

func TestMigrateTwiceAppliesNothingMore(t *testing.T) {
	database := storetest.New(t)
	applied, err := store.Migrate(t.Context(), database.OwnerURL)
	if err != nil || len(applied) != 0 {
		t.Fatalf("a second run applied %v, error %v", applied, err)
	}
}

func TestMigrateByTwoProcessesAtOnceAppliesEachOnce(t *testing.T) {
	url := storetest.NewEmpty(t)
	counts := make([]int, 4)
	var group errgroup.Group
	for i := range counts {
		group.Go(func() error {
			applied, err := store.Migrate(context.Background(), url)
			counts[i] = len(applied)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var recorded int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM schema_migrations").Scan(&recorded); err != nil {
		t.Fatal(err)
	}
	if recorded == 0 || total != recorded {
		t.Fatalf("four runs applied %d migrations together, %d are recorded", total, recorded)
	}
}

func TestMigrateRefusesChangedHistory(t *testing.T) {
	database := storetest.New(t)
	if _, err := database.Owner.Exec(t.Context(), "UPDATE schema_migrations SET sha256 = 'other' WHERE name LIKE '0001%'"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Migrate(t.Context(), database.OwnerURL); err == nil {
		t.Fatal("a changed migration was accepted")
	}
}

func TestInTxTakesItsTransactionIDBeforeAnythingElse(t *testing.T) {
	database := storetest.New(t)
	err := store.InTx(t.Context(), database.App, func(ctx context.Context, tx pgx.Tx) error {
		var assigned *string
		if err := tx.QueryRow(ctx, "SELECT pg_current_xact_id_if_assigned()::text").Scan(&assigned); err != nil {
			return err
		}
		if assigned == nil {
			t.Error("the transaction has no xid when its first statement runs")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
