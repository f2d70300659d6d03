//go:build oidc

package conformance

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// attempt is one sign-in by the authorisation code, with the secrets that bind its steps together.
type attempt struct{ state, nonce, verifier string }

func newAttempt() attempt {
	return attempt{state: rand.Text(), nonce: rand.Text(), verifier: rand.Text() + rand.Text()}
}

// address is where the browser begins; changes replace or, when empty, remove a parameter.
func (a attempt) address(u under, changes map[string]string) string {
	query := url.Values{
		"response_type": {"code"}, "client_id": {web}, "redirect_uri": {u.redirect}, "scope": {"openid profile email"},
		"state": {a.state}, "nonce": {a.nonce}, "code_challenge": {challenge(a.verifier)}, "code_challenge_method": {"S256"},
	}
	for name, value := range changes {
		query.Del(name)
		if value != "" {
			query.Set(name, value)
		}
	}
	return u.Authorization + "?" + query.Encode()
}

// code is the one that the browser brought back.
func (a attempt) code(t *testing.T, u under, p page) string {
	t.Helper()
	if p.back == nil || p.back.Scheme+"://"+p.back.Host+p.back.Path != u.redirect {
		t.Fatalf("the browser was not sent back to %s: %v (%d)\n%s", u.redirect, p.back, p.status, p.text)
	}
	if p.back.Query().Get("state") != a.state || p.back.Query().Get("code") == "" {
		t.Fatalf("the browser brings %s back", p.back.RawQuery)
	}
	return p.back.Query().Get("code")
}

func (a attempt) exchange(u under, code string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "client_id": {web}, "redirect_uri": {u.redirect}, "code": {code}, "code_verifier": {a.verifier},
	}
}

// signedIn is a browser in which somebody has signed in, and the tokens that came of it.
func signedIn(t *testing.T, u under, who person) (*browser, tokens) {
	t.Helper()
	b, a := newBrowser(t), newAttempt()
	code := a.code(t, u, b.signIn(t, b.open(t, a.address(u, nil)), who))
	got := u.ask(t, a.exchange(u, code)).mustBeTokens(t)
	if said := payload(t, got.ID); said["nonce"] != a.nonce || said["sub"] != who.subject || said["azp"] != web {
		t.Errorf("the ID token says %v", said)
	}
	return b, got
}

func TestAPersonSignsInWithACodeAndPKCE(t *testing.T) {
	u := target(t)
	for _, who := range people {
		t.Run(who.name, func(t *testing.T) {
			_, got := signedIn(t, u, who)
			u.mustSay(t, got, web, who)
		})
	}
}

func TestAWrongPasswordLeadsNowhere(t *testing.T) {
	u := target(t)
	b, a := newBrowser(t), newAttempt()
	login := b.open(t, a.address(u, nil))
	for _, wrong := range []person{{name: "dev-user", password: "dev124"}, {name: "nobody", password: "dev123"}} {
		again := b.signIn(t, login, wrong)
		if again.back != nil || !again.asksForPassword() {
			t.Fatalf("%s with %s gets to %v (%d)", wrong.name, wrong.password, again.back, again.status)
		}
		login = again
	}
	a.code(t, u, b.signIn(t, login, people[0]))
}

func TestAnAuthorisationThatIsNotAsItMustBeIsRefused(t *testing.T) {
	u := target(t)
	for name, changes := range map[string]map[string]string{
		"no challenge":            {"code_challenge": "", "code_challenge_method": ""},
		"a plain challenge":       {"code_challenge_method": "plain"},
		"no method, thus plain":   {"code_challenge_method": ""},
		"tokens instead of codes": {"response_type": "token"},
		"another client":          {"client_id": "somebody-else"},
		"a client of no browsers": {"client_id": cli},
		"no way back":             {"redirect_uri": ""},
		"another path":            {"redirect_uri": u.redirect + "/further"},
		"a path climbed":          {"redirect_uri": u.redirect + "/../../../"},
		"another host":            {"redirect_uri": "http://evil.example/api/v1/auth/callback"},
		"a host that begins so":   {"redirect_uri": "http://localhost.evil.example/api/v1/auth/callback"},
		"a user before the host":  {"redirect_uri": "http://localhost@evil.example/api/v1/auth/callback"},
		"another query":           {"redirect_uri": u.redirect + "?next=http://evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newBrowser(t).open(t, newAttempt().address(u, changes))
			_, elsewhere := changes["redirect_uri"]
			_, stranger := changes["client_id"]
			switch {
			case p.asksForPassword():
				t.Error("the person is asked to sign in")
			case p.back != nil && p.back.Query().Get("code") != "":
				t.Errorf("a code is given to %s", p.back)
			case p.back != nil && (elsewhere || stranger):
				t.Errorf("the browser is sent to %s", p.back)
			case p.back == nil && p.status < http.StatusBadRequest:
				t.Errorf("it answers %d", p.status)
			}
		})
	}
}

func TestACodeIsGoodOnceAndForWhomItWasMade(t *testing.T) {
	u := target(t)
	b, _ := signedIn(t, u, people[0])
	for name, c := range map[string]struct {
		change func(url.Values)
		codes  []string
	}{
		"another verifier": {func(f url.Values) { f.Set("code_verifier", rand.Text()+rand.Text()) }, []string{"invalid_grant"}},
		"no verifier":      {func(f url.Values) { f.Del("code_verifier") }, []string{"invalid_grant", "invalid_request"}},
		"another way back": {func(f url.Values) { f.Set("redirect_uri", u.redirect+"/x") }, []string{"invalid_grant"}},
		"another client":   {func(f url.Values) { f.Set("client_id", api); f.Set("client_secret", apiSecret) }, []string{"invalid_grant", "unauthorized_client"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAttempt()
			form := a.exchange(u, a.code(t, u, b.open(t, a.address(u, nil))))
			c.change(form)
			u.ask(t, form).mustBe(t, name, http.StatusBadRequest, c.codes...)
		})
	}
	t.Run("a second time", func(t *testing.T) {
		a := newAttempt()
		form := a.exchange(u, a.code(t, u, b.open(t, a.address(u, nil))))
		u.ask(t, form).mustBeTokens(t)
		u.ask(t, form).mustBe(t, "the second time", http.StatusBadRequest, "invalid_grant")
	})
}

// What the console does to sign somebody out: it has the ID token, and no cookie of the issuer.
func TestSigningOutEndsTheIssuersSessionToo(t *testing.T) {
	u := target(t)
	b, got := signedIn(t, u, people[0])
	a := newAttempt()
	a.code(t, u, b.open(t, a.address(u, nil))) // nobody is asked again while the session lives
	status, raw := post(t, u.EndSession, url.Values{"id_token_hint": {got.ID}, "client_id": {web}})
	if status >= http.StatusBadRequest {
		t.Fatalf("the end of the session answers %d %s", status, raw)
	}
	if p := b.open(t, newAttempt().address(u, nil)); !p.asksForPassword() {
		t.Errorf("the browser is still signed in: %v (%d)", p.back, p.status)
	}
	u.ask(t, refreshing(web, got.Refresh)).mustBe(t, "the refresh token of the session", http.StatusBadRequest, "invalid_grant")
	status, raw = post(t, u.EndSession, url.Values{"id_token_hint": {got.ID}, "client_id": {web}, "post_logout_redirect_uri": {"http://evil.example/"}})
	if status < http.StatusBadRequest {
		t.Errorf("signing out sends a browser anywhere: %d %s", status, raw)
	}
}

func refreshing(client, token string) url.Values {
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {client}, "refresh_token": {token}}
	if client == api {
		form.Set("client_secret", apiSecret)
	}
	return form
}

func TestARefreshTokenIsGoodOnce(t *testing.T) {
	u := target(t)
	_, first := signedIn(t, u, people[2])
	second := u.ask(t, refreshing(web, first.Refresh)).mustBeTokens(t)
	u.mustSay(t, second, web, people[2])
	if second.Refresh == first.Refresh || second.Access == first.Access {
		t.Error("a refresh changes nothing")
	}
	u.ask(t, refreshing(web, second.Access)).mustBe(t, "an access token", http.StatusBadRequest, "invalid_grant")
	u.ask(t, refreshing(cli, second.Refresh)).mustBe(t, "another client", http.StatusBadRequest, "invalid_grant")
	u.ask(t, refreshing(web, first.Refresh)).mustBe(t, "a used one", http.StatusBadRequest, "invalid_grant")
}

func TestARevokedRefreshTokenIsRefused(t *testing.T) {
	u := target(t)
	_, got := signedIn(t, u, people[0])
	status, raw := post(t, u.Revocation, url.Values{"client_id": {web}, "token": {got.Refresh}, "token_type_hint": {"refresh_token"}})
	if status != http.StatusOK {
		t.Fatalf("the revocation answers %d %s", status, raw)
	}
	u.ask(t, refreshing(web, got.Refresh)).mustBe(t, "a revoked one", http.StatusBadRequest, "invalid_grant")
}

func TestDiscoveryNamesWhatTheFlowsNeed(t *testing.T) {
	u := target(t)
	for name, address := range map[string]string{
		"authorization_endpoint": u.Authorization, "token_endpoint": u.Token, "device_authorization_endpoint": u.Device, "jwks_uri": u.Keys,
		"userinfo_endpoint": u.Userinfo, "revocation_endpoint": u.Revocation, "end_session_endpoint": u.EndSession,
	} {
		if address == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if !slices.Contains(u.Challenges, "S256") {
		t.Errorf("code_challenge_methods_supported is %v", u.Challenges)
	}
	for _, grant := range []string{"authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"} {
		if !slices.Contains(u.Grants, grant) {
			t.Errorf("grant_types_supported lacks %s: %v", grant, u.Grants)
		}
	}
}
