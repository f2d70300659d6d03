//go:build integration

package policy_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

// tenants makes two of them.
func tenants(t *testing.T, database *storetest.Database) (one, other id.Tenant) {
	t.Helper()
	one, other = id.New[id.Tenant]([16]byte{1}), id.New[id.Tenant]([16]byte{2})
	if _, err := database.Owner.Exec(t.Context(), "INSERT INTO tenants (id, kind, name) VALUES ($1, 'personal', 'one'), ($2, 'personal', 'other')", one, other); err != nil {
		t.Fatal(err)
	}
	return one, other
}

func ending(name string) policy.Change { return policy.Change{Name: name} }

func TestAnOverrideHoldsForItsTenantAlone(t *testing.T) {
	database := storetest.New(t)
	one, other := tenants(t, database)
	client := policy.New(database.App)
	limit := authored.AllocationMaxConcurrentPerUser
	read := func(tenant id.Tenant) int64 {
		t.Helper()
		values, err := client.ForTenant(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		return values.Int(limit)
	}
	if got := read(one); got != limit.Default {
		t.Errorf("before, the limit is %d", got)
	}
	set, err := client.SetForTenant(t.Context(), one, someone, to(limit.Name, "200"))
	if err != nil || len(set) != 1 || !set[0].Overridden || string(set[0].Value) != "200" || string(set[0].Platform) != "50" || set[0].Version != 1 {
		t.Fatalf("%+v, %v", set, err)
	}
	if mine, theirs := read(one), read(other); mine != 200 || theirs != 50 {
		t.Errorf("the limits are %d and %d", mine, theirs)
	}
	if got, err := client.Int(t.Context(), limit); err != nil || got != 50 {
		t.Errorf("the platform's limit is %d, %v", got, err)
	}
	if versions, err := client.TenantHistory(t.Context(), other, limit.Name, math.MaxInt64, 9); err != nil || len(versions) != 0 {
		t.Errorf("the other tenant's history is %v, %v", versions, err)
	}
	if listed, err := client.Overrides(t.Context(), other); err != nil || len(listed) < 10 {
		t.Errorf("%d may be set, %v", len(listed), err)
	} else {
		for _, one := range listed {
			if one.Overridden || one.Version != 0 || one.Reason != "" {
				t.Errorf("the other tenant's %s shows %+v", one.Info.Name, one)
			}
		}
	}
	cleared, err := client.SetForTenant(t.Context(), one, someone, ending(limit.Name))
	if err != nil || cleared[0].Overridden || string(cleared[0].Value) != "50" || cleared[0].Version != 2 {
		t.Errorf("ending it answers %+v, %v", cleared, err)
	}
	if got := read(one); got != 50 {
		t.Errorf("afterwards the limit is %d", got)
	}
	versions, err := client.TenantHistory(t.Context(), one, limit.Name, math.MaxInt64, 9)
	if err != nil || len(versions) != 2 || versions[0].Value != nil || string(versions[1].Value) != "200" {
		t.Errorf("the history is %v, %v", versions, err)
	}
	var rows int
	if err := database.Owner.QueryRow(t.Context(), `SELECT count(*) FROM audit_logs WHERE tenant_id = $1 AND target_type = 'tenant' AND target_id = $1
		AND action IN ('policy.set_for_tenant', 'policy.clear_for_tenant') AND details->>'reason' = 'why'`, one).Scan(&rows); err != nil || rows != 2 {
		t.Errorf("%d audit rows, %v", rows, err)
	}
}

func TestAnOverrideIsJudgedBesideWhatHoldsForItsTenant(t *testing.T) {
	database := storetest.New(t)
	one, other := tenants(t, database)
	client := policy.New(database.App)
	low, high := "billing.minimum_deposit_minor", "billing.maximum_deposit_minor"
	version := int64(7)
	for name, refused := range map[string]struct {
		changes []policy.Change
		want    fault.Code
	}{
		"a key of the platform": {[]policy.Change{to("billing.window_seconds", "30")}, fault.PolicyNotPerTenant},
		"no key":                {[]policy.Change{to("no.such_key", "30")}, fault.PolicyNotFound},
		"out of range":          {[]policy.Change{to(low, "1")}, fault.PolicyValueInvalid},
		"above the platform's":  {[]policy.Change{to(low, "200000")}, fault.PolicyCombinationRefused},
		"another version":       {[]policy.Change{{Name: low, Value: json.RawMessage("60"), ExpectedVersion: &version}}, fault.PolicyVersionConflict},
		"named twice":           {[]policy.Change{to(low, "60"), ending(low)}, fault.ValidationError},
		"one of two":            {[]policy.Change{to(high, "300000"), to(low, "1")}, fault.PolicyValueInvalid},
	} {
		if _, err := client.SetForTenant(t.Context(), one, someone, refused.changes...); !errors.Is(err, refused.want) {
			t.Errorf("%s answers %v", name, err)
		}
	}
	if set, err := client.SetForTenant(t.Context(), one, someone, to(low, "200000"), to(high, "300000")); err != nil || len(set) != 2 {
		t.Fatalf("both answer %v, %v", set, err)
	}
	// Ending one of a pair alone would leave what does not go together.
	if _, err := client.SetForTenant(t.Context(), one, someone, ending(high)); !errors.Is(err, fault.PolicyCombinationRefused) {
		t.Errorf("ending the maximum alone answers %v", err)
	}
	if _, err := client.SetForTenant(t.Context(), other, someone, to(high, "2000")); err != nil {
		t.Fatal(err)
	}
	// The platform moves on, and what no longer goes together is not in force, nor in anybody's way.
	if _, err := client.Set(t.Context(), someone, to(low, "5000")); err != nil {
		t.Fatal(err)
	}
	values, err := policy.ReadForTenant(t.Context(), database.App, other)
	if err != nil || values.Int(authored.BillingMaximumDepositMinor) != 100_000 || values.Check() != nil {
		t.Errorf("the other tenant's maximum is %d, %v, %v", values.Int(authored.BillingMaximumDepositMinor), values.Check(), err)
	}
	overrides, err := client.Overrides(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range overrides {
		if one.Info.Name == high && (one.Overridden || string(one.Unfit) != "2000") {
			t.Errorf("it shows %+v", one)
		}
	}
	if _, err := client.SetForTenant(t.Context(), other, someone, to(high, "6000")); err != nil {
		t.Errorf("it cannot be replaced: %v", err)
	}
}

func TestARepeatedOverrideIsOne(t *testing.T) {
	database := storetest.New(t)
	one, _ := tenants(t, database)
	client := policy.New(database.App)
	order := someone
	order.RequestID = "request-1"
	for range 2 {
		set, err := client.SetForTenant(t.Context(), one, order, to("billing.runway_seconds", "5"))
		if err != nil || len(set) != 1 || set[0].Version != 1 {
			t.Errorf("%+v, %v", set, err)
		}
	}
}
