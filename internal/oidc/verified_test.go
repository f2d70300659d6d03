package oidc

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/gpuaas/gpuaas/domain/fault"
)

func rsaKey(t testing.TB, kid string) jwk.Key {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwk.FromRaw(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(key.Set(jwk.KeyIDKey, kid), key.Set(jwk.AlgorithmKey, jwa.RS256)); err != nil {
		t.Fatal(err)
	}
	return key
}

// rememberingVerifier reads the keys of an issuer that publishes what published answers, on a clock that the test turns.
func rememberingVerifier(t testing.TB, published func() jwk.Set, now func() time.Time) *Verifier {
	t.Helper()
	pages := http.NewServeMux()
	server := httptest.NewServer(pages)
	t.Cleanup(server.Close)
	pages.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": server.URL, "jwks_uri": server.URL + "/keys"})
	})
	pages.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(published()) })
	verifier := New(Config{Issuer: server.URL, Audiences: []string{"gpuaas-api"}}, server.Client(), now)
	if err := verifier.Keys().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return verifier
}

func publicSet(t testing.TB, keys ...jwk.Key) jwk.Set {
	t.Helper()
	set := jwk.NewSet()
	for _, key := range keys {
		public, err := key.PublicKey()
		if err == nil {
			err = set.AddKey(public)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return set
}

func tokenOf(t testing.TB, v *Verifier, key jwk.Key, expires time.Time) string {
	t.Helper()
	token, err := jwt.NewBuilder().Issuer(v.config.Issuer).Subject("alice").Audience([]string{"gpuaas-api"}).Expiration(expires).
		Claim("typ", "Bearer").Claim("azp", "gpuaas-api").Build()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.RS256, key))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// A token that was found good is not good for longer because it is remembered: neither past its end, nor past that of its key.
func TestWhatIsRememberedEndsWithTheTokenAndWithItsKey(t *testing.T) {
	first, second := rsaKey(t, "one"), rsaKey(t, "two")
	var published atomic.Pointer[jwk.Set]
	publish := func(set jwk.Set) { published.Store(&set) }
	publish(publicSet(t, first))
	now := time.Now()
	verifier := rememberingVerifier(t, func() jwk.Set { return *published.Load() }, func() time.Time { return now })
	token := tokenOf(t, verifier, first, now.Add(10*time.Minute))
	for range 2 {
		if claims, err := verifier.Verify(t.Context(), token); err != nil || claims.Subject != "alice" {
			t.Fatalf("a good token gives %+v, %v", claims, err)
		}
	}
	if len(verifier.verified.claims) != 1 {
		t.Errorf("%d tokens are remembered", len(verifier.verified.claims))
	}
	if _, err := verifier.Verify(t.Context(), token+"A"); !errors.Is(err, fault.TokenInvalid) {
		t.Errorf("another token gives %v", err)
	}

	now = now.Add(20 * time.Minute)
	if _, err := verifier.Verify(t.Context(), token); !errors.Is(err, fault.TokenExpired) {
		t.Errorf("an expired token that is remembered gives %v", err)
	}

	now = now.Add(-15 * time.Minute)
	publish(publicSet(t, second))
	if err := verifier.Keys().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(t.Context(), token); !errors.Is(err, fault.TokenInvalid) {
		t.Errorf("a token whose key the issuer took back gives %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	key := rsaKey(b, "one")
	verifier := rememberingVerifier(b, func() jwk.Set { return publicSet(b, key) }, time.Now)
	token := tokenOf(b, verifier, key, time.Now().Add(time.Hour))
	b.Run("judged", func(b *testing.B) {
		for b.Loop() {
			_, _ = verifier.judge(b.Context(), token)
		}
	})
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			_, _ = verifier.Verify(b.Context(), token)
		}
	})
}
