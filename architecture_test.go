// Package gpuaas_test holds the house to its plan: who may import whom, and the habits that no compiler checks. It
// reads the sources and runs nothing, so it imports the standard library only.
package gpuaas_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gpuaas/gpuaas"

// source is one Go file of the repository, with the directory it lies in relative to the root.
type source struct {
	path, directory string
	file            *ast.File
	text            string
	test, generated bool
}

// rule says what the files of a room may import of this module and, where outside is set, of the outside world.
// The first rule whose room fits a directory counts.
type rule struct {
	room    string
	inside  []string
	outside []string
}

// standardLibraryOnly marks a room whose files import nothing from outside.
var standardLibraryOnly = []string{}

var rules = []rule{
	{room: "domain", inside: []string{"domain"}, outside: standardLibraryOnly},
	{room: "workflows", inside: []string{"domain", "workflows"}, outside: []string{"go.temporal.io/sdk", "go.temporal.io/api"}},
	{room: "activities", inside: []string{"workflows", "domain", "internal", "schema", "activities", "!internal/process", "!internal/cli"}},
	{room: "api", inside: []string{"workflows", "domain", "internal", "schema", "api", "!internal/process", "!internal/cli"}},
	{room: "agent", inside: []string{"domain", "agent"}},
	{room: "terminal", inside: []string{"domain", "terminal"}},
	{room: "schema", inside: []string{"domain", "schema"}},
	// Looks upward: it assembles programs.
	{room: "internal/process", inside: []string{"activities", "workflows", "api", "agent", "terminal", "internal", "schema", "domain", "!internal/cli"}},
	// The command line is a user of the API and of nothing else; a signed bundle it verifies offline, as anybody could.
	{room: "internal/cli", inside: []string{"client", "domain", "internal/cli", "internal/evidence"}},
	{room: "internal/temporal", inside: []string{"domain", "internal", "workflows", "!internal/process", "!internal/cli"}},
	{room: "internal", inside: []string{"domain", "schema", "internal", "!internal/process", "!internal/cli"}},
	{room: "cmd", inside: []string{"internal"}},
	{room: "client", inside: []string{"domain/fault", "client"}},
	// Drills and benchmarks of the promise look from outside; the ledger's benchmark measures its writer itself.
	{room: "bench/smoke", inside: []string{"bench"}},
	{room: "bench/drill", inside: []string{"bench"}},
	{room: "bench/platform", inside: []string{"bench"}, outside: standardLibraryOnly},
	{room: "bench/api", inside: []string{"api", "activities", "workflows", "internal", "schema", "domain", "bench"}},
	{room: "bench", inside: []string{"activities", "workflows", "internal", "schema", "domain", "bench", "client"}},
	{room: "scripts", inside: []string{"domain"}, outside: standardLibraryOnly},
	{room: "devstack", inside: []string{"devstack", "internal", "workflows", "schema", "domain", "agent", "activities"}},
	{room: "", inside: []string{}, outside: standardLibraryOnly},
}

func TestImportsFollowThePlan(t *testing.T) {
	checked := 0
	for _, s := range sources(t) {
		r := ruleOf(s.directory)
		for _, imported := range s.file.Imports {
			checked++
			name := strings.Trim(imported.Path.Value, `"`)
			if problem := r.refuses(name, s.test); problem != "" {
				t.Errorf("%s imports %s: %s", s.path, name, problem)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d imports were looked at: the sources were not found", checked)
	}
}

func ruleOf(directory string) rule {
	best := rules[len(rules)-1]
	for _, r := range rules {
		if within(directory, r.room) && len(r.room) > len(best.room) {
			best = r
		}
	}
	return best
}

// judges are rooms whose verdict would be worth nothing if their tests looked inside what they judge, and the innermost
// one, whose tests need nobody else.
var judges = []string{"bench/drill", "bench/smoke", "domain"}

// refuses answers why an import breaks the rule, or nothing. A test may bring in the real parts beside its room rather than
// imitate them, except in the rooms of judges.
func (r rule) refuses(name string, test bool) string {
	inside, own := strings.CutPrefix(name, module+"/")
	switch {
	case own && test && !slices.Contains(judges, r.room):
		return ""
	case own:
		return r.refusesInside(inside)
	case r.outside == nil || test || !strings.Contains(strings.Split(name, "/")[0], "."):
		return ""
	}
	for _, allowed := range r.outside {
		if within(name, allowed) {
			return ""
		}
	}
	return "this room imports from outside only " + strings.Join(append([]string{"the standard library"}, r.outside...), ", ")
}

func (r rule) refusesInside(name string) string {
	for _, barred := range r.inside {
		if prefix, isBar := strings.CutPrefix(barred, "!"); isBar && within(name, prefix) && !within(r.room, prefix) {
			return prefix + " is barred for " + r.room
		}
	}
	for _, allowed := range r.inside {
		if within(name, allowed) {
			return ""
		}
	}
	return "this room may look at " + strings.Join(r.inside, ", ") + " only"
}

func within(directory, room string) bool {
	return room == "" || directory == room || strings.HasPrefix(directory, room+"/")
}

// The rules themselves are tested, so that one that refuses nothing is noticed.
func TestTheRulesRefuseWhatTheyMust(t *testing.T) {
	for _, forbidden := range [][2]string{
		{"domain/billing", module + "/workflows"},
		{"domain/billing", "github.com/google/uuid"},
		{"workflows", module + "/activities"},
		{"workflows", "github.com/jackc/pgx/v5"},
		{"activities", module + "/api"},
		{"activities", module + "/internal/process"},
		{"api", module + "/activities"},
		{"api/nodeapi", module + "/agent"},
		{"agent/gateway", module + "/internal/store"},
		{"internal/store", module + "/activities"},
		{"internal/store", module + "/internal/process"},
		{"internal/cli", module + "/internal/store"},
		{"bench/drill", module + "/domain/billing"},
		{"bench/drill", module + "/schema/queries"},
		{"cmd/api", module + "/devstack/stack"},
	} {
		if ruleOf(forbidden[0]).refuses(forbidden[1], false) == "" {
			t.Errorf("%s may import %s", forbidden[0], forbidden[1])
		}
	}
	if ruleOf("bench/drill").refuses(module+"/domain/billing", true) == "" {
		t.Error("a test of the drill may import what the drill judges")
	}
	for _, fine := range [][2]string{
		{"domain/billing", module + "/domain/money"},
		{"workflows", "go.temporal.io/sdk/workflow"},
		{"activities", module + "/workflows"},
		{"internal/process", module + "/activities"},
		{"internal/cli", module + "/client/go"},
		{"cmd/api", module + "/internal/process"},
	} {
		if problem := ruleOf(fine[0]).refuses(fine[1], false); problem != "" {
			t.Errorf("%s must be able to import %s: %s", fine[0], fine[1], problem)
		}
	}
}

const longestFile = 500

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if lines := strings.Count(s.text, "\n"); !s.generated && lines > longestFile {
			t.Errorf("%s has %d lines, more than %d", s.path, lines, longestFile)
		}
	}
}

func TestNoNameSaysNothing(t *testing.T) {
	empty := []string{"utils", "util", "common", "helpers", "helper", "types", "misc", "shared"}
	for _, s := range sources(t) {
		for _, part := range append(strings.Split(s.directory, "/"), s.file.Name.Name, strings.TrimSuffix(path.Base(s.path), ".go")) {
			if slices.Contains(empty, part) {
				t.Errorf("%s: the name %q says nothing about what is in it", s.path, part)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	told := map[string]bool{}
	for _, s := range sources(t) {
		if s.test && told[s.directory] || strings.HasSuffix(s.file.Name.Name, "_test") && s.directory != "" {
			continue
		}
		told[s.directory] = told[s.directory] || s.file.Doc.Text() != ""
	}
	for directory, said := range told {
		if !said {
			t.Errorf("package %s has no package comment", directory)
		}
	}
}

// A test waits for something; it never just waits.
func TestNoTestSleeps(t *testing.T) {
	call := regexp.MustCompile(`\btime\.Sleep` + `\(`)
	for _, s := range sources(t) {
		if s.test && call.MatchString(s.text) {
			t.Errorf("%s sleeps: wait on a signal, a channel or a condition with a deadline", s.path)
		}
	}
}

func TestNothingIsLeftForLater(t *testing.T) {
	marker := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for _, s := range sources(t) {
		if !s.generated && marker.MatchString(s.text) {
			t.Errorf("%s leaves something for later: do it, or write it down as an issue", s.path)
		}
	}
}

var generatedNotice = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// sources parses every Go file of the repository, the nested modules' included.
func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "out" || base == "bin" || base == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(files, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		directory := path.Dir(filepath.ToSlash(name))
		if directory == "." {
			directory = ""
		}
		found = append(found, source{
			path: filepath.ToSlash(name), directory: directory, file: file, text: string(text),
			test: strings.HasSuffix(name, "_test.go"), generated: generatedNotice.Match(text),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
