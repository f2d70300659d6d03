package api_test

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/schema"
)

// The authored contract and what is served are the same, operation by operation, in both directions. Descriptions and
// examples are the contract's alone and are not compared.
func TestServedAPIIsTheContract(t *testing.T) {
	text, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	served, promised := parseContract(t, text), parseContract(t, schema.OpenAPI)
	servedOperations, promisedOperations := served.operations(), promised.operations()
	if len(promisedOperations) < 30 {
		t.Fatalf("the contract promises only %d operations", len(promisedOperations))
	}
	for _, name := range union(servedOperations, promisedOperations) {
		t.Run(name, func(t *testing.T) {
			is, isServed := servedOperations[name]
			must, isPromised := promisedOperations[name]
			switch {
			case !isServed:
				t.Error("the contract promises it and nobody serves it")
			case !isPromised:
				t.Error("it is served and the contract does not promise it")
			default:
				withoutOwnRefusals(is, must)
				for _, difference := range differences("", is, must) {
					t.Error(difference)
				}
			}
		})
	}
}

// The comparison itself is tested: a contract that differs in one thing is noticed, whatever the thing is.
func TestTheComparisonNoticesEachKindOfChange(t *testing.T) {
	for name, change := range map[string][2]string{
		"another operation":        {"operationId: releaseAllocation", "operationId: endAllocation"},
		"another path":             {"/api/v1/billing/balance:", "/api/v1/billing/funds:"},
		"another status":           {`"202":`, `"200":`},
		"another refusal":          {`"429":`, `"430":`},
		"a refusal's own shape":    {`$ref: "#/components/responses/UpstreamError"`, `description: nothing`},
		"another property":         {"accrued_micros:", "accrued_minor:"},
		"another pattern":          {"^alloc_[a-z2-7]{26}$", "^alloc_.*$"},
		"another bound":            {"maximum: 200", "maximum: 100"},
		"another enum":             {"enum: [workflow, database]", "enum: [workflow]"},
		"an optional key":          {"required: true\n      description: Makes the request safe to repeat", "required: false\n      description: Makes the request safe to repeat"},
		"another type":             {"reached:\n          type: boolean", "reached:\n          type: string"},
		"extra properties allowed": {"additionalProperties: false", "additionalProperties: true"},
	} {
		changed := strings.Replace(string(schema.OpenAPI), change[0], change[1], 1)
		if changed == string(schema.OpenAPI) {
			t.Errorf("%s: the contract does not hold %q", name, change[0])
			continue
		}
		before, after := parseContract(t, schema.OpenAPI).operations(), parseContract(t, []byte(changed)).operations()
		found := 0
		for _, operation := range union(before, after) {
			found += len(differences("", visible(after[operation]), visible(before[operation])))
		}
		if found == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
}

type contract struct{ root map[string]any }

func parseContract(t *testing.T, text []byte) contract {
	t.Helper()
	var root map[string]any
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	return contract{root: root}
}

// visible is an operation as the comparison takes it, nil when there is none.
func visible(operation map[string]any) any {
	if operation == nil {
		return nil
	}
	return operation
}

// withoutOwnRefusals leaves out of the promise what only an operation's handler knows of: the statuses of its own
// x-error-codes that nothing else on the way answers. That a handler answers no others, the exchanges of the integration
// tests show.
func withoutOwnRefusals(is, must map[string]any) {
	for _, code := range must["own refusals"].([]string) {
		answer := fmt.Sprintf("answer %d", fault.Code(code).HTTPStatus())
		if _, served := is[answer]; !served {
			delete(must, answer)
		}
	}
	delete(must, "own refusals")
	delete(is, "own refusals")
}

// operations lists what a caller can see of each operation, by "METHOD /path".
func (c contract) operations() map[string]map[string]any {
	found := map[string]map[string]any{}
	for path, item := range section(c.root, "paths") {
		for method, operation := range item.(map[string]any) {
			found[strings.ToUpper(method)+" "+path] = c.visible(operation.(map[string]any))
		}
	}
	return found
}

func (c contract) visible(operation map[string]any) map[string]any {
	seen := map[string]any{"operationId": operation["operationId"]}
	security, own := operation["security"].([]any)
	if !own {
		security, _ = c.root["security"].([]any)
	}
	seen["public"] = len(security) == 0
	parameters, _ := operation["parameters"].([]any)
	for _, one := range parameters {
		parameter := c.resolve(one)
		required, _ := parameter["required"].(bool)
		seen[fmt.Sprintf("parameter %v %v", parameter["in"], parameter["name"])] = map[string]any{
			"required": required, "schema": c.shape(parameter["schema"], nil),
		}
	}
	if body := c.resolve(operation["requestBody"]); body != nil {
		required, _ := body["required"].(bool)
		seen["body"] = map[string]any{"required": required, "content": c.content(body)}
	}
	seen["own refusals"] = words(operation["x-error-codes"])
	for status, one := range section(operation, "responses") {
		response := c.resolve(one)
		headers := slices.Sorted(maps.Keys(section(response, "headers")))
		seen["answer "+status] = map[string]any{"content": c.content(response), "headers": strings.Join(headers, ", ")}
	}
	return seen
}

func (c contract) content(holder map[string]any) map[string]any {
	shapes := map[string]any{}
	for kind, media := range section(holder, "content") {
		shapes[kind] = c.shape(media.(map[string]any)["schema"], nil)
	}
	return shapes
}

// shape is a schema without references, names and prose. within holds the references on the way here, so that a schema
// that holds itself ends.
func (c contract) shape(value any, within []string) any {
	described, isSchema := value.(map[string]any)
	if !isSchema {
		return value
	}
	if reference, isReference := described["$ref"].(string); isReference {
		if slices.Contains(within, reference) {
			return reference
		}
		// Beside a reference stand only the default of a parameter.
		shape := c.shape(c.follow(reference), append(slices.Clone(within), reference))
		if otherwise, set := described["default"]; set {
			shape.(map[string]any)["default"] = otherwise
		}
		return shape
	}
	if narrowed, isRefusal := described["allOf"].([]any); isRefusal {
		// The envelope, narrowed to the codes of one status: what is served names the envelope.
		return c.shape(narrowed[0], within)
	}
	shape := map[string]any{}
	for keyword, held := range described {
		switch keyword {
		case "description", "example", "examples", "title", "$schema", "readOnly":
		case "required":
			shape[keyword] = sortedWords(held)
		case "enum":
			shape[keyword] = sortedWords(held)
		case "properties":
			properties := map[string]any{}
			for name, property := range held.(map[string]any) {
				properties[name] = c.shape(property, within)
			}
			shape[keyword] = properties
		case "items", "additionalProperties":
			shape[keyword] = c.shape(held, within)
		default:
			shape[keyword] = number(held)
		}
	}
	return shape
}

func (c contract) resolve(value any) map[string]any {
	holder, _ := value.(map[string]any)
	if reference, isReference := holder["$ref"].(string); isReference {
		return c.follow(reference)
	}
	return holder
}

func (c contract) follow(reference string) map[string]any {
	held := c.root
	for _, part := range strings.Split(strings.TrimPrefix(reference, "#/"), "/") {
		held = section(held, part)
	}
	return held
}

func section(holder map[string]any, name string) map[string]any {
	held, _ := holder[name].(map[string]any)
	return held
}

func words(value any) []string {
	var found []string
	list, _ := value.([]any)
	for _, word := range list {
		found = append(found, fmt.Sprint(word))
	}
	slices.Sort(found)
	return found
}

func sortedWords(value any) string { return strings.Join(words(value), ", ") }

// number makes one type of all numbers, so that 1 and 1.0 are the same.
func number(value any) any {
	switch n := value.(type) {
	case int:
		return float64(n)
	case int64:
		return float64(n)
	case uint64:
		return float64(n)
	default:
		return value
	}
}

// differences lists where is and must part, each with the way to it.
func differences(at string, is, must any) []string {
	left, leftHolds := is.(map[string]any)
	right, rightHolds := must.(map[string]any)
	if !leftHolds || !rightHolds {
		if reflect.DeepEqual(is, must) {
			return nil
		}
		return []string{fmt.Sprintf("%s: served %v, promised %v", at, is, must)}
	}
	var found []string
	for _, name := range union(left, right) {
		found = append(found, differences(at+"/"+name, left[name], right[name])...)
	}
	return found
}

func union[V any](left, right map[string]V) []string {
	names := slices.Collect(maps.Keys(left))
	names = slices.AppendSeq(names, maps.Keys(right))
	slices.Sort(names)
	return slices.Compact(names)
}

// An example that is an id is one that the platform could have made: whoever copies it into a request asks for an object.
func TestEveryExampleIDCouldBeSomebodys(t *testing.T) {
	looksLikeID := regexp.MustCompile(`\b[a-z]+_([a-z2-7]{26})\b`)
	found := looksLikeID.FindAllStringSubmatch(string(schema.OpenAPI), -1)
	if len(found) < 50 {
		t.Fatalf("the contract has only %d example ids", len(found))
	}
	for _, example := range found {
		if _, err := id.Parse[id.User]("user_" + example[1]); err != nil {
			t.Errorf("%s: %v", example[0], err)
		}
	}
}
