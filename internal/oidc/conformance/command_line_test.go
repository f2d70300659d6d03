//go:build oidc

package conformance

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	client "github.com/gpuaas/gpuaas/client/go"
	commandline "github.com/gpuaas/gpuaas/internal/cli"
)

// door serves the one operation that the command line asks of the platform to sign in, behind the platform's own verifier.
func (u under) door(t *testing.T) string {
	t.Helper()
	judge := u.judge()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/me", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		claims, err := judge.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"code":"token_invalid","message":"It is not one that this platform accepts.","correlation_id":"","details":{}}`))
			return
		}
		_ = json.NewEncoder(w).Encode(client.Me{User: client.User{Username: claims.Username}, Roles: claims.Roles})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// shell is the command line of one person, with a file of contexts of its own.
type shell struct {
	t    *testing.T
	file string
}

func newShell(t *testing.T) shell {
	t.Helper()
	return shell{t, filepath.Join(t.TempDir(), "contexts.json")}
}

// run is one command: its exit code, and what it says on stdout and stderr. Each write to stderr is told to heard, where that is given.
func (s shell) run(heard chan<- string, arguments ...string) (code int, stdout, stderr string) {
	var out bytes.Buffer
	said := &listened{heard: heard}
	environment := map[string]string{"GPUAAS_CONFIG": s.file, "GPUAAS_DATA": filepath.Dir(s.file)}
	code = commandline.Main(s.t.Context(), commandline.Terminal{In: strings.NewReader(""), Out: &out, Err: said,
		Environment: func(key string) string { return environment[key] }}, arguments)
	return code, out.String(), said.text.String()
}

type listened struct {
	text  bytes.Buffer
	heard chan<- string
}

func (l *listened) Write(written []byte) (int, error) {
	if l.heard != nil {
		l.heard <- string(written)
	}
	return l.text.Write(written)
}

var printedAddress = regexp.MustCompile(`https?://\S+user_code=\S+`)

// signIn runs gpuaas login while somebody decides in a browser, by the button of that name.
func (s shell) signIn(u under, door string, who person, button string) (code int, stderr string) {
	s.t.Helper()
	// More than it ever writes, so that nobody has to listen to its end.
	heard := make(chan string, 64)
	type end struct {
		code   int
		stderr string
	}
	ended := make(chan end, 1)
	go func() {
		code, _, stderr := s.run(heard, "login", "--api-url", door, "--issuer", u.Issuer)
		ended <- end{code, stderr}
	}()
	for {
		select {
		case line := <-heard:
			if address := printedAddress.FindString(line); address != "" {
				device{PageFull: address}.decide(s.t, who, button)
				got := <-ended
				return got.code, got.stderr
			}
		case got := <-ended:
			s.t.Fatalf("the login ends with %d before it says where to decide: %s", got.code, got.stderr)
		}
	}
}

// kept are the tokens of the context, changed by change where that is given.
func (s shell) kept(change func(credentials map[string]any)) tokens {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		s.t.Fatal(err)
	}
	credentials := document["contexts"].(map[string]any)["default"].(map[string]any)["credentials"].(map[string]any)
	if change != nil {
		change(credentials)
		if text, err = json.Marshal(document); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(s.file, text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	access, _ := credentials["access_token"].(string)
	refresh, _ := credentials["refresh_token"].(string)
	return tokens{Access: access, Refresh: refresh}
}

func TestTheCommandLineIsConnectedByAPerson(t *testing.T) {
	t.Parallel()
	u, who := target(t), people[2]
	door, s := u.door(t), newShell(t)
	if code, stderr := s.signIn(u, door, who, "accept"); code != commandline.ExitOK || !strings.Contains(stderr, "signed in as "+who.name) {
		t.Fatalf("the login ends with %d: %s", code, stderr)
	}
	first := s.kept(nil)
	u.mustSay(t, first, cli, who)

	s.kept(func(credentials map[string]any) { credentials["expires"] = time.Now().Add(-time.Minute).UTC() })
	if code, stdout, stderr := s.run(nil, "whoami"); code != commandline.ExitOK || !strings.Contains(stdout, who.name) {
		t.Fatalf("after the token expired whoami ends with %d: %s%s", code, stdout, stderr)
	}
	renewed := s.kept(nil)
	u.mustSay(t, renewed, cli, who)
	if renewed.Access == first.Access || renewed.Refresh == first.Refresh {
		t.Error("the login was not renewed")
	}

	if code, _, stderr := s.run(nil, "logout"); code != commandline.ExitOK || strings.Contains(stderr, "not told") {
		t.Fatalf("the logout ends with %d: %s", code, stderr)
	}
	u.ask(t, refreshing(cli, renewed.Refresh)).mustBe(t, "the refresh token of a login that ended", http.StatusBadRequest, "invalid_grant")
	if code, _, stderr := s.run(nil, "whoami"); code != commandline.ExitAuth {
		t.Errorf("after the logout whoami ends with %d: %s", code, stderr)
	}
}

func TestTheCommandLineThatIsRefusedKeepsNothing(t *testing.T) {
	t.Parallel()
	u, s := target(t), newShell(t)
	if code, stderr := s.signIn(u, u.door(t), people[0], "cancel"); code != commandline.ExitAuth || !strings.Contains(stderr, "refused in the browser") {
		t.Errorf("the login ends with %d: %s", code, stderr)
	}
	if _, err := os.Stat(s.file); !os.IsNotExist(err) {
		t.Errorf("the context is kept: %v", err)
	}
}
