package contracttest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func section(holder map[string]any, name string) map[string]any {
	held, _ := holder[name].(map[string]any)
	return held
}

// escape makes a name a part of a JSON pointer within a URL.
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "%", "%25", "{", "%7B", "}", "%7D").Replace(name)
}

// follow is the node that a node refers to, with its pointer, or the node itself.
func (c *Contract) follow(pointer string, node map[string]any) (string, map[string]any) {
	reference, refers := node["$ref"].(string)
	if !refers {
		return pointer, node
	}
	held := c.root
	for _, part := range strings.Split(strings.TrimPrefix(reference, "#/"), "/") {
		held = section(held, part)
	}
	return strings.TrimPrefix(reference, "#"), held
}

func (c *Contract) schemaAt(pointer string) (*jsonschema.Schema, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if compiled, known := c.compiled[pointer]; known {
		return compiled, nil
	}
	compiled, err := c.compiler.Compile(resource + "#" + pointer)
	if err == nil {
		c.compiled[pointer] = compiled
	}
	return compiled, err
}

// validate holds a JSON text against the schema at pointer.
func (c *Contract) validate(pointer string, text []byte, what string) []string {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return []string{fmt.Sprintf("%s is no JSON: %v", what, err)}
	}
	return c.validateValue(pointer, value, what)
}

// validateText holds the text of a parameter or a header against its schema, as the schema's type reads it.
func (c *Contract) validateText(pointer string, holder map[string]any, text, what string) []string {
	_, described := c.follow(pointer, section(holder, "schema"))
	var value any = text
	switch described["type"] {
	case "integer", "number":
		if number, err := strconv.ParseFloat(text, 64); err == nil {
			value = number
		}
	case "boolean":
		if truth, err := strconv.ParseBool(text); err == nil {
			value = truth
		}
	case "array":
		// form, not exploded: the only way in which this contract writes a list of words
		var words []any
		for _, word := range strings.Split(text, ",") {
			words = append(words, word)
		}
		value = words
	}
	return c.validateValue(pointer, value, what)
}

func (c *Contract) validateValue(pointer string, value any, what string) []string {
	compiled, err := c.schemaAt(pointer)
	if err != nil {
		return []string{fmt.Sprintf("%s: the contract's schema at %s cannot be used: %v", what, pointer, err)}
	}
	if err := compiled.Validate(value); err != nil {
		return []string{fmt.Sprintf("%s does not fit the contract: %v", what, err)}
	}
	return nil
}
