//go:build integration

package activities_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// override sets a policy value for the principal's tenant.
func (w *world) override(principal identity.Principal, key, value string) {
	w.t.Helper()
	if _, err := w.tools.Policy.SetForTenant(w.t.Context(), principal.TenantID, policy.Order{Actor: identity.Platform(), Reason: "agreed", CorrelationID: "c"},
		policy.Change{Name: key, Value: json.RawMessage(value)}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tenantPrice(principal identity.Principal, rate money.Micros, from time.Time, withdrawn bool) id.Price {
	w.t.Helper()
	price := newID[id.Price]()
	w.must(queries.InsertTenantPrice(w.t.Context(), w.App, principal.TenantID, queries.Price{
		ID: price, SKU: testSKU, Currency: "usd", RateMicrosPerHour: rate, ValidFrom: from,
	}, withdrawn))
	return price
}

func TestAdmitHonoursWhatIsSetForATenant(t *testing.T) {
	w := newWorld(t, 6)
	own, other := w.tenant("ada", 10*runwayOfOne), w.tenant("bob", 10*runwayOfOne)
	w.override(own, "allocation.max_concurrent_per_user", "1")
	w.override(own, "billing.windows_per_settlement", "5")
	_, terms := w.mustAdmit(own, "k1")
	if terms.WindowsPerSettlement != 5 {
		t.Errorf("%d windows are settled at once", terms.WindowsPerSettlement)
	}
	if reply := w.admit(request(own, "k2")); reply.Fault == nil || reply.Fault.Code != string(fault.AllocationConcurrencyLimit) {
		t.Errorf("a second one answers %+v", reply)
	}
	_, theirs := w.mustAdmit(other, "k3")
	if theirs.WindowsPerSettlement != 1 {
		t.Errorf("the other tenant has %d windows settled at once", theirs.WindowsPerSettlement)
	}
	w.mustAdmit(other, "k4")
	w.override(other, "allocation.max_concurrent_per_tenant", "2")
	if reply := w.admit(request(other, "k5")); reply.Fault == nil || reply.Fault.Code != string(fault.AllocationConcurrencyLimit) {
		t.Errorf("above the tenant's limit it answers %+v", reply)
	}
	w.override(own, "allocation.max_concurrent_per_user", "9")
	w.override(own, "billing.runway_seconds", "2592000")
	if reply := w.admit(request(own, "k6")); reply.Fault == nil || reply.Fault.Code != string(fault.InsufficientBalance) {
		t.Errorf("with a longer runway it answers %+v", reply)
	}
}

func TestATenantsPriceHoldsForItsNewAllocationsAlone(t *testing.T) {
	w := newWorld(t, 8)
	own, other := w.tenant("ada", 100*runwayOfOne), w.tenant("bob", 100*runwayOfOne)
	price := w.tenantPrice(own, testPriceMicro/2, w.now, false)
	in, terms := w.mustAdmit(own, "k1")
	if terms.PriceID != price || terms.RateMicrosPerHour != testPriceMicro/2 {
		t.Errorf("the tenant pays %d by %s", terms.RateMicrosPerHour, terms.PriceID)
	}
	if _, theirs := w.mustAdmit(other, "k2"); theirs.RateMicrosPerHour != testPriceMicro {
		t.Errorf("another tenant pays %d", theirs.RateMicrosPerHour)
	}
	// A newer list price does not touch it; what is withdrawn lets the list price hold again, and only for what is new.
	w.must(queries.InsertPrice(t.Context(), w.App, queries.Price{ID: newID[id.Price](), SKU: testSKU, Currency: "usd", RateMicrosPerHour: testPriceMicro * 2, ValidFrom: w.now}))
	if _, terms = w.mustAdmit(own, "k3"); terms.RateMicrosPerHour != testPriceMicro/2 {
		t.Errorf("after a newer list price the tenant pays %d", terms.RateMicrosPerHour)
	}
	w.tenantPrice(own, 0, w.now.Add(time.Minute), true)
	if _, terms = w.mustAdmit(own, "k4"); terms.RateMicrosPerHour != testPriceMicro/2 {
		t.Errorf("before the withdrawal the tenant pays %d", terms.RateMicrosPerHour)
	}
	w.now = w.now.Add(time.Minute)
	if _, terms = w.mustAdmit(own, "k5"); terms.RateMicrosPerHour != testPriceMicro*2 {
		t.Errorf("after the withdrawal the tenant pays %d", terms.RateMicrosPerHour)
	}
	if row, err := queries.GetAllocation(t.Context(), w.App, own.TenantID, in.AllocationID); err != nil || row.RateMicrosPerHour != testPriceMicro/2 {
		t.Errorf("what ran already pays %d, %v", row.RateMicrosPerHour, err)
	}
	prices, err := queries.PresentPrices(t.Context(), w.App, other.TenantID, []id.SKU{testSKU}, "usd", w.now)
	if err != nil || prices[testSKU].RateMicrosPerHour != testPriceMicro*2 {
		t.Errorf("the other tenant sees %+v, %v", prices, err)
	}
}

// A list price cannot be withdrawn, and a withdrawal is no price: the database says so.
func TestAWithdrawalIsATenantsAndCostsNothing(t *testing.T) {
	w := newWorld(t, 0)
	own := w.tenant("ada", 0)
	for name, values := range map[string][]any{
		"a withdrawn list price": {newID[id.Price](), nil, 0},
		"a withdrawal at a rate": {newID[id.Price](), own.TenantID, 5},
	} {
		_, err := w.Owner.Exec(t.Context(), `INSERT INTO sku_prices (id, tenant_id, sku_id, currency, rate_micros_per_hour, valid_from, withdrawn)
			VALUES ($1, $2, 'h100-8x', 'usd', $3, now(), true)`, values...)
		if err == nil {
			t.Errorf("%s was written", name)
		}
	}
}
