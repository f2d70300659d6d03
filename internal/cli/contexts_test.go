package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// home is a directory of configuration with an environment of its own.
type home struct {
	path        string
	environment map[string]string
}

func newHome(t *testing.T) home {
	t.Helper()
	path := filepath.Join(t.TempDir(), "contexts.json")
	return home{path: path, environment: map[string]string{"GPUAAS_CONFIG": path, "GPUAAS_DATA": t.TempDir()}}
}

func (h home) run(t *testing.T, input string, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), Terminal{In: strings.NewReader(input), Out: &out, Err: &errs,
		Environment: func(key string) string { return h.environment[key] }}, arguments)
	return code, out.String(), errs.String()
}

func (h home) mustRun(t *testing.T, arguments ...string) string {
	t.Helper()
	code, stdout, stderr := h.run(t, "", arguments...)
	if code != ExitOK {
		t.Fatalf("%v ends with %d: %s", arguments, code, stderr)
	}
	return stdout
}

func (h home) kept(t *testing.T) configuration {
	t.Helper()
	var kept configuration
	text, err := os.ReadFile(h.path)
	if err != nil || json.Unmarshal(text, &kept) != nil {
		t.Fatalf("the contexts are not readable: %v\n%s", err, text)
	}
	return kept
}

// heard is a platform that remembers the token and the address of each request.
func heard(t *testing.T, body string) (*httptest.Server, *[]string) {
	t.Helper()
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Header.Get("Authorization")+" "+r.URL.RequestURI())
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server, &requests
}

const emptyList = `{"items":[]}`

func TestTheFormerLoginIsTheFirstContext(t *testing.T) {
	server, requests := heard(t, emptyList)
	h := newHome(t)
	former := `{"api_url":"` + server.URL + `","token":"former-token"}`
	if err := os.WriteFile(formerPath(h.path), []byte(former), 0o600); err != nil {
		t.Fatal(err)
	}
	h.mustRun(t, "alloc", "list")
	if len(*requests) != 1 || !strings.HasPrefix((*requests)[0], "Bearer former-token ") {
		t.Fatalf("asked %v", *requests)
	}
	h.mustRun(t, "context", "set", "other", "--server", "http://127.0.0.1:1")
	kept := h.kept(t)
	if kept.Current != firstContext || kept.Contexts[firstContext].Credentials.AccessToken != "former-token" || kept.Contexts[firstContext].APIURL != server.URL {
		t.Fatalf("kept is %+v", kept)
	}
	if info, err := os.Stat(h.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("others may read the contexts: %v %v", info.Mode(), err)
	}
}

func TestWhichContextIsInForce(t *testing.T) {
	server, requests := heard(t, emptyList)
	h := newHome(t)
	if err := write(h.path, configuration{Current: "a", Contexts: map[string]savedContext{
		"a": {APIURL: server.URL, Tenant: "tenant_a", Credentials: credentials{AccessToken: "token-a"}},
		"b": {APIURL: server.URL, Project: "project_b", Credentials: credentials{AccessToken: "token-b"}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		environment map[string]string
		flags       []string
		expected    []string
		code        int
	}{
		{"the current one", nil, nil, []string{"Bearer token-a ", "tenant_id=tenant_a"}, ExitOK},
		{"of the environment", map[string]string{"GPUAAS_CONTEXT": "b"}, nil, []string{"Bearer token-b ", "project_id=project_b"}, ExitOK},
		{"of the flag", map[string]string{"GPUAAS_CONTEXT": "a"}, []string{"--context", "b"}, []string{"Bearer token-b ", "project_id=project_b"}, ExitOK},
		{"unknown", nil, []string{"--context", "c"}, nil, ExitUsage},
		{"a flag leaves the context's place out", nil, []string{"--project", "project_c"}, []string{"Bearer token-a ", "?project_id=project_c&limit=50"}, ExitOK},
		{"a token of the environment", map[string]string{"GPUAAS_TOKEN": "own", "GPUAAS_API_URL": server.URL}, nil, []string{"Bearer own ", "?limit=50"}, ExitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			*requests = nil
			in := home{path: h.path, environment: map[string]string{"GPUAAS_CONFIG": h.path}}
			for key, value := range c.environment {
				in.environment[key] = value
			}
			code, _, stderr := in.run(t, "", append([]string{"alloc", "list"}, c.flags...)...)
			if code != c.code || (c.code != ExitOK) != (len(*requests) == 0) {
				t.Fatalf("it ends with %d, asked %v: %s", code, *requests, stderr)
			}
			for _, part := range c.expected {
				if !strings.Contains((*requests)[0], part) {
					t.Errorf("%q is not in %q", part, (*requests)[0])
				}
			}
		})
	}
}

func TestAProgramWithoutAHomeIsACaller(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	server, requests := heard(t, emptyList)
	h := home{environment: map[string]string{"GPUAAS_TOKEN": "own", "GPUAAS_API_URL": server.URL}}
	h.mustRun(t, "alloc", "list")
	if len(*requests) != 1 || !strings.HasPrefix((*requests)[0], "Bearer own ") {
		t.Fatalf("asked %v", *requests)
	}
	delete(h.environment, "GPUAAS_TOKEN")
	if code, _, stderr := h.run(t, "", "alloc", "list"); code == ExitOK || !strings.Contains(stderr, "GPUAAS_CONFIG") {
		t.Errorf("it ends with %d: %s", code, stderr)
	}
}

func TestContextsAreMadeUsedShownAndForgotten(t *testing.T) {
	h := newHome(t)
	if code, _, stderr := h.run(t, "", "context", "show"); code != ExitUsage || !strings.Contains(stderr, "no context yet") {
		t.Fatalf("without one it ends with %d: %s", code, stderr)
	}
	h.mustRun(t, "context", "set", "work", "--server", "https://api.example/", "--issuer", "https://id.example", "--tenant", "tenant_a")
	h.mustRun(t, "context", "set", "home", "--server", "https://other.example")
	if shown := h.mustRun(t, "context", "show"); !strings.Contains(shown, "https://api.example\n") || !strings.Contains(shown, "tenant_a") {
		t.Fatalf("shown is %s", shown)
	}
	if code, _, _ := h.run(t, "", "context", "use", "nowhere"); code != ExitUsage {
		t.Errorf("an unknown context may be used: %d", code)
	}
	h.mustRun(t, "context", "use", "home")
	if listed := h.mustRun(t, "context", "list"); !strings.Contains(listed, "*        home") {
		t.Errorf("listed is\n%s", listed)
	}
	if code, _, stderr := h.run(t, "n\n", "context", "delete", "home"); code != ExitOther || !strings.Contains(stderr, "its login") {
		t.Errorf("a no ends with %d: %s", code, stderr)
	}
	h.mustRun(t, "context", "delete", "home", "--yes")
	if kept := h.kept(t); len(kept.Contexts) != 1 || kept.Current != "" {
		t.Errorf("kept is %+v", kept)
	}
}

func TestSecretsOfAContextAreNotShownAndEndWithItsServer(t *testing.T) {
	h := newHome(t)
	if err := write(h.path, configuration{Current: "a", Contexts: map[string]savedContext{
		"a": {APIURL: "https://api.example", Credentials: credentials{AccessToken: "secret-1", RefreshToken: "secret-2"}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, output := range outputs {
		for _, verb := range []string{"show", "list"} {
			if shown := h.mustRun(t, "context", verb, "-o", output); strings.Contains(shown, "secret-") || !strings.Contains(shown, "true") {
				t.Errorf("context %s -o %s shows %s", verb, output, shown)
			}
		}
	}
	h.mustRun(t, "context", "set", "a", "--tenant", "tenant_a")
	if kept := h.kept(t); kept.Contexts["a"].Credentials.AccessToken != "secret-1" {
		t.Error("another tenant ends the login")
	}
	h.mustRun(t, "context", "set", "a", "--server", "https://elsewhere.example")
	if kept := h.kept(t); kept.Contexts["a"].Credentials != (credentials{}) {
		t.Error("a token goes to another server than it was meant for")
	}
}

func TestABrokenFileOfContextsIsNamedAndKept(t *testing.T) {
	h := newHome(t)
	if err := os.WriteFile(h.path, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, arguments := range [][]string{{"context", "list"}, {"context", "set", "a"}, {"balance"}} {
		code, _, stderr := h.run(t, "", arguments...)
		if code == ExitOK || !strings.Contains(stderr, h.path) {
			t.Errorf("%v ends with %d: %s", arguments, code, stderr)
		}
	}
	if text, _ := os.ReadFile(h.path); string(text) != "{broken" {
		t.Errorf("the file became %s", text)
	}
}
