//go:build integration

package activities

import (
	"errors"
	"testing"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

// A database that is away has not said that there is no account: the answer would be kept for whoever asked.
func TestADatabaseThatIsAwayDeniesNoAccount(t *testing.T) {
	tx, err := storetest.New(t).App.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := openAccount(t.Context(), tx, "tenant_a", "acct_a"); err == nil || errors.Is(err, fault.AccountNotFound) {
		t.Errorf("it answers %v", err)
	}
}
