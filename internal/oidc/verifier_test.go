package oidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/gpuaas/gpuaas/internal/oidc"
)

const (
	audience = "gpuaas-api"
	party    = "gpuaas-cli"
)

// clock is a time that only the test moves.
type clock struct {
	mutex sync.Mutex
	at    time.Time
}

func (c *clock) now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.at
}

func (c *clock) forward(by time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.at = c.at.Add(by)
}

// issuer publishes whatever keys the test gives it, and counts how often they are read.
type issuer struct {
	server *httptest.Server
	mutex  sync.Mutex
	keys   []signingKey
	reads  int
	away   bool
}

type signingKey struct {
	kid     string
	private *rsa.PrivateKey
}

func newSigningKey(t *testing.T, kid string) signingKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signingKey{kid: kid, private: private}
}

func newIssuer(t *testing.T, keys ...signingKey) *issuer {
	t.Helper()
	i := &issuer{keys: keys}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /realms/gpuaas/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.url(), "jwks_uri": i.server.URL + "/keys"})
	})
	routes.HandleFunc("GET /keys", i.publish)
	i.server = httptest.NewServer(routes)
	t.Cleanup(i.server.Close)
	return i
}

func (i *issuer) url() string { return i.server.URL + "/realms/gpuaas" }

func (i *issuer) publish(w http.ResponseWriter, _ *http.Request) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.reads++
	if i.away {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return
	}
	set := jwk.NewSet()
	for _, key := range i.keys {
		public, err := jwk.FromRaw(key.private.Public())
		if err == nil {
			err = errors.Join(public.Set(jwk.KeyIDKey, key.kid), public.Set(jwk.KeyUsageKey, "sig"), set.AddKey(public))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	_ = json.NewEncoder(w).Encode(set)
}

func (i *issuer) rotateTo(keys ...signingKey) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.keys = keys
}

func (i *issuer) setAway(away bool) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.away = away
}

func (i *issuer) readCount() int {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return i.reads
}

type claims map[string]any

// valid are the claims of a good token at an instant; each change replaces or, with nil, removes one.
func (i *issuer) valid(now time.Time, changes claims) claims {
	good := claims{
		"iss": i.url(), "sub": "subject-1", "aud": []string{audience, "account"}, "azp": party, "typ": "Bearer",
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "preferred_username": "dev-user", "org_id": "acme",
		"realm_access": map[string]any{"roles": []string{"user", "admin"}},
	}
	for name, value := range changes {
		if value == nil {
			delete(good, name)
			continue
		}
		good[name] = value
	}
	return good
}

// sign makes a token; the header's further fields come from extra.
func sign(t *testing.T, algorithm jwa.SignatureAlgorithm, key any, kid string, payload claims, extra map[string]any) string {
	t.Helper()
	header := jws.NewHeaders()
	for name, value := range extra {
		if err := header.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if kid != "" {
		if err := header.Set(jws.KeyIDKey, kid); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.Sign(text, jws.WithKey(algorithm, key, jws.WithProtectedHeaders(header)))
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

func unsigned(t *testing.T, header, payload map[string]any) string {
	t.Helper()
	parts := make([]string, 0, 3)
	for _, part := range []map[string]any{header, payload} {
		text, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	return strings.Join(append(parts, ""), ".")
}

func newVerifier(i *issuer, now *clock) *oidc.Verifier {
	return oidc.New(oidc.Config{Issuer: i.url(), Audiences: []string{audience, "gpuaas-console"}, Clients: []string{"gpuaas-api", party}}, i.server.Client(), now.now)
}

func start() *clock { return &clock{at: time.Date(2026, 1, 5, 9, 30, 0, 0, time.UTC)} }

func TestAGoodTokenSaysWhoIsThere(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	found, err := newVerifier(i, now).Verify(t.Context(), sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), nil), nil))
	if err != nil {
		t.Fatal(err)
	}
	if found.Subject != "subject-1" || found.Username != "dev-user" || found.OrgID != "acme" || !slices.Equal(found.Roles, []string{"user", "admin"}) ||
		!found.Expires.Equal(now.now().Add(5*time.Minute)) {
		t.Errorf("the token says %+v", found)
	}
}
