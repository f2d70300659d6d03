package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// addExamples gives an example to every parameter, to the request body and to each success of an operation: the one
// that stands there, or one put together from its schema. Where neither is possible it says what to write.
func (d document) addExamples(o operation) []error {
	var missing []error
	add := func(place string, holder *yaml.Node) {
		if child(holder, "example") != nil || child(holder, "examples") != nil {
			return
		}
		example, err := d.exampleOf(child(holder, "schema"), place, nil)
		if err != nil {
			missing = append(missing, err)
			return
		}
		holder.Content = append(holder.Content, text("example"), example)
	}
	for _, parameter := range o.parameters {
		if name := child(parameter, "name"); name != nil {
			add("parameter "+name.Value, parameter)
		}
	}
	_ = each(child(d.follow(child(o.node, "requestBody")), "content"), func(_ string, media *yaml.Node) error {
		add("request", media)
		return nil
	})
	successes := 0
	_ = each(child(o.node, "responses"), func(status string, response *yaml.Node) error {
		if strings.HasPrefix(status, "2") || strings.HasPrefix(status, "3") {
			successes++
		}
		return each(child(d.follow(response), "content"), func(_ string, media *yaml.Node) error {
			add("answer "+status, media)
			return nil
		})
	})
	if successes == 0 {
		missing = append(missing, errors.New("it has no answer that is a success"))
	}
	return missing
}

// follow is what a node refers to, or the node itself.
func (d document) follow(node *yaml.Node) *yaml.Node {
	if to := child(node, "$ref"); to != nil {
		return d.resolve(to.Value)
	}
	return node
}

// idPattern is how the contract writes the pattern of an id.
var idPattern = regexp.MustCompile(`^\^([a-z]+_)\[a-z2-7\]\{26\}\$$`)

const (
	exampleID     = "mfrggzdfmztwq2lknnwg23tpoa"
	exampleMoment = "2026-01-05T09:30:00.000Z"
)

// exampleOf puts an example together from a schema. place is the way to it, for whoever has to add what is missing; within
// holds the references on the way.
func (d document) exampleOf(schema *yaml.Node, place string, within []string) (*yaml.Node, error) {
	if schema == nil {
		return nil, fmt.Errorf("%s has no schema", place)
	}
	if standing := explicitExample(schema); standing != nil {
		return standing, nil
	}
	if to := child(schema, "$ref"); to != nil {
		if slices.Contains(within, to.Value) {
			return nil, fmt.Errorf("%s: %s holds itself: write example: on the schema", d.where(schema), place)
		}
		name := to.Value[strings.LastIndex(to.Value, "/")+1:]
		return d.exampleOf(d.resolve(to.Value), place+" → "+name, append(slices.Clone(within), to.Value))
	}
	if enum := child(schema, "enum"); enum != nil && len(enum.Content) > 0 {
		return enum.Content[0], nil
	}
	switch kind := child(schema, "type"); {
	case kind == nil:
	case kind.Value == "object":
		return d.exampleOfObject(schema, place, within)
	case kind.Value == "array":
		item, err := d.exampleOf(child(schema, "items"), place+"[]", within)
		if err != nil {
			return nil, err
		}
		return sequence(item), nil
	case kind.Value == "boolean":
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}, nil
	case kind.Value == "string":
		if format := child(schema, "format"); format != nil && format.Value == "date-time" {
			return quoted(exampleMoment), nil
		}
		if pattern := child(schema, "pattern"); pattern != nil {
			if id := idPattern.FindStringSubmatch(pattern.Value); id != nil {
				return text(id[1] + exampleID), nil
			}
		}
	}
	return nil, fmt.Errorf("%s: no example (needed by %s): write example: beside the type", d.where(schema), place)
}

// exampleOfObject takes the required properties, and of the others those that bring an example of their own.
func (d document) exampleOfObject(schema *yaml.Node, place string, within []string) (*yaml.Node, error) {
	required := map[string]bool{}
	if names := child(schema, "required"); names != nil {
		for _, name := range names.Content {
			required[name.Value] = true
		}
	}
	example := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	var missing []string
	var deeper []error
	_ = each(child(schema, "properties"), func(name string, property *yaml.Node) error {
		if !required[name] && explicitExample(property) == nil {
			return nil
		}
		value, err := d.exampleOf(property, place+"."+name, within)
		switch {
		case err == nil:
			example.Content = append(example.Content, text(name), value)
		case child(property, "$ref") != nil || child(property, "items") != nil || child(property, "properties") != nil:
			deeper = append(deeper, err)
		default:
			missing = append(missing, name)
		}
		return nil
	})
	if len(missing) > 0 {
		deeper = append(deeper, fmt.Errorf("%s: no example (needed by %s): write one example: on this schema, or one beside the type of each of %s",
			d.where(schema), place, strings.Join(missing, ", ")))
	}
	return example, errors.Join(deeper...)
}

// explicitExample is what an author wrote: an example, or a value that says as much.
func explicitExample(schema *yaml.Node) *yaml.Node {
	for _, keyword := range []string{"example", "default", "const"} {
		if standing := child(schema, keyword); standing != nil {
			return standing
		}
	}
	if several := child(schema, "examples"); several != nil && several.Kind == yaml.SequenceNode && len(several.Content) > 0 {
		return several.Content[0]
	}
	return nil
}
