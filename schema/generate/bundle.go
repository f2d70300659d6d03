package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one contract in the making: authored files merged into one tree.
type document struct {
	directory string
	root      *yaml.Node
	// files says in which authored file a node stands, so that a mistake can be found.
	files map[*yaml.Node]string
}

// where is the place of an authored node, as editors and terminals understand it.
func (d document) where(node *yaml.Node) string {
	return fmt.Sprintf("%s:%d", filepath.ToSlash(d.files[node]), node.Line)
}

// note remembers the file of a node and of everything below it.
func (d document) note(node *yaml.Node, file string) {
	d.files[node] = file
	for _, below := range node.Content {
		d.note(below, file)
	}
}

// merge reads root.yaml and then every other file of the directory in alphabetical order, and refuses anything that
// stands twice.
func merge(directory string) (document, error) {
	root, err := readTree(filepath.Join(directory, "root.yaml"))
	if err != nil {
		return document{}, err
	}
	merged := document{directory: directory, root: root, files: map[*yaml.Node]string{}}
	merged.note(root, filepath.Join(directory, "root.yaml"))
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil {
		return document{}, err
	}
	slices.Sort(files)
	for _, file := range files {
		if filepath.Base(file) == "root.yaml" {
			continue
		}
		noun, err := readTree(file)
		if err != nil {
			return document{}, err
		}
		merged.note(noun, file)
		// Sections, and the kinds within components, hold named things; below them nothing is merged.
		if err := mergeInto(root, noun, 0, nil); err != nil {
			return document{}, fmt.Errorf("%s: %w", file, err)
		}
	}
	return merged, merged.collectReferences(merged.root, map[string]bool{})
}

func readTree(path string) (*yaml.Node, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(content, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(tree.Content) != 1 || tree.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: expected one mapping", path)
	}
	return tree.Content[0], nil
}

func mergeInto(target, source *yaml.Node, depth int, path []string) error {
	for i := 0; i < len(source.Content); i += 2 {
		name, value := source.Content[i], source.Content[i+1]
		standing := child(target, name.Value)
		here := append(slices.Clone(path), name.Value)
		if standing == nil {
			target.Content = append(target.Content, name, value)
			continue
		}
		mergeable := depth == 0 || (depth == 1 && path[0] == "components")
		if !mergeable || standing.Kind != yaml.MappingNode || value.Kind != yaml.MappingNode {
			return fmt.Errorf("%s stands twice", strings.Join(here, "."))
		}
		if err := mergeInto(standing, value, depth+1, here); err != nil {
			return err
		}
	}
	return nil
}

// child is the value of a mapping's key, nil when it has none.
func child(mapping *yaml.Node, name string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// each visits the pairs of a mapping; nothing for any other node.
func each(mapping *yaml.Node, visit func(name string, value *yaml.Node) error) error {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if err := visit(mapping.Content[i].Value, mapping.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// resolve follows a reference of the form #/a/b within the document, nil when it leads nowhere.
func (d document) resolve(reference string) *yaml.Node {
	path, local := strings.CutPrefix(reference, "#/")
	if !local {
		return nil
	}
	node := d.root
	for _, part := range strings.Split(path, "/") {
		node = child(node, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return node
}

// checkUse refuses a component that nothing refers to.
func (d document) checkUse() error {
	used := map[string]bool{}
	if err := d.collectReferences(d.root, used); err != nil {
		return err
	}
	return each(child(d.root, "components"), func(kind string, named *yaml.Node) error {
		if kind == "securitySchemes" || kind == "messages" || kind == "headers" {
			return nil
		}
		return each(named, func(name string, _ *yaml.Node) error {
			if reference := "#/components/" + kind + "/" + name; !used[reference] {
				return fmt.Errorf("%s: nothing refers to %s", d.directory, reference)
			}
			return nil
		})
	})
}

func (d document) collectReferences(node *yaml.Node, used map[string]bool) error {
	if reference := child(node, "$ref"); reference != nil && reference.Kind == yaml.ScalarNode {
		if d.resolve(reference.Value) == nil {
			return fmt.Errorf("%s: line %d: the reference %s leads nowhere", d.directory, reference.Line, reference.Value)
		}
		used[reference.Value] = true
	}
	for _, below := range node.Content {
		if err := d.collectReferences(below, used); err != nil {
			return err
		}
	}
	return nil
}

// write renders the bundle in block style under the notice that it is generated.
func (d document) write(path string) error {
	if err := d.checkUse(); err != nil {
		return err
	}
	blockStyle(d.root)
	var out bytes.Buffer
	fmt.Fprintf(&out, "# "+notice+"\n", filepath.ToSlash(d.directory)+"/")
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(d.root); err != nil {
		return err
	}
	return write(path, out.Bytes())
}

func blockStyle(node *yaml.Node) {
	node.HeadComment, node.LineComment, node.FootComment = "", "", ""
	if node.Kind == yaml.MappingNode || (node.Kind == yaml.SequenceNode && len(node.Content) > 0 && node.Content[0].Kind != yaml.ScalarNode) {
		node.Style &^= yaml.FlowStyle
	}
	for _, below := range node.Content {
		blockStyle(below)
	}
}

func reference(to string) *yaml.Node {
	return mapping("$ref", quoted(to))
}

func mapping(name string, value *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{text(name), value}}
}

func sequence(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items}
}

func text(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
}

// quoted is a text that would read as something else without quotes.
func quoted(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: value}
}
