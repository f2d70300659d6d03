package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"
)

var operationMethods = []string{"get", "put", "post", "patch", "delete"}

func bundleOpenAPI(root string) error {
	contract, err := merge(filepath.Join(root, "schema/openapi"))
	if err != nil {
		return err
	}
	known, err := knownCodes(root)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	err = each(child(contract.root, "paths"), func(path string, item *yaml.Node) error {
		return each(item, func(method string, operation *yaml.Node) error {
			if err := contract.applyHabits(method, operation, known, seen); err != nil {
				return fmt.Errorf("%s %s: %w", method, path, err)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return contract.write(filepath.Join(root, "schema/openapi.yaml"))
}

// applyHabits adds to an operation what holds for all of them, and refuses one that departs from the habits.
func (d document) applyHabits(method string, operation *yaml.Node, known, seen map[string]bool) error {
	if !slices.Contains(operationMethods, method) {
		return fmt.Errorf("%q is no method of this contract", method)
	}
	name := child(operation, "operationId")
	if name == nil || seen[name.Value] {
		return fmt.Errorf("an operation needs an operationId of its own")
	}
	seen[name.Value] = true
	if method != "get" && !d.takesIdempotencyKey(operation) {
		return fmt.Errorf("a mutation takes X-Idempotency-Key")
	}
	if codes := child(operation, "x-error-codes"); codes != nil {
		for _, code := range codes.Content {
			if !known[code.Value] {
				return fmt.Errorf("the error code %s is not in schema/errors.yaml", code.Value)
			}
		}
	}
	responses := child(operation, "responses")
	if responses == nil {
		return fmt.Errorf("an operation needs responses")
	}
	err := each(responses, func(_ string, response *yaml.Node) error {
		addHeader(response, "X-Correlation-Id", reference("#/components/headers/CorrelationId"))
		return nil
	})
	responses.Content = append(responses.Content, text("default"), reference("#/components/responses/Fault"))
	return err
}

func (d document) takesIdempotencyKey(operation *yaml.Node) bool {
	parameters := child(operation, "parameters")
	if parameters == nil {
		return false
	}
	for _, parameter := range parameters.Content {
		if to := child(parameter, "$ref"); to != nil {
			parameter = d.resolve(to.Value)
		}
		if name := child(parameter, "name"); name != nil && name.Value == "X-Idempotency-Key" {
			return true
		}
	}
	return false
}

func addHeader(response *yaml.Node, name string, header *yaml.Node) {
	if headers := child(response, "headers"); headers != nil {
		headers.Content = append(headers.Content, text(name), header)
		return
	}
	response.Content = append(response.Content, text("headers"), mapping(name, header))
}

func knownCodes(root string) (map[string]bool, error) {
	var catalogue errorCatalogue
	if err := readStrictly(filepath.Join(root, "schema/errors.yaml"), &catalogue); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, group := range catalogue.Groups {
		for _, entry := range group.Codes {
			known[entry.Code] = true
		}
	}
	return known, nil
}
