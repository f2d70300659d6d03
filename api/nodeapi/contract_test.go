package nodeapi

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/node"
)

const contractFile = "../../schema/openapi/internal/nodes.yaml"

// The document, the gateway and the agent's client describe one wire: the same paths, the same fields with the same
// types, in both directions, and only codes of the catalogue.
func TestTheNodeFacingContractIsWhatIsServed(t *testing.T) {
	content, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	var contract map[string]any
	if err := yaml.Unmarshal(content, &contract); err != nil {
		t.Fatal(err)
	}
	bodies := map[string]struct{ request, response, agentRequest, agentResponse any }{
		pathEnrol:     {enrolRequest{}, enrolResponse{}, gateway.EnrolRequest{}, gateway.EnrolResponse{}},
		pathRenew:     {renewRequest{}, renewResponse{}, gateway.RenewRequest{}, gateway.RenewResponse{}},
		pathHeartbeat: {heartbeatRequest{}, heartbeatResponse{}, gateway.HeartbeatRequest{}, gateway.HeartbeatResponse{}},
		pathInventory: {node.Inventory{}, struct{}{}, node.Inventory{}, gateway.Nothing{}},
	}
	paths := contract["paths"].(map[string]any)
	served := slices.Sorted(maps.Keys(new(Server).operations()))
	if written := slices.Sorted(maps.Keys(paths)); !slices.Equal(written, served) {
		t.Fatalf("the document has %q and the gateway serves %q", written, served)
	}
	if client := []string{gateway.PathEnrol, gateway.PathHeartbeat, gateway.PathInventory, gateway.PathRenew}; !slices.Equal(client, served) {
		t.Fatalf("the agent's client calls %q and the gateway serves %q", client, served)
	}
	for path, types := range bodies {
		operation := at(paths, path, "post")
		request := at(operation, "requestBody", "content", "application/json", "schema")
		response := at(operation, "responses", "200", "content", "application/json", "schema")
		for what, pair := range map[string]struct {
			schema map[string]any
			kind   any
		}{
			path + " request":                        {request, types.request},
			path + " response":                       {response, types.response},
			path + " request of the agent's client":  {request, types.agentRequest},
			path + " response of the agent's client": {response, types.agentResponse},
		} {
			compareSchema(t, contract, what, pair.schema, reflect.TypeOf(pair.kind))
		}
		for _, code := range operation["x-error-codes"].([]any) {
			if _, known := fault.Lookup(fault.Code(code.(string))); !known {
				t.Errorf("%s names the code %q, which is not in the catalogue", path, code)
			}
		}
	}
}

func at(tree map[string]any, path ...string) map[string]any {
	for _, step := range path {
		tree, _ = tree[step].(map[string]any)
	}
	return tree
}

func compareSchema(t *testing.T, contract map[string]any, where string, schema map[string]any, kind reflect.Type) {
	t.Helper()
	if reference, is := schema["$ref"].(string); is {
		schema = at(contract, strings.Split(strings.TrimPrefix(reference, "#/"), "/")...)
	}
	want := "unknown"
	switch {
	case kind == reflect.TypeFor[time.Time](), kind.Kind() == reflect.String:
		want = "string"
	case kind.Kind() == reflect.Int, kind.Kind() == reflect.Int64:
		want = "integer"
	case kind.Kind() == reflect.Bool:
		want = "boolean"
	case kind.Kind() == reflect.Slice:
		want = "array"
	case kind.Kind() == reflect.Struct:
		want = "object"
	}
	if schema["type"] != want {
		t.Errorf("%s is %v in the document and %s in Go", where, schema["type"], want)
		return
	}
	switch want {
	case "array":
		items, _ := schema["items"].(map[string]any)
		compareSchema(t, contract, where+"[]", items, kind.Elem())
	case "object":
		properties, _ := schema["properties"].(map[string]any)
		fields := map[string]reflect.Type{}
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
			fields[name] = kind.Field(i).Type
		}
		if written, coded := slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(fields)); !slices.Equal(written, coded) {
			t.Errorf("%s has %q in the document and %q in Go", where, written, coded)
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s takes unknown fields in the document", where)
		}
		for name, field := range fields {
			compareSchema(t, contract, where+"."+name, properties[name].(map[string]any), field)
		}
	}
}
