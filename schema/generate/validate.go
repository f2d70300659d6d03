package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// contractURL is the name under which the JSON Schema library knows the contract.
const contractURL = "openapi.yaml"

// checkExamples holds every example of the contract against the schema beside it, formats included: of parameters, of
// bodies, and of the schemas themselves.
func (d document) checkExamples() error {
	whole, err := plain(d.root)
	if err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource(contractURL, whole); err != nil {
		return err
	}
	return d.checkExamplesWithin(compiler, d.root, "")
}

func (d document) checkExamplesWithin(compiler *jsonschema.Compiler, node *yaml.Node, at string) error {
	var mistakes []error
	if node.Kind == yaml.MappingNode {
		mistakes = append(mistakes, d.checkExamplesOf(compiler, node, at)...)
		for i := 0; i < len(node.Content); i += 2 {
			name := node.Content[i].Value
			if name == "example" || name == "examples" {
				continue
			}
			mistakes = append(mistakes, d.checkExamplesWithin(compiler, node.Content[i+1], at+"/"+pointerEscape.Replace(name)))
		}
	}
	return errors.Join(mistakes...)
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1", "%", "%25", " ", "%20", "{", "%7B", "}", "%7D")

// checkExamplesOf checks the examples that a mapping holds: a parameter or a media type, whose schema stands beside them, or
// a schema.
func (d document) checkExamplesOf(compiler *jsonschema.Compiler, node *yaml.Node, at string) []error {
	beside, examples := at, map[string]*yaml.Node{}
	if child(node, "schema") != nil {
		beside = at + "/schema"
	}
	if one := child(node, "example"); one != nil {
		examples["example"] = one
	}
	if several := child(node, "examples"); child(node, "schema") != nil {
		_ = each(several, func(name string, example *yaml.Node) error {
			examples["example "+name] = child(d.follow(example), "value")
			return nil
		})
	}
	if len(examples) == 0 {
		return nil
	}
	schema, err := compiler.Compile(contractURL + "#" + beside)
	if err != nil {
		return []error{fmt.Errorf("%s is no schema: %w", beside, err)}
	}
	var mistakes []error
	for name, example := range examples {
		value, err := plain(example)
		if err == nil {
			err = schema.Validate(value)
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: %s does not fit its schema: %w", at, name, err))
		}
	}
	return mistakes
}

// plain is a YAML tree as the JSON Schema library reads it.
func plain(node *yaml.Node) (any, error) {
	if node == nil {
		return nil, errors.New("there is no value")
	}
	var value any
	if err := node.Decode(&value); err != nil {
		return nil, err
	}
	content, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(content))
}
