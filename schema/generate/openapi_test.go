package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const testRoot = `
openapi: 3.1.0
info: {title: test, version: 1.0.0}
security: [{bearer: []}]
paths: {}
components:
  headers:
    CorrelationId: {required: true, schema: {type: string}}
    Challenge: {required: true, schema: {type: string}}
    RetryAfter: {required: true, schema: {type: integer}}
    IdempotencyReplayed: {schema: {type: string}}
  parameters:
    Key: {name: X-Idempotency-Key, in: header, required: true, schema: {type: string}, example: k1}
  schemas:
    Fault:
      type: object
      additionalProperties: false
      required: [code, message, correlation_id, details]
      properties: {code: {type: string}, message: {type: string}, correlation_id: {type: string}, details: {type: object}}
`

const testNoun = `
paths:
  /api/v1/admin/things/{thing}:
    put:
      operationId: putThing
      summary: Put a thing
      x-error-codes: [node_in_use]
      parameters:
        - {name: thing, in: path, required: true, schema: {type: string, pattern: "^thing_[a-z2-7]{26}$"}}
        - {$ref: "#/components/parameters/Key"}
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: "#/components/schemas/Thing"}}}
      responses:
        "200":
          description: The things.
          content: {application/json: {schema: {$ref: "#/components/schemas/ThingList"}}}
components:
  schemas:
    Thing:
      type: object
      additionalProperties: false
      required: [name, size_bytes, made_at]
      properties:
        name: {type: string, example: lamp}
        size_bytes: {type: integer, minimum: 1, example: 3}
        made_at: {type: string, format: date-time}
        colour: {type: string}
    ThingList:
      type: object
      required: [items]
      properties: {items: {type: array, items: {$ref: "#/components/schemas/Thing"}}, next_cursor: {type: string}}
`

// completed bundles the test's contract after a change of its noun.
func completed(t *testing.T, before, after string) (document, error) {
	t.Helper()
	directory := t.TempDir()
	noun := strings.Replace(testNoun, before, after, 1)
	if before != "" && noun == testNoun {
		t.Fatalf("the contract does not hold %q", before)
	}
	for name, content := range map[string]string{"root.yaml": testRoot, "things.yaml": noun} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	catalogue, err := readErrors("../..")
	if err != nil {
		t.Fatal(err)
	}
	contract, err := merge(directory)
	if err != nil {
		return contract, err
	}
	return contract, contract.complete(catalogue)
}

func TestAnOperationListsEveryRefusal(t *testing.T) {
	contract, err := completed(t, "", "")
	if err != nil {
		t.Fatal(err)
	}
	operations, err := contract.operations()
	if err != nil {
		t.Fatal(err)
	}
	for status, want := range map[string]string{
		"400": "invalid_request, idempotency_key_required, idempotency_key_invalid", "401": "token_missing, token_invalid, token_expired",
		"403": "token_scope_invalid, insufficient_permissions, admin_required, user_suspended, approval_pending, tenant_suspended, tenant_closed", "409": "idempotency_conflict, idempotency_in_flight, node_in_use",
		"415": "unsupported_media_type", "422": "validation_error", "429": "rate_limit_exceeded", "500": "internal_error",
	} {
		response := contract.follow(child(child(operations[0].node, "responses"), status))
		var codes []string
		narrowed := child(child(child(child(response, "content"), "application/json"), "schema"), "allOf")
		if narrowed == nil {
			t.Errorf("%s has no envelope", status)
			continue
		}
		for _, code := range child(child(child(narrowed.Content[1], "properties"), "code"), "enum").Content {
			codes = append(codes, code.Value)
		}
		if got := strings.Join(codes, ", "); got != want {
			t.Errorf("%s lists %s, not %s", status, got, want)
		}
	}
}

func TestExamplesArePutTogetherFromWhatStandsThere(t *testing.T) {
	contract, err := completed(t, "", "")
	if err != nil {
		t.Fatal(err)
	}
	operations, err := contract.operations()
	if err != nil {
		t.Fatal(err)
	}
	put := operations[0]
	for want, holder := range map[string]*yaml.Node{
		"thing_mfrggzdfmztwq2lknnwg23tpoa\n":                                                           put.parameters[0],
		"name: lamp\nsize_bytes: 3\nmade_at: \"2026-01-05T09:30:00.000Z\"\n":                           child(child(child(put.node, "requestBody"), "content"), "application/json"),
		"items:\n    - name: lamp\n      size_bytes: 3\n      made_at: \"2026-01-05T09:30:00.000Z\"\n": child(child(child(child(put.node, "responses"), "200"), "content"), "application/json"),
	} {
		got, err := yaml.Marshal(child(holder, "example"))
		if err != nil || string(got) != want {
			t.Errorf("the example is %q, not %q (%v)", got, want, err)
		}
	}
}

// Whatever an author forgets or gets wrong is refused with a message that leads to it.
func TestTheGeneratorSaysWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct{ before, after, want string }{
		"a property without an example":  {", example: lamp", "", "things.yaml:21: no example (needed by request → Thing): write one example: on this schema, or one beside the type of each of name"},
		"a parameter without one":        {`, pattern: "^thing_[a-z2-7]{26}$"`, "", "things.yaml:9: no example (needed by parameter thing): write example: beside the type"},
		"an example that does not fit":   {"example: 3", "example: 0", "at '/size_bytes': minimum: got 0, want 1"},
		"an example of another type":     {"example: lamp", "example: [lamp]", "at '/name': got array, want string"},
		"an unknown code":                {"node_in_use", "node_asleep", "the error code node_asleep is not in schema/errors.yaml"},
		"no summary":                     {"summary: Put a thing", "description: Put a thing", "it needs a summary"},
		"no key":                         {`        - {$ref: "#/components/parameters/Key"}` + "\n", "", "a mutation takes X-Idempotency-Key"},
		"no success":                     {`"200"`, `"404"`, "it has no answer that is a success"},
		"a reference that leads nowhere": {"#/components/schemas/ThingList", "#/components/schemas/Things", "leads nowhere"},
	} {
		if _, err := completed(t, test.before, test.after); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v does not say %q", name, err, test.want)
		}
	}
}
