//go:build integration

package queries_test

import (
	"fmt"
	"testing"

	"github.com/gpuaas/gpuaas/internal/store/storetest"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// A customer that Stripe refuses to forget stays in the list for good. Where the list is longer than a sweep takes, everybody else's turn
// comes all the same.
func TestWhoIsRefusedHoldsNobodyUpFromBeingForgotten(t *testing.T) {
	database := storetest.New(t)
	for i := range 3 {
		tenant := fmt.Sprintf("tenant_%daaaaaaaaaaaaaaaaaaaaaaaaa", i+2)
		for _, statement := range []string{
			`INSERT INTO tenants (id, kind, name) VALUES ($1, 'personal', 'erased')`,
			`INSERT INTO stripe_customers (tenant_id, customer_id, leaving_at) VALUES ($1, 'cus_' || $1, now())`,
		} {
			if _, err := database.Owner.Exec(t.Context(), statement, tenant); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := map[string]bool{}
	const sweeps = 500 // one of three is missed by all of them once in 10^88
	for range sweeps {
		leaving, err := queries.LeavingCustomers(t.Context(), database.App, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(leaving) != 1 {
			t.Fatalf("a sweep of one takes %d", len(leaving))
		}
		if seen[leaving[0].CustomerID] = true; len(seen) == 3 {
			return
		}
	}
	t.Errorf("in %d sweeps only %d of 3 had their turn", sweeps, len(seen))
}
