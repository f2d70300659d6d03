//go:build integration

package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

// doorway is the API with the development stack's issuer behind it, at the address that the issuer sends browsers back to.
type doorway struct {
	t      *testing.T
	url    string
	issuer string
	web    *oidc.Client
	// transport trusts the certificate of a doorway on https.
	transport http.RoundTripper
}

func newDoorway(t *testing.T, cache redis.Config, passwords bool, adjust ...func(*api.Config)) *doorway {
	t.Helper()
	return newDoorwayOn(t, "http", cache, passwords, adjust...)
}

// newDoorwayOn serves http, or https as an installation does. The issuer sends browsers back to http, the only address that it
// knows here; a browser that was told to use https alone (HSTS) goes there all the same.
func newDoorwayOn(t *testing.T, scheme string, cache redis.Config, passwords bool, adjust ...func(*api.Config)) *doorway {
	t.Helper()
	d := &doorway{t: t, issuer: os.Getenv("GPUAAS_TEST_OIDC_ISSUER")}
	back, err := url.Parse(os.Getenv("GPUAAS_TEST_OIDC_REDIRECT"))
	if err != nil || d.issuer == "" || back.Path != api.CallbackPath {
		t.Fatalf("GPUAAS_TEST_OIDC_ISSUER and GPUAAS_TEST_OIDC_REDIRECT are not set, or lead elsewhere (%v): run `make test-integration`", back)
	}
	d.url = scheme + "://" + back.Host
	database := storetest.New(t)
	verifier := oidc.New(oidc.Config{Issuer: d.issuer, Audiences: []string{"gpuaas-api"}}, http.DefaultClient, time.Now)
	d.web = oidc.NewClient(verifier, http.DefaultClient, "gpuaas-web", "", back.String())
	confidential := oidc.NewClient(verifier, http.DefaultClient, "gpuaas-api", "dev-client-secret", "")
	signIn := api.SignIn{PublicURL: d.url, Web: d.web, Refreshers: map[string]*oidc.Client{"gpuaas-api": confidential}}
	if passwords {
		signIn.Password = confidential
	}
	config := api.Config{
		Pool: database.App, Redis: redistest.Open(t, cache), Policy: policy.New(database.App), Verifier: verifier, SignIn: signIn,
		Temporal: func() client.Client { return nil }, IDSecret: []byte(strings.Repeat("i", 32)), Currency: "usd",
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
	for _, change := range adjust {
		change(&config)
	}
	handler, err := api.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+back.Port())
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}}
	if scheme == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	d.transport = server.Client().Transport
	if trusting, is := d.transport.(*http.Transport); is && scheme == "https" {
		trusting.TLSClientConfig.ServerName = "example.com" // which httptest's certificate is for
	}
	return d
}

// person is a browser with somebody before it. It follows the issuer's redirects and the API's, and stops at a page that
// is neither's business.
type person struct {
	d    *doorway
	http *http.Client
	jar  http.CookieJar
}

func (d *doorway) person() *person {
	d.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	p := &person{d: d, jar: jar}
	p.http = &http.Client{Jar: jar, Transport: d.transport, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if home, err := url.Parse(d.url); err == nil && r.URL.Host == home.Host {
			r.URL.Scheme = home.Scheme
		}
		if strings.HasPrefix(r.URL.String(), d.url) && !strings.HasPrefix(r.URL.Path, "/api/v1/auth/") {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return p
}

func (p *person) send(method, address, body string, header map[string]string) reply {
	p.d.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = p.d.url + address
	}
	request, err := http.NewRequestWithContext(p.d.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		p.d.t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := p.http.Do(request)
	if err != nil {
		p.d.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.d.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, text}
}

var requestField = regexp.MustCompile(`name="request" value="([^"]+)"`)

// signIn goes the whole way and answers where it ended.
func (p *person) signIn(returnTo string) reply {
	p.d.t.Helper()
	return p.signInAs("dev-user", "dev123", returnTo)
}

func (p *person) signInAs(username, password, returnTo string) reply {
	p.d.t.Helper()
	login := p.send("GET", "/api/v1/auth/signin?return_to="+url.QueryEscape(returnTo), "", nil)
	field := requestField.FindSubmatch(login.body)
	if field == nil {
		p.d.t.Fatalf("no login form: %d %s", login.status, login.body)
	}
	form := url.Values{"request": {string(field[1])}, "username": {username}, "password": {password}}
	return p.send("POST", p.d.issuer+"/login", form.Encode(), map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
}

func (p *person) session() map[string]any {
	p.d.t.Helper()
	return p.send("GET", "/api/v1/auth/session", "", nil).fields()
}

func (p *person) cookie(name string) string {
	p.d.t.Helper()
	home, err := url.Parse(p.d.url)
	if err != nil {
		p.d.t.Fatal(err)
	}
	for _, cookie := range p.jar.Cookies(home) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

func (d *doorway) want(got reply, status int, code string) {
	d.t.Helper()
	if got.status != status || got.text("code") != code {
		d.t.Errorf("answered %d %s, not %d %q", got.status, got.body, status, code)
	}
}

func TestABrowserSignsInAndOut(t *testing.T) {
	d := newDoorway(t, redistest.Config(t), false)
	p := d.person()
	if nobody := p.session(); nobody["signed_in"] != false {
		t.Errorf("before the sign-in the session is %v", nobody)
	}
	d.want(p.send("GET", "/api/v1/me", "", nil), 401, "token_missing")

	arrived := p.signIn("/allocations?state=active")
	if arrived.status != http.StatusSeeOther || arrived.header.Get("Location") != "/allocations?state=active" {
		t.Fatalf("the sign-in ends with %d at %q: %s", arrived.status, arrived.header.Get("Location"), arrived.body)
	}
	for _, set := range arrived.header.Values("Set-Cookie") {
		if !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Lax") || strings.Contains(set, "Domain=") {
			t.Errorf("a cookie is open to others: %s", set)
		}
	}
	session := p.send("GET", "/api/v1/auth/session", "", nil)
	if session.fields()["signed_in"] != true || session.text("username") != "dev-user" || session.text("csrf_token") == "" {
		t.Fatalf("the session is %s", session.body)
	}
	if strings.Contains(string(session.body), "eyJ") || session.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the browser sees a token, or keeps the answer: %s", session.body)
	}
	me := p.send("GET", "/api/v1/me", "", nil)
	if me.status != 200 {
		t.Fatalf("who is signed in is not known: %d %s", me.status, me.body)
	}

	t.Run("a change must come from our own page", func(t *testing.T) {
		token := session.text("csrf_token")
		for name, header := range map[string]map[string]string{
			"no token":                     {},
			"another token":                {"X-CSRF-Token": "x"},
			"the cookie for a token":       {"X-CSRF-Token": p.cookie("gpuaas_session")},
			"another site, with the token": {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"},
			"another port, with the token": {"X-CSRF-Token": token, "Sec-Fetch-Site": "same-site"},
			"another origin":               {"X-CSRF-Token": token, "Origin": "http://evil.example"},
			"no origin that has a name":    {"X-CSRF-Token": token, "Origin": "null"},
		} {
			header["Content-Type"] = "application/json"
			for _, path := range []string{"/api/v1/allocations", "/api/v1/auth/logout"} {
				if got := p.send("POST", path, "{}", header); got.status != 403 || got.text("code") != "csrf_token_invalid" {
					t.Errorf("%s at %s answers %d %s", name, path, got.status, got.body)
				}
			}
		}
		own := map[string]string{"X-CSRF-Token": token, "Origin": d.url, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
		if got := p.send("POST", "/api/v1/allocations", "{}", own); got.text("code") != "idempotency_key_required" {
			t.Errorf("a change from our own page answers %d %s", got.status, got.body)
		}
	})

	// The issuer's session is alive: another tab signs in without a question.
	if again := p.send("GET", "/api/v1/auth/signin", "", nil); again.header.Get("Location") != "/" {
		t.Errorf("a second sign-in ends with %d at %q", again.status, again.header.Get("Location"))
	}
	stale := p.cookie("gpuaas_session")
	dialled, hangUp := context.WithTimeout(t.Context(), time.Minute)
	defer hangUp()
	socket, _, err := websocket.Dial(dialled, strings.Replace(d.url, "http", "ws", 1)+api.SocketPath, &websocket.DialOptions{
		HTTPHeader: http.Header{"Cookie": {"gpuaas_session=" + stale}, "Origin": {d.url}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.CloseNow() }()
	out := p.send("POST", "/api/v1/auth/logout", "", map[string]string{"X-CSRF-Token": p.session()["csrf_token"].(string)})
	if out.status != http.StatusNoContent || p.cookie("gpuaas_session") != "" {
		t.Fatalf("the sign-out answers %d %s and leaves %q", out.status, out.body, p.cookie("gpuaas_session"))
	}
	d.want(p.send("GET", "/api/v1/me", "", map[string]string{"Cookie": "gpuaas_session=" + stale}), 401, "token_expired")
	if _, heard, err := socket.Read(dialled); websocket.CloseStatus(err) != 4401 {
		t.Errorf("the socket of who signed out goes on: %s (%v)", heard, err)
	}
	if login := p.send("GET", "/api/v1/auth/signin", "", nil); !requestField.Match(login.body) {
		t.Errorf("the issuer's session outlived the sign-out: %d %s", login.status, login.body)
	}
}

// Over https a cookie is bound to the host (__Host-: Secure, no Domain, the whole path).
func TestOverHTTPSCookiesAreBoundToTheHost(t *testing.T) {
	d := newDoorwayOn(t, "https", redistest.Config(t), false)
	p := d.person()
	arrived := p.signIn("/")
	if arrived.status != http.StatusSeeOther || len(arrived.header.Values("Set-Cookie")) == 0 {
		t.Fatalf("the sign-in ends with %d %s", arrived.status, arrived.body)
	}
	for _, set := range arrived.header.Values("Set-Cookie") {
		if !strings.HasPrefix(set, "__Host-gpuaas_") || !strings.Contains(set, "; Secure") || !strings.Contains(set, "Path=/;") || strings.Contains(set, "Domain=") {
			t.Errorf("a cookie is not bound to the host: %s", set)
		}
	}
	if session := p.session(); session["signed_in"] != true {
		t.Fatalf("the session is %v", session)
	}
	secret := p.cookie("__Host-gpuaas_session")
	if secret == "" {
		t.Error("there is no session's cookie")
	}
	// A cookie of the name that http uses, which a neighbour on another port could plant, is nobody's session.
	d.want(d.person().send("GET", "/api/v1/me", "", map[string]string{"Cookie": "gpuaas_session=" + secret}), 401, "token_missing")
}

// A session secret that somebody planted in the browser is worth nothing after the sign-in, and neither is an earlier one.
func TestASignInChangesTheSecret(t *testing.T) {
	d := newDoorway(t, redistest.Config(t), false)
	p := d.person()
	home, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	p.jar.SetCookies(home, []*http.Cookie{{Name: "gpuaas_session", Value: "planted", Path: "/"}})
	p.signIn("/")
	first := p.cookie("gpuaas_session")
	if first == "planted" || first == "" {
		t.Fatalf("the sign-in keeps the secret %q", first)
	}
	p.send("GET", "/api/v1/auth/signin", "", nil)
	if second := p.cookie("gpuaas_session"); second == first {
		t.Error("a second sign-in keeps the secret of the first")
	}
	d.want(d.person().send("GET", "/api/v1/me", "", map[string]string{"Cookie": "gpuaas_session=" + first}), 401, "token_expired")
	d.want(d.person().send("GET", "/api/v1/me", "", map[string]string{"Cookie": "gpuaas_session=planted"}), 401, "token_expired")
}

func TestASignInLeadsNowhereElse(t *testing.T) {
	d := newDoorway(t, redistest.Config(t), false)
	for _, path := range []string{
		"//evil.example", "http://evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "javascript:alert(1)", "evil.example",
		"/%5cevil.example", "/%2fevil.example", "/api/v1/auth/signin", "/ /evil.example", "/\n/evil.example", "/" + strings.Repeat("a", 3000),
	} {
		d.want(d.person().send("GET", "/api/v1/auth/signin?return_to="+url.QueryEscape(path), "", nil), 422, "validation_error")
	}
}

func TestOnlyTheBrowserThatBeganEndsASignIn(t *testing.T) {
	d := newDoorway(t, redistest.Config(t), false)
	p := d.person()
	follow := p.http.CheckRedirect
	p.http.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Path == api.CallbackPath {
			return http.ErrUseLastResponse
		}
		return follow(r, via)
	}
	callback := p.signIn("/").header.Get("Location")
	if !strings.Contains(callback, "code=") {
		t.Fatalf("the issuer sends the browser to %q", callback)
	}
	d.want(d.person().send("GET", callback, "", nil), 400, "invalid_request")
	d.want(p.send("GET", strings.Replace(callback, "state=", "state=x", 1), "", nil), 400, "invalid_request")
	d.want(p.send("GET", api.CallbackPath, "", nil), 400, "invalid_request")
	if done := p.send("GET", callback, "", nil); done.status != http.StatusSeeOther || done.header.Get("Location") != "/" {
		t.Errorf("the browser that began is answered %d %s", done.status, done.body)
	}
	d.want(p.send("GET", callback, "", nil), 400, "invalid_request")
}

func TestWithoutRedisBearerTokensWork(t *testing.T) {
	d := newDoorway(t, redistest.Away(), true)
	p := d.person()
	d.want(p.signIn("/"), 503, "service_unavailable")
	d.want(p.send("GET", "/api/v1/me", "", map[string]string{"Cookie": "gpuaas_session=x"}), 503, "service_unavailable")
	login := p.send("POST", "/api/v1/auth/login", `{"username":"dev-user","password":"dev123"}`, map[string]string{"Content-Type": "application/json"})
	if login.status != 200 {
		t.Fatalf("the login answers %d %s", login.status, login.body)
	}
	if me := p.send("GET", "/api/v1/me", "", map[string]string{"Authorization": "Bearer " + login.text("access_token"), "Cookie": "gpuaas_session=x"}); me.status != 200 {
		t.Errorf("a bearer token answers %d %s", me.status, me.body)
	}
}

func TestTokensForDevelopment(t *testing.T) {
	asJSON := map[string]string{"Content-Type": "application/json"}
	t.Run("off by default", func(t *testing.T) {
		d := newDoorway(t, redistest.Config(t), false)
		d.want(d.person().send("POST", "/api/v1/auth/login", `{"username":"dev-user","password":"dev123"}`, asJSON), 403, "password_login_disabled")
	})
	d := newDoorway(t, redistest.Config(t), true)
	p := d.person()
	d.want(p.send("POST", "/api/v1/auth/login", `{"username":"dev-user","password":"x"}`, asJSON), 401, "token_invalid")
	first := p.send("POST", "/api/v1/auth/login", `{"username":"dev-user","password":"dev123"}`, asJSON)
	refresh := func(token, client string) reply {
		body, err := json.Marshal(map[string]string{"refresh_token": token, "client_id": client})
		if err != nil {
			t.Fatal(err)
		}
		return p.send("POST", "/api/v1/auth/token/refresh", string(body), asJSON)
	}
	second := refresh(first.text("refresh_token"), "gpuaas-api")
	if second.status != 200 || second.text("access_token") == first.text("access_token") || second.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("the refresh answers %d %s", second.status, second.body)
	}
	d.want(refresh(first.text("refresh_token"), "gpuaas-api"), 401, "token_invalid")
	d.want(refresh(second.text("refresh_token"), "gpuaas-web"), 422, "validation_error")
}
