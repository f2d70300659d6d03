package oidc_test

import (
	"context"
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

	"github.com/gpuaas/gpuaas/domain/fault"
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
	return oidc.New(oidc.Config{Issuer: i.url(), Audience: audience, Clients: []string{"gpuaas-api", party}}, i.server.Client(), now.now)
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

func TestEveryOtherTokenIsRefused(t *testing.T) {
	key, stranger, now := newSigningKey(t, "one"), newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	at := now.now()
	good := i.valid(at, nil)
	public, err := jwk.FromRaw(stranger.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	hostile := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a token made us fetch a key") }))
	defer hostile.Close()
	modulus := key.private.N.Bytes()
	changed := func(changes claims) string { return sign(t, jwa.RS256, key.private, "one", i.valid(at, changes), nil) }
	whole := changed(nil)
	cases := map[string]struct {
		token string
		want  fault.Code
	}{
		"nothing":                  {"", fault.TokenInvalid},
		"no token at all":          {"Bearer", fault.TokenInvalid},
		"too long":                 {whole + strings.Repeat("A", 1<<20), fault.TokenInvalid},
		"without its signature":    {whole[:strings.LastIndex(whole, ".")+1], fault.TokenInvalid},
		"another payload":          {swapPayload(t, whole, changed(claims{"sub": "subject-2"})), fault.TokenInvalid},
		"algorithm none":           {unsigned(t, map[string]any{"alg": "none", "kid": "one"}, good), fault.TokenInvalid},
		"algorithm None":           {unsigned(t, map[string]any{"alg": "None", "kid": "one"}, good), fault.TokenInvalid},
		"public key as HMAC":       {sign(t, jwa.HS256, modulus, "one", good, nil), fault.TokenInvalid},
		"a stranger's key":         {sign(t, jwa.RS256, stranger.private, "one", good, nil), fault.TokenInvalid},
		"its own key in jwk":       {sign(t, jwa.RS256, stranger.private, "one", good, map[string]any{"jwk": public}), fault.TokenInvalid},
		"its own key at jku":       {sign(t, jwa.RS256, stranger.private, "one", good, map[string]any{"jku": hostile.URL}), fault.TokenInvalid},
		"no kid":                   {sign(t, jwa.RS256, key.private, "", good, nil), fault.TokenInvalid},
		"an unknown kid":           {sign(t, jwa.RS256, key.private, "two", good, nil), fault.TokenInvalid},
		"another issuer":           {changed(claims{"iss": "http://elsewhere/realms/gpuaas"}), fault.TokenInvalid},
		"no issuer":                {changed(claims{"iss": nil}), fault.TokenInvalid},
		"another audience":         {changed(claims{"aud": "account"}), fault.TokenInvalid},
		"no audience":              {changed(claims{"aud": nil}), fault.TokenInvalid},
		"another authorised party": {changed(claims{"azp": "somebody-else"}), fault.TokenInvalid},
		"an ID token":              {changed(claims{"typ": "ID"}), fault.TokenInvalid},
		"a refresh token":          {changed(claims{"typ": "Refresh"}), fault.TokenInvalid},
		"no subject":               {changed(claims{"sub": nil}), fault.TokenInvalid},
		"no expiry":                {changed(claims{"exp": nil}), fault.TokenInvalid},
		"expired":                  {changed(claims{"exp": at.Add(-time.Minute).Unix()}), fault.TokenExpired},
		"not valid yet":            {changed(claims{"nbf": at.Add(2 * time.Minute).Unix()}), fault.TokenInvalid},
		"issued in the future":     {changed(claims{"iat": at.Add(2 * time.Minute).Unix()}), fault.TokenInvalid},
	}
	verifier := newVerifier(i, now)
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			found, err := verifier.Verify(t.Context(), test.token)
			if !errors.Is(err, test.want) || found.Subject != "" {
				t.Errorf("answered %+v, %v; want %s", found, err, test.want)
			}
		})
	}
}

// swapPayload puts the payload of one token between header and signature of another.
func swapPayload(t *testing.T, into, from string) string {
	t.Helper()
	left, right := strings.Split(into, "."), strings.Split(from, ".")
	return strings.Join([]string{left[0], right[1], left[2]}, ".")
}

func TestClocksMayDifferByHalfAMinute(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	token := sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), claims{"exp": now.now().Add(-20 * time.Second).Unix()}), nil)
	if _, err := newVerifier(i, now).Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestAFloodOfUnknownKeysReadsTheIssuerOnceInThirtySeconds(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	verifier := newVerifier(i, now)
	if err := verifier.Keys().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	flood := func() {
		for range 200 {
			_, err := verifier.Verify(t.Context(), sign(t, jwa.RS256, key.private, rand.Text(), i.valid(now.now(), nil), nil))
			if !errors.Is(err, fault.TokenInvalid) {
				t.Fatalf("an unknown kid answers %v", err)
			}
		}
	}
	before := i.readCount()
	flood()
	if reads := i.readCount() - before; reads > 1 {
		t.Errorf("a flood made us read the keys %d times", reads)
	}
	now.forward(29 * time.Second)
	flood()
	if reads := i.readCount() - before; reads > 1 {
		t.Errorf("within 30 s a second flood made us read again (%d times)", reads)
	}
	now.forward(2 * time.Second)
	flood()
	if reads := i.readCount() - before; reads != 2 {
		t.Errorf("after 30 s the keys were read %d times in all, not 2", reads)
	}
}

// At a rotation everybody comes at once with the new key; nobody is sent away.
func TestARotationRefusesNobody(t *testing.T) {
	first, second, now := newSigningKey(t, "one"), newSigningKey(t, "two"), start()
	i := newIssuer(t, first)
	verifier := newVerifier(i, now)
	if err := verifier.Keys().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.rotateTo(first, second)
	before := i.readCount()
	fresh := sign(t, jwa.RS256, second.private, "two", i.valid(now.now(), nil), nil)
	old := sign(t, jwa.RS256, first.private, "one", i.valid(now.now(), nil), nil)
	verifyTogether(t, verifier, slices.Repeat([]string{fresh, old}, 25))
	if reads := i.readCount() - before; reads != 1 {
		t.Errorf("the keys were read %d times", reads)
	}
}

func TestTheFirstRequestsWaitForTheFirstKeys(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	verifyTogether(t, newVerifier(i, now), slices.Repeat([]string{sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), nil), nil)}, 20))
}

func verifyTogether(t *testing.T, verifier *oidc.Verifier, tokens []string) {
	t.Helper()
	var group sync.WaitGroup
	for _, token := range tokens {
		group.Go(func() {
			if _, err := verifier.Verify(context.WithoutCancel(t.Context()), token); err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
	group.Wait()
}

func TestAnIssuerThatIsAway(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	token := sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), nil), nil)

	never := newVerifier(i, now)
	i.setAway(true)
	if _, err := never.Verify(t.Context(), token); !errors.Is(err, fault.ServiceUnavailable) {
		t.Errorf("keys that were never read answer %v", err)
	}
	if never.Keys().Ready() == nil {
		t.Error("a verifier without keys calls itself ready")
	}

	i.setAway(false)
	known := newVerifier(i, now)
	if _, err := known.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	i.setAway(true)
	if err := known.Keys().Refresh(t.Context()); err == nil {
		t.Error("reading keys from an issuer that is away succeeded")
	}
	if _, err := known.Verify(t.Context(), token); err != nil || known.Keys().Ready() != nil {
		t.Errorf("keys at hand were dropped: %v", err)
	}
}
