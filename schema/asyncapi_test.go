package schema_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/schema"
)

// The events that the contract promises are exactly those that the code can name.
func TestAsyncAPINamesEveryEventAndNoOther(t *testing.T) {
	var contract struct {
		Channels map[string]struct {
			Address string `yaml:"address"`
		} `yaml:"channels"`
	}
	if err := yaml.Unmarshal(schema.AsyncAPI, &contract); err != nil {
		t.Fatal(err)
	}
	promised := slices.Sorted(maps.Keys(contract.Channels))
	named := eventConstants(t)
	if len(named) == 0 || !slices.Equal(promised, named) {
		t.Errorf("the contract promises %q and domain/event names %q", promised, named)
	}
	for _, name := range named {
		if !slices.Contains(event.All(), event.Type(name)) {
			t.Errorf("domain/event does not say who is told of %s", name)
		}
	}
	for name, channel := range contract.Channels {
		if channel.Address != name {
			t.Errorf("channel %s has the address %s", name, channel.Address)
		}
	}
}

func eventConstants(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../domain/event/event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, declaration := range file.Decls {
		group, isGroup := declaration.(*ast.GenDecl)
		if !isGroup || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			constant := spec.(*ast.ValueSpec)
			if kind, typed := constant.Type.(*ast.Ident); typed && kind.Name == "Type" {
				text, err := strconv.Unquote(constant.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, text)
			}
		}
	}
	slices.Sort(names)
	return names
}
