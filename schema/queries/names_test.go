package queries_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/schema/queries"
)

// A statement is called by its name, which no compiler checks: each name that is called has a statement, and each
// statement is called.
func TestEveryNameHasItsStatement(t *testing.T) {
	statements, called, said := queries.Statements(), map[string]bool{}, map[string]bool{}
	for _, file := range sources(t) {
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.BasicLit:
				said[text(node)] = true
			case *ast.CallExpr:
				for _, argument := range node.Args {
					if name := text(argument); isName(node, name) {
						called[name] = true
					}
				}
			}
			return true
		})
	}
	if len(called) < 50 {
		t.Fatalf("only %d names were found", len(called))
	}
	for name := range called {
		if _, known := statements[name]; !known {
			t.Errorf("no statement is named %s", name)
		}
	}
	for name := range statements {
		if !said[name] {
			t.Errorf("nothing calls the statement %s", name)
		}
	}
}

// text is what a string literal says; nothing for any other expression.
func text(expression ast.Expr) string {
	literal, is := expression.(*ast.BasicLit)
	if !is || literal.Kind != token.STRING {
		return ""
	}
	said, err := strconv.Unquote(literal.Value)
	if err != nil {
		return ""
	}
	return said
}

// isName tells the name of a statement, which follows the context and the database, from another literal.
func isName(call *ast.CallExpr, text string) bool {
	if text == "" {
		return false
	}
	if function, is := call.Fun.(*ast.Ident); is && (function.Name == "statement" || function.Name == "queue") {
		return true
	}
	first, is := call.Args[0].(*ast.Ident)
	return is && first.Name == "ctx" && len(call.Args) > 2 && strings.ToUpper(text[:1]) == text[:1]
}

func sources(t *testing.T) []*ast.File {
	t.Helper()
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
