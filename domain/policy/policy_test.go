package policy_test

import (
	"errors"
	"testing"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/policy"
)

func TestEveryDefaultIsValidAndTogetherTheyAreAccepted(t *testing.T) {
	seen := map[string]bool{}
	for _, key := range policy.All() {
		info := key.Info()
		if seen[info.Name] {
			t.Errorf("%s stands twice", info.Name)
		}
		seen[info.Name] = true
		if err := key.Check(info.Default); err != nil {
			t.Errorf("the default of %s: %v", info.Name, err)
		}
		value, err := key.ToJSON(info.Default)
		if err != nil {
			t.Errorf("the default of %s as JSON: %v", info.Name, err)
		}
		if text, err := key.FromJSON(value); err != nil || text != info.Default {
			t.Errorf("%s: %q came back as %q (%v)", info.Name, info.Default, text, err)
		}
	}
	if err := policy.CheckTogether(nil); err != nil {
		t.Errorf("the defaults together: %v", err)
	}
}

func TestFromJSON(t *testing.T) {
	for _, test := range []struct {
		key   policy.Key
		value string
		want  string
	}{
		{policy.BillingWindowSeconds, `2`, "2"},
		{policy.BillingWindowSeconds, ` 3600 `, "3600"},
		{policy.BillingWindowSeconds, `0`, ""},
		{policy.BillingWindowSeconds, `3601`, ""},
		{policy.BillingWindowSeconds, `-1`, ""},
		{policy.BillingWindowSeconds, `60.0`, ""},
		{policy.BillingWindowSeconds, `6e1`, ""},
		{policy.BillingWindowSeconds, `"60"`, ""},
		{policy.BillingWindowSeconds, `null`, ""},
		{policy.BillingWindowSeconds, `true`, ""},
		{policy.BillingWindowSeconds, `99999999999999999999`, ""},
		{policy.MAASEnabled, `true`, "true"},
		{policy.MAASEnabled, `"true"`, ""},
		{policy.MAASEnabled, `1`, ""},
		{policy.ProvisioningRuntimeMode, `"noop"`, "noop"},
		{policy.ProvisioningRuntimeMode, `"Noop"`, ""},
		{policy.ProvisioningRuntimeMode, `noop`, ""},
		{policy.ProvisioningRuntimeMode, `null`, ""},
	} {
		text, err := test.key.FromJSON([]byte(test.value))
		switch {
		case test.want == "" && !errors.Is(err, fault.PolicyValueInvalid):
			t.Errorf("%s accepted %s (%v)", test.key.Info().Name, test.value, err)
		case test.want != "" && (err != nil || text != test.want):
			t.Errorf("%s turned %s into %q (%v)", test.key.Info().Name, test.value, text, err)
		}
	}
}

func TestFind(t *testing.T) {
	key, err := policy.Find("maas.enabled")
	if err != nil || key.Info().Type != policy.TypeBool {
		t.Errorf("maas.enabled: %+v, %v", key, err)
	}
	if _, err := policy.Find("no.such_key"); !errors.Is(err, fault.PolicyNotFound) {
		t.Errorf("an unknown key answers %v", err)
	}
}

func TestCheckTogether(t *testing.T) {
	for name, test := range map[string]struct {
		values  map[string]string
		refused bool
	}{
		"re-image without MAAS":           {map[string]string{"allocation.isolation_model": "full-reimage"}, true},
		"re-image with MAAS off":          {map[string]string{"allocation.isolation_model": "full-reimage", "maas.enabled": "false"}, true},
		"re-image with MAAS":              {map[string]string{"allocation.isolation_model": "full-reimage", "maas.enabled": "true"}, false},
		"MAAS alone":                      {map[string]string{"maas.enabled": "true"}, false},
		"minimum above maximum":           {map[string]string{"billing.minimum_deposit_minor": "100001"}, true},
		"minimum equal to maximum":        {map[string]string{"billing.minimum_deposit_minor": "100000"}, false},
		"heartbeat slower than offline":   {map[string]string{"node.heartbeat_interval_seconds": "21"}, true},
		"both moved together":             {map[string]string{"node.heartbeat_interval_seconds": "21", "node.offline_after_seconds": "60"}, false},
		"a value that is no whole number": {map[string]string{"node.offline_after_seconds": "soon"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := policy.CheckTogether(test.values); (err != nil) != test.refused {
				t.Errorf("CheckTogether(%v) = %v", test.values, err)
			}
		})
	}
}
