package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var operationMethods = []string{"get", "put", "post", "patch", "delete"}

// operation is one operation of the contract on its way into the bundle.
type operation struct {
	method, path, id string
	node             *yaml.Node
	// parameters are the operation's own, with references followed.
	parameters []*yaml.Node
}

// bundleOpenAPI merges the authored files, adds to every operation what holds for all of them, and holds every example
// against its schema. It names everything that is missing at once.
func bundleOpenAPI(root string) error {
	contract, err := merge(filepath.Join(root, "schema/openapi"))
	if err != nil {
		return err
	}
	catalogue, err := readErrors(root)
	if err != nil {
		return err
	}
	if err := contract.complete(catalogue); err != nil {
		return err
	}
	return contract.write(filepath.Join(root, "schema/openapi.yaml"))
}

// complete turns the merged contract into the one that is published.
func (d document) complete(catalogue errorCatalogue) error {
	operations, err := d.operations()
	if err != nil {
		return err
	}
	var mistakes []error
	for _, o := range operations {
		for _, mistake := range append(d.checkHabits(o, catalogue), d.addExamples(o)...) {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", o, mistake))
		}
	}
	if len(mistakes) > 0 {
		return errors.Join(mistakes...)
	}
	d.addRefusals(operations, catalogue)
	return d.checkExamples()
}

func (d document) operations() ([]operation, error) {
	var found []operation
	seen := map[string]bool{}
	err := each(child(d.root, "paths"), func(path string, item *yaml.Node) error {
		return each(item, func(method string, node *yaml.Node) error {
			if !slices.Contains(operationMethods, method) {
				return fmt.Errorf("%s: %q is no method of this contract", path, method)
			}
			name := child(node, "operationId")
			if name == nil || seen[name.Value] {
				return fmt.Errorf("%s %s: an operation needs an operationId of its own", method, path)
			}
			seen[name.Value] = true
			o := operation{method: method, path: path, id: name.Value, node: node}
			if parameters := child(node, "parameters"); parameters != nil {
				for _, parameter := range parameters.Content {
					o.parameters = append(o.parameters, d.follow(parameter))
				}
			}
			found = append(found, o)
			return nil
		})
	})
	return found, err
}

// String names the operation as its author knows it.
func (o operation) String() string {
	return fmt.Sprintf("%s (%s %s)", o.id, strings.ToUpper(o.method), o.path)
}

// parameter is the operation's parameter of that name, nil when it takes none.
func (o operation) parameter(name string) *yaml.Node {
	for _, parameter := range o.parameters {
		if named := child(parameter, "name"); named != nil && named.Value == name {
			return parameter
		}
	}
	return nil
}

// natures says what the operation's refusals follow from.
func (o operation) natures() []nature {
	found := []nature{every}
	security := child(o.node, "security")
	if security == nil || len(security.Content) > 0 {
		found = append(found, signedIn)
	}
	if strings.HasPrefix(o.path, "/api/v1/admin/") {
		found = append(found, adminOnly)
	}
	if strings.Contains(o.path, "{") {
		found = append(found, pathParameter)
	}
	if o.method != "get" {
		found = append(found, mutation)
	}
	if child(o.node, "requestBody") != nil {
		found = append(found, hasBody)
	}
	if key := o.parameter("X-Idempotency-Key"); key != nil {
		found = append(found, idempotencyKey)
		if required := child(key, "required"); required != nil && required.Value == "true" {
			found = append(found, idempotencyKeyRequired)
		}
	}
	return found
}

// checkHabits says how an operation departs from what holds for all of them.
func (d document) checkHabits(o operation, catalogue errorCatalogue) []error {
	var mistakes []error
	// The payment provider's webhook is deduplicated by the event that it tells.
	if o.method != "get" && o.parameter("X-Idempotency-Key") == nil && o.parameter("Stripe-Signature") == nil {
		mistakes = append(mistakes, errors.New("a mutation takes X-Idempotency-Key"))
	}
	if summary := child(o.node, "summary"); summary == nil || summary.Value == "" {
		mistakes = append(mistakes, errors.New("it needs a summary"))
	}
	if child(o.node, "responses") == nil {
		mistakes = append(mistakes, errors.New("it needs responses"))
	}
	known := map[string]bool{}
	for _, entry := range catalogue.entries() {
		known[entry.Code] = true
	}
	if codes := child(o.node, "x-error-codes"); codes != nil {
		for _, code := range codes.Content {
			if !known[code.Value] {
				mistakes = append(mistakes, fmt.Errorf("the error code %s is not in schema/errors.yaml", code.Value))
			}
		}
	}
	return mistakes
}

func addHeader(response *yaml.Node, name string, header *yaml.Node) {
	if headers := child(response, "headers"); headers != nil {
		headers.Content = append(headers.Content, text(name), header)
		return
	}
	response.Content = append(response.Content, text("headers"), mapping(name, header))
}
