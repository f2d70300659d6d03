//go:build integration

package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

// A panic in a transaction writes nothing and gives its connection back: a pool of one still serves, and still closes.
func TestAPanicInATransactionGivesItsConnectionBack(t *testing.T) {
	database := storetest.New(t, store.MaxConnections(1))
	func() {
		defer func() {
			if recovered := recover(); recovered != "planted" {
				t.Errorf("the panic became %v", recovered)
			}
		}()
		_ = store.InTx(t.Context(), database.App, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('k', 1, '1', 'platform')"); err != nil {
				t.Error(err)
			}
			panic("planted")
		})
	}()
	if acquired := database.App.Stat().AcquiredConns(); acquired != 0 {
		t.Fatalf("%d connections are held", acquired)
	}
	var written int
	if err := database.App.QueryRow(t.Context(), "SELECT count(*) FROM policy_values").Scan(&written); err != nil || written != 0 {
		t.Fatalf("%d rows are written, %v", written, err)
	}
}
