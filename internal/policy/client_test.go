//go:build integration

package policy_test

import (
	"encoding/json"
	"testing"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

func TestAnUnsetKeyHasItsAuthoredDefault(t *testing.T) {
	client := policy.New(storetest.New(t).App)
	settings, err := client.List(t.Context())
	if err != nil || len(settings) != len(authored.All()) {
		t.Fatalf("%d settings, %v", len(settings), err)
	}
	for _, setting := range settings {
		if setting.Version != 0 {
			t.Errorf("%s has version %d", setting.Info.Name, setting.Version)
		}
	}
	if window, err := client.Int(t.Context(), authored.BillingWindowSeconds); err != nil || window != authored.BillingWindowSeconds.Default {
		t.Errorf("the window is %d, %v", window, err)
	}
}

func TestSet(t *testing.T) {
	zero, one := int64(0), int64(1)
	actor := identity.Actor{ID: "user_a", Role: identity.RoleAdmin}
	type change struct {
		name, value string
		expected    *int64
		want        fault.Code
	}
	cases := map[string][]change{
		"a value and its versions": {
			{"billing.window_seconds", "2", &zero, ""},
			{"billing.window_seconds", "3", &zero, fault.PolicyVersionConflict},
			{"billing.window_seconds", "3", &one, ""},
		},
		"values that do not fit": {
			{"billing.window_seconds", "0", nil, fault.PolicyValueInvalid},
			{"billing.window_seconds", `"2"`, nil, fault.PolicyValueInvalid},
			{"billing.window_seconds", "2.5", nil, fault.PolicyValueInvalid},
			{"maas.enabled", `"true"`, nil, fault.PolicyValueInvalid},
			{"allocation.isolation_model", `"hope"`, nil, fault.PolicyValueInvalid},
			{"no.such_key", "1", nil, fault.PolicyNotFound},
		},
		"full-reimage needs MAAS, and MAAS stays while it is used": {
			{"allocation.isolation_model", `"full-reimage"`, nil, fault.PolicyCombinationRefused},
			{"maas.enabled", "true", nil, ""},
			{"allocation.isolation_model", `"full-reimage"`, nil, ""},
			{"maas.enabled", "false", nil, fault.PolicyCombinationRefused},
		},
		"ordered pairs": {{"billing.minimum_deposit_minor", "200000", nil, fault.PolicyCombinationRefused}},
	}
	for name, changes := range cases {
		t.Run(name, func(t *testing.T) {
			database := storetest.New(t)
			client := policy.New(database.App)
			written := 0
			for _, change := range changes {
				set, err := client.Set(t.Context(), policy.Order{Actor: actor, Reason: "why", CorrelationID: "c"},
					policy.Change{Name: change.name, Value: json.RawMessage(change.value), ExpectedVersion: change.expected})
				if fault.CodeOf(err) != change.want {
					t.Errorf("%s = %s answers %v, not %q", change.name, change.value, err, change.want)
				}
				if change.want != "" {
					continue
				}
				written++
				got, err := client.Get(t.Context(), change.name)
				if err != nil || string(got.Value) != change.value || got.Version != set[0].Version {
					t.Errorf("%s reads %s at version %d, %v", change.name, got.Value, got.Version, err)
				}
			}
			var audits, versions int
			if err := database.Owner.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM audit_logs WHERE action = 'policy.set'), (SELECT count(*) FROM policy_values)").Scan(&audits, &versions); err != nil {
				t.Fatal(err)
			}
			if audits != written || versions != written {
				t.Errorf("%d changes left %d audit rows and %d versions", written, audits, versions)
			}
		})
	}
}

func TestWhoeverSetsAValueReadsIt(t *testing.T) {
	client := policy.New(storetest.New(t).App)
	if _, err := client.Int(t.Context(), authored.BillingWindowSeconds); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Set(t.Context(), policy.Order{Actor: identity.Platform()}, policy.Change{Name: "billing.window_seconds", Value: json.RawMessage("2")}); err != nil {
		t.Fatal(err)
	}
	if window, err := client.Int(t.Context(), authored.BillingWindowSeconds); err != nil || window != 2 {
		t.Errorf("after setting 2 the window reads %d, %v", window, err)
	}
}
