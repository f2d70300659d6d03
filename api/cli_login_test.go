//go:build integration

package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/cli"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
)

// told is a terminal's stderr that tells the test each time something is written to it.
type told struct {
	text  bytes.Buffer
	lines chan string
}

func (o *told) Write(written []byte) (int, error) {
	o.lines <- string(written)
	return o.text.Write(written)
}

// shell runs the command line with a file of contexts of its own.
type shell struct {
	t           *testing.T
	environment map[string]string
}

func (s shell) run(errs *told, arguments ...string) (int, string) {
	var out bytes.Buffer
	code := cli.Main(s.t.Context(), cli.Terminal{In: strings.NewReader(""), Out: &out, Err: errs,
		Environment: func(key string) string { return s.environment[key] }}, arguments)
	return code, out.String()
}

func newTold() *told { return &told{lines: make(chan string, 64)} }

var deviceAddress = regexp.MustCompile(`https?://\S+user_code=\S+`)

// approve leads a browser to the device's address and says yes or no there.
func (p *person) approve(address, button string) {
	p.d.t.Helper()
	if page := p.send("GET", address, "", nil); !strings.Contains(string(page.body), `name="password"`) {
		p.d.t.Fatalf("the device's address answers %d %s", page.status, page.body)
	}
	parsed, err := url.Parse(address)
	if err != nil {
		p.d.t.Fatal(err)
	}
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	code := parsed.Query().Get("user_code")
	login := p.send("POST", p.d.issuer+"/login", url.Values{"user_code": {code}, "username": {"dev-user"}, "password": {"dev123"}}.Encode(), form)
	if !strings.Contains(string(login.body), "gpuaas-cli") {
		p.d.t.Fatalf("nobody is asked: %d %s", login.status, login.body)
	}
	if decided := p.send("POST", p.d.issuer+"/device", url.Values{"user_code": {code}, button: {"yes"}}.Encode(), form); decided.status != http.StatusOK {
		p.d.t.Fatalf("the decision answers %d %s", decided.status, decided.body)
	}
}

func TestTheCommandLineSignsInByADevice(t *testing.T) {
	d := newDoorway(t, redistest.Config(t), false)
	for _, c := range []struct {
		button string
		code   int
	}{{"cancel", cli.ExitAuth}, {"accept", cli.ExitOK}} {
		t.Run(c.button, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "contexts.json")
			s := shell{t, map[string]string{"GPUAAS_CONFIG": file, "GPUAAS_DATA": t.TempDir()}}
			errs, ended := newTold(), make(chan int, 1)
			go func() {
				code, _ := s.run(errs, "login", "--api-url", d.url) // the platform names the issuer
				ended <- code
			}()
			for address := ""; address == ""; {
				select {
				case line := <-errs.lines:
					if address = deviceAddress.FindString(line); address != "" {
						d.person().approve(address, c.button)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("no address is printed")
				}
			}
			if code := <-ended; code != c.code {
				t.Fatalf("the login ends with %d: %s", code, errs.text.String())
			}
			if c.code != cli.ExitOK {
				return
			}
			first := keptTokens(t, file)
			expireTokens(t, file)
			if code, out := s.run(newTold(), "whoami"); code != cli.ExitOK || !strings.Contains(out, "dev-user") {
				t.Fatalf("after the token expired whoami ends with %d: %s", code, out)
			}
			if renewed := keptTokens(t, file); renewed["access_token"] == first["access_token"] || renewed["refresh_token"] == first["refresh_token"] {
				t.Error("the login was not renewed")
			}
			if code, _ := s.run(newTold(), "logout"); code != cli.ExitOK {
				t.Fatalf("the logout ends with %d", code)
			}
			if code, _ := s.run(newTold(), "whoami"); code != cli.ExitAuth {
				t.Errorf("after the logout whoami ends with %d", code)
			}
		})
	}
}

// contextsIn reads the file as any other program would.
func contextsIn(t *testing.T, file string) (document map[string]any, tokens map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &document) != nil {
		t.Fatalf("the contexts are not readable: %v", err)
	}
	saved := document["contexts"].(map[string]any)["default"].(map[string]any)
	return document, saved["credentials"].(map[string]any)
}

func keptTokens(t *testing.T, file string) map[string]any {
	t.Helper()
	_, tokens := contextsIn(t, file)
	return tokens
}

func expireTokens(t *testing.T, file string) {
	t.Helper()
	document, tokens := contextsIn(t, file)
	tokens["expires"] = time.Now().Add(-time.Minute).UTC()
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
