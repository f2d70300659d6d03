//go:build integration

package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// What Stripe knows of a tenant is erased with the tenant, even where Stripe is away when that happens.
func TestStripeForgetsWhoIsErased(t *testing.T) {
	w := quickTopUps(t)
	ada, bob := w.penniless("ada"), w.penniless("bob")
	customers := map[string]string{}
	for _, name := range []string{"ada", "bob"} {
		w.paid(w.token(name), "d1", 1000)
		w.saved(w.token(name), "c1", "pay")
		customers[name] = w.field(`SELECT customer_id FROM stripe_customers WHERE tenant_id = $1`, w.tenantOf(name))
	}
	tenant, method := w.tenantOf("ada"), w.field(`SELECT payment_method_id FROM cards WHERE state = 'saved' AND tenant_id = $1`, w.tenantOf("ada"))
	w.stripe.Order("faults", map[string]any{"faults": map[string]any{"fail": 1}})
	if closed := w.ask("POST", "/api/v1/tenants/"+tenant+"/close", ada, "c", `{"reason":"bye"}`); closed.status != 200 {
		t.Fatalf("closing answers %d %s", closed.status, closed.body)
	}
	if gone := w.ask("DELETE", "/api/v1/me", ada, "d", ""); gone.status != 204 {
		t.Fatalf("deleting answers %d %s", gone.status, gone.body)
	}
	w.stripe.Order("faults", map[string]any{"faults": map[string]any{}})
	w.forgotten(method)
	temporaltest.Eventually(t, time.Minute, func() error {
		if known := w.stripe.Get("/v1/customers/" + customers["ada"]); known["deleted"] != true {
			return fmt.Errorf("Stripe knows %v", known) //nolint:staticcheck // a name
		}
		if left := w.field(`SELECT count(*)::text FROM stripe_customers WHERE tenant_id = $1`, tenant); left != "0" {
			return fmt.Errorf("%s customers are not forgotten", left)
		}
		return nil
	})
	if known := w.stripe.Get("/v1/customers/" + customers["bob"]); known["deleted"] == true {
		t.Error("Stripe has forgotten somebody who is not erased")
	}
	if card := w.ask("GET", cardPath, bob, "", ""); card.status != 200 {
		t.Errorf("their card is answered %d %s", card.status, card.body)
	}
}
