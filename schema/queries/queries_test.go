//go:build integration

package queries_test

import (
	"testing"

	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// Every statement is prepared with the rights of the programs: a column, a type or a name that does not fit the
// migrated schema fails here and not at a customer's.
func TestEveryStatementPreparesAgainstTheMigratedSchema(t *testing.T) {
	database := storetest.New(t)
	connection, err := database.App.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Release()
	statements := queries.Statements()
	if len(statements) < 50 {
		t.Fatalf("only %d statements were found", len(statements))
	}
	for name, text := range statements {
		if _, err := connection.Conn().Prepare(t.Context(), name, text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}
