// Package asyncapitest holds events against what schema/asyncapi.yaml promises of them. Tests use it; it imports schema and a JSON Schema
// validator.
package asyncapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/schema"
)

// resource is the address of the contract within the validator.
const resource = "https://gpuaas.example/asyncapi.json"

// contract is the compiled contract: the schema of each event's envelope.
type contract struct {
	events map[string]*jsonschema.Schema
}

var load = sync.OnceValues(compile)

// Document is the contract as plain JSON values.
func Document() (map[string]any, error) {
	var document map[string]any
	if err := yaml.Unmarshal(schema.AsyncAPI, &document); err != nil {
		return nil, err
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	return value.(map[string]any), nil
}

func compile() (*contract, error) {
	document, err := Document()
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7) // AsyncAPI's schemas are a superset of it
	compiler.AssertFormat()
	if err := compiler.AddResource(resource, document); err != nil {
		return nil, err
	}
	c := &contract{events: map[string]*jsonschema.Schema{}}
	channels, _ := document["channels"].(map[string]any)
	for name, channel := range channels {
		reference, err := messageOf(channel)
		if err != nil {
			return nil, fmt.Errorf("the channel %s: %w", name, err)
		}
		if c.events[name], err = compiler.Compile(resource + reference + "/payload"); err != nil {
			return nil, fmt.Errorf("the channel %s: %w", name, err)
		}
	}
	return c, nil
}

func messageOf(channel any) (string, error) {
	held, _ := channel.(map[string]any)
	messages, _ := held["messages"].(map[string]any)
	message, _ := messages["event"].(map[string]any)
	reference, _ := message["$ref"].(string)
	if !strings.HasPrefix(reference, "#/components/messages/") {
		return "", fmt.Errorf("its message is %q, not one of components/messages", reference)
	}
	return reference, nil
}

// Mistakes says in what an event, the whole envelope as it is published, differs from the contract; nil when in nothing.
func Mistakes(subject string, envelope []byte) []string {
	c, err := load()
	if err != nil {
		return []string{"the contract of events cannot be used: " + err.Error()}
	}
	promised, known := c.events[subject]
	if !known {
		return []string{fmt.Sprintf("the contract knows no event %q", subject)}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(envelope))
	if err != nil {
		return []string{fmt.Sprintf("the event %s is no JSON: %v", subject, err)}
	}
	if err := promised.Validate(value); err != nil {
		return []string{fmt.Sprintf("the event %s does not fit the contract: %v", subject, err)}
	}
	return nil
}
