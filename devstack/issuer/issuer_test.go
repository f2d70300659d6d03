package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

const console = "http://localhost:8081"

func start(t *testing.T, cfg Config) *Issuer {
	t.Helper()
	if cfg.KeyFile == "" {
		cfg.KeyFile = filepath.Join(t.TempDir(), "issuer", "key.pem")
	}
	cfg.Clients, cfg.Users = DevelopmentClients(console), DevelopmentUsers()
	i, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

func fetch(t *testing.T, method, address string, form url.Values) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatalf("%s answers %q: %v", address, raw, err)
	}
	return response.StatusCode, body
}

func signIn(username, password string) url.Values {
	return url.Values{
		"grant_type": {"password"}, "client_id": {"gpuaas-api"}, "client_secret": {"dev-client-secret"},
		"username": {username}, "password": {password},
	}
}

// verify reads a token as a resource server does: keys by discovery, with a library that shares nothing with the issuer.
func verify(t *testing.T, issuer, token string) jwt.Token {
	t.Helper()
	_, discovery := fetch(t, http.MethodGet, issuer+"/.well-known/openid-configuration", nil)
	keys, err := jwk.Fetch(t.Context(), discovery["jwks_uri"].(string))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseString(token, jwt.WithKeySet(keys), jwt.WithIssuer(issuer), jwt.WithAudience("gpuaas-api"), jwt.WithValidate(true))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestPasswordGrantGivesTokensWithTheClaimsOfKeycloak(t *testing.T) {
	i := start(t, Config{})
	for _, c := range []struct {
		username, password string
		roles              []any
	}{
		{"dev-user", "dev123", []any{"user"}},
		{"dev-admin", "admin123", []any{"user", "admin"}},
	} {
		t.Run(c.username, func(t *testing.T) {
			status, answer := fetch(t, http.MethodPost, i.URL()+"/protocol/openid-connect/token", signIn(c.username, c.password))
			if status != http.StatusOK || answer["token_type"] != "Bearer" {
				t.Fatalf("the issuer answers %d %v", status, answer)
			}
			token := verify(t, i.URL(), answer["access_token"].(string))
			access, _ := token.Get("realm_access")
			if got := access.(map[string]any)["roles"].([]any); !slices.Equal(got, c.roles) {
				t.Errorf("realm_access.roles is %v, want %v", got, c.roles)
			}
			for claim, want := range map[string]any{"azp": "gpuaas-api", "preferred_username": c.username, "typ": "Bearer"} {
				if got, _ := token.Get(claim); got != want {
					t.Errorf("%s is %v, want %v", claim, got, want)
				}
			}
			if token.Subject() == "" || time.Until(token.Expiration()) < time.Minute {
				t.Errorf("sub is %q and exp %v", token.Subject(), token.Expiration())
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	i := start(t, Config{})
	with := func(key, value string) url.Values {
		form := signIn("dev-user", "dev123")
		form.Set(key, value)
		return form
	}
	for name, c := range map[string]struct {
		form   url.Values
		status int
		code   string
	}{
		"wrong password":    {with("password", "dev124"), http.StatusUnauthorized, "invalid_grant"},
		"empty password":    {with("password", ""), http.StatusUnauthorized, "invalid_grant"},
		"unknown user":      {with("username", "nobody"), http.StatusUnauthorized, "invalid_grant"},
		"unknown and empty": {url.Values{"grant_type": {"password"}, "client_id": {"gpuaas-api"}, "client_secret": {"dev-client-secret"}}, http.StatusUnauthorized, "invalid_grant"},
		"wrong secret":      {with("client_secret", "x"), http.StatusUnauthorized, "invalid_client"},
		"unknown client":    {with("client_id", "x"), http.StatusUnauthorized, "invalid_client"},
		"another client":    {with("client_id", "gpuaas-web"), http.StatusBadRequest, "unauthorized_client"},
		"another grant":     {with("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), http.StatusBadRequest, "unsupported_grant_type"},
		"no grant":          {with("grant_type", ""), http.StatusBadRequest, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := fetch(t, http.MethodPost, i.TokenURL(), c.form)
			if status != c.status || answer["error"] != c.code || answer["access_token"] != nil {
				t.Errorf("the issuer answers %d %v, want %d %s", status, answer, c.status, c.code)
			}
		})
	}
}

func TestRefresh(t *testing.T) {
	i := start(t, Config{})
	_, first := fetch(t, http.MethodPost, i.TokenURL(), signIn("dev-user", "dev123"))
	refresh := func(token string) (int, map[string]any) {
		return fetch(t, http.MethodPost, i.TokenURL(), url.Values{
			"grant_type": {"refresh_token"}, "client_id": {"gpuaas-api"}, "client_secret": {"dev-client-secret"}, "refresh_token": {token},
		})
	}
	status, second := refresh(first["refresh_token"].(string))
	if status != http.StatusOK {
		t.Fatalf("the issuer answers %d %v", status, second)
	}
	if before, after := verify(t, i.URL(), first["access_token"].(string)), verify(t, i.URL(), second["access_token"].(string)); before.Subject() != after.Subject() || before.JwtID() == after.JwtID() {
		t.Errorf("the refreshed token is %s of %s after %s of %s", after.JwtID(), after.Subject(), before.JwtID(), before.Subject())
	}
	if status, answer := refresh(first["access_token"].(string)); status != http.StatusBadRequest {
		t.Errorf("an access token is taken for a refresh token: %d %v", status, answer)
	}
}

// A refresh token that comes back a second time was copied: nobody goes on with what came of it.
func TestASecondUseEndsTheFamily(t *testing.T) {
	i := start(t, Config{})
	_, first := fetch(t, http.MethodPost, i.TokenURL(), signIn("dev-user", "dev123"))
	refresh := func(token string) (int, map[string]any) {
		return fetch(t, http.MethodPost, i.TokenURL(), url.Values{
			"grant_type": {"refresh_token"}, "client_id": {"gpuaas-api"}, "client_secret": {"dev-client-secret"}, "refresh_token": {token},
		})
	}
	_, second := refresh(first["refresh_token"].(string))
	if status, answer := refresh(first["refresh_token"].(string)); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		t.Errorf("a used refresh token answers %d %v", status, answer)
	}
	if status, answer := refresh(second["refresh_token"].(string)); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		t.Errorf("the refresh token after it answers %d %v", status, answer)
	}
}

func TestARotationKeepsTheKeysBefore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	i := start(t, Config{KeyFile: file})
	_, before := fetch(t, http.MethodPost, i.TokenURL(), signIn("dev-user", "dev123"))
	if err := i.Rotate(); err != nil {
		t.Fatal(err)
	}
	_, after := fetch(t, http.MethodPost, i.TokenURL(), signIn("dev-user", "dev123"))
	again := start(t, Config{KeyFile: file})
	for name, answer := range map[string]map[string]any{"before": before, "after": after} {
		keys, err := jwk.Fetch(t.Context(), again.URL()+"/protocol/openid-connect/certs")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jwt.ParseString(answer["access_token"].(string), jwt.WithKeySet(keys)); err != nil {
			t.Errorf("the token of %s the rotation is refused after a restart: %v", name, err)
		}
	}
	status, _ := fetchStatus(t, http.MethodPost, "http://localhost:"+portOf(t, i)+rotatePath)
	if status != http.StatusUnauthorized {
		t.Errorf("anybody can rotate the keys: %d", status)
	}
}

func portOf(t *testing.T, i *Issuer) string {
	t.Helper()
	parsed, err := url.Parse(i.URL())
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Port()
}

func fetchStatus(t *testing.T, method, address string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

func TestTokensOutliveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	first := start(t, Config{KeyFile: file})
	_, answer := fetch(t, http.MethodPost, first.TokenURL(), signIn("dev-user", "dev123"))
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, Config{KeyFile: file})
	after, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the key changed over a restart (%v)", err)
	}
	keys, err := jwk.Fetch(context.Background(), second.URL()+"/protocol/openid-connect/certs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.ParseString(answer["access_token"].(string), jwt.WithKeySet(keys)); err != nil {
		t.Errorf("the token of before is refused: %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file has mode %v (%v)", info.Mode(), err)
	}
}

func TestUserInfoTellsTheOwnerOfAnAccessTokenOnly(t *testing.T) {
	i := start(t, Config{})
	_, answer := fetch(t, http.MethodPost, i.TokenURL(), signIn("dev-admin", "admin123"))
	for kind, want := range map[string]int{"access_token": http.StatusOK, "refresh_token": http.StatusUnauthorized} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.URL()+"/protocol/openid-connect/userinfo", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+answer[kind].(string))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != want || (want == http.StatusOK) != strings.Contains(string(raw), "dev-admin") {
			t.Errorf("userinfo for a %s answers %d %s (%v), want %d", kind, response.StatusCode, raw, err, want)
		}
	}
}
