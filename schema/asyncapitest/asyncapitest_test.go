package asyncapitest_test

import (
	"bytes"
	_ "embed"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gpuaas/gpuaas/schema/asyncapitest"
)

//go:embed testdata/asyncapi-3.0.0.json
var specification []byte

const specificationID = "http://asyncapi.com/definitions/3.0.0/asyncapi.json"

func compileSpecification(t *testing.T) *jsonschema.Schema {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(specification))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(jsonschema.SchemeURLLoader{}) // nothing is fetched from anywhere
	if err := compiler.AddResource(specificationID, value); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(specificationID)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestTheContractIsAsyncAPI3(t *testing.T) {
	compiled := compileSpecification(t)
	document, err := asyncapitest.Document()
	if err != nil {
		t.Fatal(err)
	}
	if err := compiled.Validate(document); err != nil {
		t.Errorf("schema/asyncapi.yaml is not AsyncAPI 3.0.0: %v", err)
	}
	// What is not AsyncAPI is refused, or the test above would say nothing.
	for name, spoil := range map[string]func(map[string]any){
		"another version":  func(d map[string]any) { d["asyncapi"] = "4.0.0" },
		"no title":         func(d map[string]any) { delete(d["info"].(map[string]any), "title") },
		"an unknown field": func(d map[string]any) { d["chanels"] = map[string]any{} },
		"an operation's action": func(d map[string]any) {
			for _, operation := range d["operations"].(map[string]any) {
				operation.(map[string]any)["action"] = "shout"
			}
		},
	} {
		spoilt, err := asyncapitest.Document()
		if err != nil {
			t.Fatal(err)
		}
		spoil(spoilt)
		if compiled.Validate(spoilt) == nil {
			t.Errorf("%s: a document that is not AsyncAPI passes", name)
		}
	}
}

const adjusted = `{"event_id":"0c8a6c1e-5a0f-8f3b-9a51-3f6f2d1c7b10","event_type":"billing.balance_adjusted","occurred_at":"2026-01-05T09:30:00.000Z",
	"version":"1.0","correlation_id":"c","payload":{"adjustment_id":"adj","tenant_id":"t","account_id":"a","currency":"usd","amount_micros":1,
	"kind":"adjustment_credit","entry_ids":[1]}}`

func TestAnEventIsHeldAgainstItsOwnPromise(t *testing.T) {
	if mistakes := asyncapitest.Mistakes("billing.balance_adjusted", []byte(adjusted)); mistakes != nil {
		t.Fatalf("an event as promised has mistakes: %v", mistakes)
	}
	for name, test := range map[string]struct{ subject, old, new string }{
		"no such event":      {"billing.unheard_of", "", ""},
		"another's type":     {"billing.balance_adjusted", `"event_type":"billing.balance_adjusted"`, `"event_type":"billing.usage_recorded"`},
		"no UUID":            {"billing.balance_adjusted", "0c8a6c1e-", "x"},
		"no instant":         {"billing.balance_adjusted", "2026-01-05T09:30:00.000Z", "yesterday"},
		"another version":    {"billing.balance_adjusted", `"version":"1.0"`, `"version":"2.0"`},
		"money as a text":    {"billing.balance_adjusted", `"amount_micros":1`, `"amount_micros":"1"`},
		"a missing field":    {"billing.balance_adjusted", `"currency":"usd",`, ""},
		"an unknown variant": {"billing.balance_adjusted", "adjustment_credit", "gift"},
		"no JSON":            {"billing.balance_adjusted", `{"event_id"`, `"event_id"`},
	} {
		spoilt := strings.Replace(adjusted, test.old, test.new, 1)
		if asyncapitest.Mistakes(test.subject, []byte(spoilt)) == nil {
			t.Errorf("%s: an event that was not promised has no mistakes", name)
		}
	}
}
