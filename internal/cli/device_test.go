package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
)

// polled is a transport that answers the polls of a device one after the other, and remembers when they came.
type polled struct {
	start   time.Time
	answers []string // an OAuth error, "token", or "away"
	at      []time.Duration
}

func (p *polled) RoundTrip(r *http.Request) (*http.Response, error) {
	p.at = append(p.at, time.Since(p.start))
	next := p.answers[min(len(p.at), len(p.answers))-1]
	status, body := http.StatusBadRequest, `{"error":"`+next+`"}`
	switch next {
	case "token":
		status, body = http.StatusOK, `{"access_token":"at","refresh_token":"rt","token_type":"Bearer","expires_in":300}`
	case "away":
		return nil, io.ErrUnexpectedEOF
	case "broken":
		status, body = http.StatusBadGateway, "Bad gateway"
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader(body)), Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}}, nil
}

func TestADevicePollsAsItIsTold(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []string
		at      []time.Duration
		code    int
		says    string
	}{
		{"at its interval", []string{"authorization_pending", "authorization_pending", "token"}, []time.Duration{3 * time.Second, 6 * time.Second, 9 * time.Second}, ExitOK, ""},
		{"five seconds slower when asked to", []string{"slow_down", "authorization_pending", "token"}, []time.Duration{3 * time.Second, 11 * time.Second, 19 * time.Second}, ExitOK, ""},
		{"again after an issuer was away", []string{"away", "broken", "token"}, []time.Duration{3 * time.Second, 8 * time.Second, 13 * time.Second}, ExitOK, ""},
		{"not after a no", []string{"authorization_pending", "access_denied"}, []time.Duration{3 * time.Second, 6 * time.Second}, ExitAuth, "refused in the browser"},
		{"not after the code expired", []string{"expired_token"}, []time.Duration{3 * time.Second}, ExitTimeout, "before the code expired"},
		{"not after another refusal", []string{"invalid_client"}, []time.Duration{3 * time.Second}, ExitAuth, "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &polled{start: time.Now(), answers: c.answers}
				ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: p})
				config := &oauth2.Config{ClientID: "x", Endpoint: oauth2.Endpoint{TokenURL: "https://issuer.example/token", AuthStyle: oauth2.AuthStyleInParams}}
				token, err := awaitDecision(ctx, config, &oauth2.DeviceAuthResponse{DeviceCode: "d", Interval: 3, Expiry: time.Now().Add(10 * time.Minute)})
				if c.code == ExitOK && (err != nil || token.AccessToken != "at" || token.RefreshToken != "rt") {
					t.Fatalf("answered %v, %v", token, err)
				}
				if c.code != ExitOK && (err == nil || exitCode(err) != c.code || !strings.Contains(describe(err), c.says)) {
					t.Fatalf("answered %v, exit code %d", err, exitCode(err))
				}
				if fmt.Sprint(p.at) != fmt.Sprint(c.at) {
					t.Errorf("it asked at %v and not %v", p.at, c.at)
				}
			})
		})
	}
}

func TestADeviceGivesUpWhenItsCodeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &polled{start: time.Now(), answers: []string{"authorization_pending"}}
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: p})
		config := &oauth2.Config{ClientID: "x", Endpoint: oauth2.Endpoint{TokenURL: "https://issuer.example/token", AuthStyle: oauth2.AuthStyleInParams}}
		_, err := awaitDecision(ctx, config, &oauth2.DeviceAuthResponse{DeviceCode: "d", Interval: 5, Expiry: time.Now().Add(62 * time.Second)})
		if exitCode(err) != ExitTimeout || time.Since(p.start) != 62*time.Second || len(p.at) != 12 {
			t.Fatalf("after %s and %d polls: %v", time.Since(p.start), len(p.at), err)
		}
	})
}

// issuing is an issuer whose refresh tokens are good for one use.
type issuing struct {
	*httptest.Server
	mu        sync.Mutex
	refreshes int
	refresh   string
	// lifetime of its access tokens in seconds.
	lifetime int
	revoked  []string
	name     string
}

func newIssuing(t *testing.T) *issuing {
	t.Helper()
	i := &issuing{lifetime: 300, refresh: "refresh-0"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.write(w, http.StatusOK, map[string]any{"issuer": i.name, "token_endpoint": i.URL + "/token",
			"device_authorization_endpoint": i.URL + "/device", "revocation_endpoint": i.URL + "/revoke"})
	})
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, _ *http.Request) {
		i.write(w, http.StatusOK, map[string]any{"device_code": "d", "user_code": "ABCD-EFGH", "verification_uri": i.URL + "/go",
			"verification_uri_complete": i.URL + "/go?user_code=ABCD-EFGH", "expires_in": 600, "interval": 1})
	})
	mux.HandleFunc("POST /revoke", func(_ http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.revoked = append(i.revoked, r.FormValue("token"))
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if r.FormValue("grant_type") == "refresh_token" {
			if r.FormValue("refresh_token") != i.refresh || r.FormValue("client_id") != deviceClient {
				i.write(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
				return
			}
			i.refreshes++
			i.refresh = fmt.Sprintf("refresh-%d", i.refreshes)
		}
		i.write(w, http.StatusOK, map[string]any{"access_token": fmt.Sprintf("access-%d", i.refreshes), "refresh_token": i.refresh,
			"token_type": "Bearer", "expires_in": i.lifetime})
	})
	i.Server = httptest.NewServer(mux)
	i.name = i.URL
	t.Cleanup(i.Close)
	return i
}

func (*issuing) write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

const someone = `{"user":{"id":"user_a","username":"ada"},"tenant":{"id":"tenant_a"},"project":{"id":"p"},"account":{"id":"a"},"roles":[]}`

func TestLoginByADeviceKeepsRenewsAndEnds(t *testing.T) {
	issuer := newIssuing(t)
	server, requests := heard(t, someone)
	h := newHome(t)
	code, stdout, stderr := h.run(t, "", "login", "--issuer", issuer.URL, "--api-url", server.URL, "--context", "work")
	if code != ExitOK || stdout != "" {
		t.Fatalf("it ends with %d, stdout %q: %s", code, stdout, stderr)
	}
	for _, part := range []string{issuer.URL + "/go?user_code=ABCD-EFGH", "code: ABCD-EFGH", "signed in as ada"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("%q is not said in %s", part, stderr)
		}
	}
	kept := h.kept(t)
	if work := kept.Contexts["work"]; kept.Current != "work" || work.Issuer != issuer.URL || work.APIURL != server.URL || work.Credentials.RefreshToken != "refresh-0" {
		t.Fatalf("kept is %+v", kept)
	}
	h.expire(t, "work")
	*requests = nil
	h.mustRun(t, "whoami")
	if len(*requests) != 1 || !strings.HasPrefix((*requests)[0], "Bearer access-1 ") {
		t.Errorf("asked %v", *requests)
	}
	h.mustRun(t, "logout")
	if kept := h.kept(t); kept.Contexts["work"].Credentials != (credentials{}) || kept.Contexts["work"].Issuer != issuer.URL {
		t.Errorf("kept is %+v", kept)
	}
	if len(issuer.revoked) != 1 || issuer.revoked[0] != "refresh-1" {
		t.Errorf("the issuer was told the end of %v", issuer.revoked)
	}
}

// expire lets a context's access token be over.
func (h home) expire(t *testing.T, name string) {
	t.Helper()
	kept := h.kept(t)
	item := kept.Contexts[name]
	item.Credentials.Expires = time.Now().Add(-time.Minute)
	kept.Contexts[name] = item
	if err := write(h.path, kept); err != nil {
		t.Fatal(err)
	}
}

func TestInvocationsAtTheSameTimeRenewOnce(t *testing.T) {
	issuer := newIssuing(t)
	var mu sync.Mutex
	seen := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.Header.Get("Authorization")]++
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(someone))
	}))
	defer server.Close()
	h := newHome(t)
	if err := write(h.path, configuration{Current: "a", Contexts: map[string]savedContext{"a": {APIURL: server.URL, Issuer: issuer.URL, ClientID: deviceClient,
		Credentials: credentials{AccessToken: "old", RefreshToken: "refresh-0", Expires: time.Now().Add(renewBefore / 2)}}}}); err != nil {
		t.Fatal(err)
	}
	const invocations = 12
	var all sync.WaitGroup
	for range invocations {
		all.Go(func() {
			if code, _, stderr := h.run(t, "", "whoami"); code != ExitOK {
				t.Errorf("it ends with %d: %s", code, stderr)
			}
		})
	}
	all.Wait()
	if issuer.refreshes != 1 || seen["Bearer access-1"] != invocations {
		t.Fatalf("%d refreshes; the platform saw %v", issuer.refreshes, seen)
	}
}

func TestALoginThatHasEndedIsSaid(t *testing.T) {
	issuer := newIssuing(t)
	server, requests := heard(t, someone)
	for _, c := range []struct {
		name, refresh, issuer, calls string
		code                         int
		says                         string
	}{
		{"at the issuer", "used-up", issuer.URL, issuer.URL, ExitAuth, "gpuaas login again"},
		{"while the issuer is away", "refresh-0", "http://127.0.0.1:1", issuer.URL, ExitUnavailable, "reach the issuer"},
		{"at an issuer of another name", "refresh-0", issuer.URL, "https://other.example", ExitUnavailable, "not the issuer that was meant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			*requests = nil
			issuer.name = c.calls
			h := newHome(t)
			held := savedContext{APIURL: server.URL, Issuer: c.issuer, ClientID: deviceClient,
				Credentials: credentials{AccessToken: "old", RefreshToken: c.refresh, Expires: time.Now().Add(-time.Minute)}}
			if err := write(h.path, configuration{Current: "a", Contexts: map[string]savedContext{"a": held}}); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := h.run(t, "", "whoami")
			if code != c.code || !strings.Contains(stderr, c.says) || len(*requests) != 0 {
				t.Fatalf("it ends with %d, asked %v: %s", code, *requests, stderr)
			}
			if kept := h.kept(t); kept.Contexts["a"].Credentials.RefreshToken != c.refresh {
				t.Errorf("kept is %+v", kept)
			}
		})
	}
}

func TestALoginTakesOneWay(t *testing.T) {
	h := newHome(t)
	for _, arguments := range [][]string{
		{"--token-stdin", "--username", "u"}, {"--service-account", "sa_a"}, {"--secret-stdin"}, {"--password-stdin"},
		{"--token-stdin"}, {"--issuer", "nonsense"},
	} {
		if code, _, stderr := h.run(t, "", append([]string{"login"}, arguments...)...); code != ExitUsage {
			t.Errorf("login %v ends with %d: %s", arguments, code, stderr)
		}
	}
}

// Whoever knows the platform's address alone signs in: the platform names the issuer, which is kept for the renewals.
func TestALoginAsksThePlatformWhoSignsPeopleIn(t *testing.T) {
	issuer := newIssuing(t)
	for _, c := range []struct {
		name, answer string
		status, code int
		said         string
	}{
		{"and is told", `{"authorization_servers":["` + issuer.URL + `/"]}`, http.StatusOK, ExitOK, "signed in as ada"},
		{"and is told nothing", `{"authorization_servers":[]}`, http.StatusOK, ExitUsage, "give --issuer"},
		{"and is told nonsense", `{"authorization_servers":["ftp://x"]}`, http.StatusOK, ExitUsage, "is not usable"},
		{"of an older version", `{"error":{"code":"not_found","message":"There is nothing here."}}`, http.StatusNotFound, ExitUsage, "give --issuer or KEYCLOAK_ISSUER_URL"},
		{"that is no platform", `<html>`, http.StatusOK, ExitUnavailable, "not what its contract says"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.URL.Path == "/.well-known/oauth-protected-resource" {
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.answer)
					return
				}
				_, _ = io.WriteString(w, someone)
			}))
			t.Cleanup(server.Close)
			h := newHome(t)
			code, _, stderr := h.run(t, "", "login", "--api-url", server.URL)
			if code != c.code || !strings.Contains(stderr, c.said) {
				t.Fatalf("it ends with %d: %s", code, stderr)
			}
			if c.code != ExitOK {
				return
			}
			kept := h.kept(t)
			if kept.Contexts[kept.Current].Issuer != issuer.URL {
				t.Errorf("kept is %+v", kept)
			}
		})
	}
	h := newHome(t)
	if err := write(h.path, configuration{Current: "a", Contexts: map[string]savedContext{"a": {APIURL: "https://other.example", Issuer: issuer.URL}}}); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := h.run(t, "", "login", "--api-url", "http://127.0.0.1:1"); code != ExitUnavailable || strings.Contains(stderr, "ABCD") {
		t.Errorf("a platform that is away ends it with %d: %s", code, stderr)
	}
}

// A password is for an issuer that its person trusts: whoever answers at an address that was mistyped does not get it.
func TestAPasswordGoesToNoIssuerThatThePlatformAloneNames(t *testing.T) {
	for _, c := range []struct {
		issuer string
		code   int
		said   string
	}{
		{"https://id.example/realms/gpuaas", ExitUsage, "a password is given to no issuer"},
		{"http://localhost.example/realms/gpuaas", ExitUsage, "a password is given to no issuer"},
		{"http://127.0.0.1:1/realms/gpuaas", ExitUnavailable, ""},
		{"http://[::1]:1/realms/gpuaas", ExitUnavailable, ""},
		{"http://localhost:1/realms/gpuaas", ExitUnavailable, ""},
	} {
		server, requests := heard(t, `{"authorization_servers":["`+c.issuer+`"]}`)
		h := newHome(t)
		h.environment["GPUAAS_PASSWORD"] = "secret"
		code, _, stderr := h.run(t, "", "login", "--api-url", server.URL, "--username", "ada")
		if code != c.code || !strings.Contains(stderr, c.said) || len(*requests) != 1 {
			t.Errorf("%s: it ends with %d after %v: %s", c.issuer, code, *requests, stderr)
		}
	}
}
