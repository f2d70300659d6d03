package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// complete answers what a shell is offered for the last argument.
func complete(t *testing.T, c *contract, arguments ...string) []string {
	t.Helper()
	code, stdout, stderr, _ := c.run(t, "", append([]string{"__complete"}, arguments...)...)
	if code != ExitOK {
		t.Fatalf("completing %v ends with %d: %s", arguments, code, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	return lines[:len(lines)-1] // the last one is the directive
}

func TestShellsAreOfferedWhatFits(t *testing.T) {
	server := newContract(t)
	for _, c := range []struct {
		name      string
		arguments []string
		offered   string // how one of the offers begins
		refused   bool
	}{
		{"a noun", []string{"al"}, "alloc\t", false},
		{"a verb", []string{"alloc", "tim"}, "timeline\t", false},
		{"a flag", []string{"alloc", "list", "--wat"}, "--watch\t", false},
		{"an allocation", []string{"alloc", "get", ""}, "alloc_", false},
		{"an allocation of another beginning", []string{"alloc", "get", "node"}, "alloc_", true},
		{"a second allocation", []string{"alloc", "get", "alloc_a", ""}, "alloc_", true},
		{"a SKU", []string{"alloc", "create", "h1"}, "h100-8x\t", false},
		{"a project", []string{"project", "get", ""}, "proj_", false},
		{"a project of a flag", []string{"alloc", "list", "--project", ""}, "proj_", false},
		{"a tenant", []string{"member", "list", ""}, "tenant_", false},
		{"a member of the tenant in front", []string{"member", "remove", "tenant_a", ""}, "user_", false},
		{"a role", []string{"member", "set-role", "tenant_a", "user_a", "vi"}, "viewer", false},
		{"a node", []string{"node", "drain", ""}, "node_", false},
		{"a policy", []string{"policy", "get", "billing."}, "billing.", false},
		{"an output", []string{"balance", "-o", ""}, "yaml", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			offers := complete(t, server, c.arguments...)
			found := slices.ContainsFunc(offers, func(offer string) bool { return strings.HasPrefix(offer, c.offered) })
			if found == c.refused {
				t.Errorf("offered are %q", offers)
			}
		})
	}
}

func TestEveryArgumentThatCanBeLookedUpIs(t *testing.T) {
	free := []string{"AMOUNT", "VALUE", "VERSION", "NAME", "FILE", "HOSTNAME", "SECRET", "TOKEN", "ORGANISATION", "USERNAME", "SINCE", "URL", "DELIVERY", "CORRECTION"}
	check := func(path, use string) {
		for _, word := range strings.Fields(use)[1:] {
			name := strings.Split(strings.Trim(word, "[]…"), "|")[0]
			if _, known := nouns[name]; !known && !slices.Contains(free, name) {
				t.Errorf("%s takes %s, which is neither completed nor free", path, name)
			}
		}
	}
	root := newRoot(Terminal{Environment: func(string) string { return "" }})
	for _, path := range leaves(root) {
		found, _, err := root.Find(strings.Fields(path)[1:])
		if err != nil {
			t.Fatal(err)
		}
		check(path, found.Use)
	}
}

func TestWithoutALoginNothingLiveIsOfferedAndNothingGoesWrong(t *testing.T) {
	h := newHome(t)
	h.environment["GPUAAS_API_URL"] = "http://127.0.0.1:1"
	if code, stdout, stderr := h.run(t, "", "__complete", "sku", "get", ""); code != ExitOK || !strings.HasPrefix(stdout, ":4") {
		t.Fatalf("it ends with %d, stdout %q: %s", code, stdout, stderr)
	}
}

func TestBashCompletesAnAllocation(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	server := newContract(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, script, stderr, _ := server.run(t, "", "completion", shell)
		if code != ExitOK || !strings.Contains(script, "gpuaas") {
			t.Fatalf("completion %s ends with %d: %s", shell, code, stderr)
		}
		if err := os.WriteFile(filepath.Join(t.TempDir(), shell), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The script asks the program gpuaas: here the test itself, which the environment tells to be it.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	if err := os.Symlink(program, filepath.Join(directory, "gpuaas")); err != nil {
		t.Fatal(err)
	}
	_, script, _, _ := server.run(t, "", "completion", "bash")
	drive := script + `
COMP_WORDS=(gpuaas alloc get ""); COMP_CWORD=3; COMP_LINE="gpuaas alloc get "; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
_get_comp_words_by_ref() { cur=""; prev="get"; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
_init_completion() { _get_comp_words_by_ref; }
compopt() { :; }
__start_gpuaas
printf '%s\n' "${COMPREPLY[@]}"
`
	cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", drive)
	cmd.Env = append(os.Environ(), "PATH="+directory+":"+os.Getenv("PATH"), actsAsProgram+"=1", "GPUAAS_API_URL="+server.URL, "GPUAAS_TOKEN=t",
		"GPUAAS_CONFIG="+filepath.Join(directory, "contexts.json"))
	offered, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(offered), "alloc_") {
		t.Fatalf("bash is offered %q: %v", offered, err)
	}
}

// actsAsProgram lets the test binary be the program itself.
const actsAsProgram = "GPUAAS_TEST_ACTS_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(actsAsProgram) != "" {
		os.Exit(Main(context.Background(), Terminal{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environment: os.Getenv}, os.Args[1:]))
	}
	os.Exit(m.Run())
}
