//go:build oidc

package conformance

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/oidc"
)

const (
	audience  = "gpuaas-api"
	web       = "gpuaas-web"
	api       = "gpuaas-api"
	apiSecret = "dev-client-secret"
	cli       = "gpuaas-cli"

	embedded = "embedded"
	keycloak = "keycloak"
)

// person is a development user, as the realm file and the embedded issuer both know them.
type person struct {
	name, password, subject, organisation string
	admin                                 bool
}

var people = []person{
	{name: "dev-user", password: "dev123", subject: "5f0c9f6e-6f0e-4d6a-9d3e-0d0c7a1b2c3d"},
	{name: "dev-admin", password: "admin123", subject: "8a1d2e3f-4b5c-4d6e-8f70-1a2b3c4d5e6f", admin: true},
	{name: "acme-owner", password: "acme123", subject: "2b6e3a10-9c4d-4f5a-8b7c-6d5e4f3a2b1c", organisation: "acme"},
	{name: "acme-member", password: "acme123", subject: "c4d5e6f7-1a2b-4c3d-9e8f-7a6b5c4d3e2f", organisation: "acme"},
}

// under is the issuer under test, by its discovery document.
type under struct {
	kind, redirect string
	Issuer         string   `json:"issuer"`
	Authorization  string   `json:"authorization_endpoint"`
	Token          string   `json:"token_endpoint"`
	Device         string   `json:"device_authorization_endpoint"`
	Keys           string   `json:"jwks_uri"`
	Userinfo       string   `json:"userinfo_endpoint"`
	Revocation     string   `json:"revocation_endpoint"`
	EndSession     string   `json:"end_session_endpoint"`
	Challenges     []string `json:"code_challenge_methods_supported"`
	Grants         []string `json:"grant_types_supported"`
}

// target reads the environment that the lane gives, and the issuer's description of itself.
func target(t *testing.T) under {
	t.Helper()
	u := under{kind: os.Getenv("GPUAAS_TEST_OIDC_KIND"), redirect: os.Getenv("GPUAAS_TEST_OIDC_REDIRECT")}
	issuer := os.Getenv("GPUAAS_TEST_OIDC_ISSUER")
	if issuer == "" || u.redirect == "" || (u.kind != embedded && u.kind != keycloak) {
		t.Fatal("GPUAAS_TEST_OIDC_ISSUER, GPUAAS_TEST_OIDC_REDIRECT and GPUAAS_TEST_OIDC_KIND (embedded or keycloak) must be set: see make test-oidc")
	}
	status, answer := get(t, issuer+"/.well-known/openid-configuration", "")
	if status != http.StatusOK {
		t.Fatalf("the discovery document answers %d %s", status, answer)
	}
	if err := json.Unmarshal(answer, &u); err != nil {
		t.Fatal(err)
	}
	if u.Issuer != issuer {
		t.Fatalf("the issuer calls itself %q, not %q", u.Issuer, issuer)
	}
	return u
}

func get(t *testing.T, address, bearer string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	return do(t, request)
}

func do(t *testing.T, request *http.Request) (int, []byte) {
	t.Helper()
	// Redirects are not followed: a server that calls the issuer is no browser.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, raw
}

// tokens is an answer of the token endpoint, good or bad.
type tokens struct {
	status      int
	Access      string `json:"access_token"`
	ID          string `json:"id_token"`
	Refresh     string `json:"refresh_token"`
	Kind        string `json:"token_type"`
	Expires     int    `json:"expires_in"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func post(t *testing.T, address string, form url.Values) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(t, request)
}

func (u under) ask(t *testing.T, form url.Values) tokens {
	t.Helper()
	status, raw := post(t, u.Token, form)
	answer := tokens{status: status}
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("the token endpoint answers %d %q: %v", status, raw, err)
	}
	return answer
}

func (got tokens) mustBe(t *testing.T, what string, status int, codes ...string) {
	t.Helper()
	if got.status != status || !slices.Contains(codes, got.Error) || got.Access != "" {
		t.Errorf("%s answers %d %s (%s), want %d and one of %v", what, got.status, got.Error, got.Description, status, codes)
	}
}

func (got tokens) mustBeTokens(t *testing.T) tokens {
	t.Helper()
	if got.status != http.StatusOK || got.Access == "" || got.Kind != "Bearer" || got.Expires <= 0 {
		t.Fatalf("no tokens: %d %s (%s)", got.status, got.Error, got.Description)
	}
	return got
}

// judge is the platform's own verifier.
func (u under) judge() *oidc.Verifier {
	return oidc.New(oidc.Config{Issuer: u.Issuer, Audiences: []string{audience}, Clients: []string{web, api, cli}}, http.DefaultClient, time.Now)
}

// mustSay holds an access token to what the platform reads in it, and other tokens of the same answer to being refused.
func (u under) mustSay(t *testing.T, got tokens, client string, who person) {
	t.Helper()
	verifier := u.judge()
	claims, err := verifier.Verify(t.Context(), got.Access)
	if err != nil {
		t.Fatalf("the platform refuses the access token: %v", err)
	}
	if claims.Username != who.name || claims.OrgID != who.organisation || (who.subject != "" && claims.Subject != who.subject) {
		t.Errorf("the token says %+v, want %+v", claims, who)
	}
	if slices.Contains(claims.Roles, "admin") != who.admin || (who.subject != "" && !slices.Contains(claims.Roles, "user")) {
		t.Errorf("the roles of %s are %v", who.name, claims.Roles)
	}
	said := payload(t, got.Access)
	if said["azp"] != client || said["typ"] != "Bearer" {
		t.Errorf("azp is %v and typ %v, want %s and Bearer", said["azp"], said["typ"], client)
	}
	if who.subject != "" && said["email"] != who.name+"@localhost" {
		t.Errorf("email is %v", said["email"])
	}
	for kind, token := range map[string]string{"ID": got.ID, "refresh": got.Refresh} {
		if token == "" {
			continue
		}
		if _, err := verifier.Verify(t.Context(), token); err == nil {
			t.Errorf("the platform takes the %s token for an access token", kind)
		}
	}
}

// payload reads a token's claims without judging them.
func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no signed token", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]any
	if err := json.Unmarshal(raw, &said); err != nil {
		t.Fatal(err)
	}
	return said
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (u under) password(t *testing.T, who person) tokens {
	t.Helper()
	return u.ask(t, url.Values{
		"grant_type": {"password"}, "client_id": {api}, "client_secret": {apiSecret}, "username": {who.name}, "password": {who.password},
	})
}
