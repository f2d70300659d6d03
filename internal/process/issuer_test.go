//go:build integration

package process_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

// tokenIssuer is an OIDC issuer with one key: the API reads its discovery document and keys as it would Keycloak's.
type tokenIssuer struct {
	server *httptest.Server
	key    jwk.Key
}

func newTokenIssuer(t *testing.T) *tokenIssuer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &tokenIssuer{}
	if i.key, err = jwk.FromRaw(private); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{jwk.KeyIDKey: "k1", jwk.AlgorithmKey: jwa.RS256, jwk.KeyUsageKey: "sig"} {
		if err := i.key.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	public, err := i.key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		t.Fatal(err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.server.URL, "jwks_uri": i.server.URL + "/keys"})
	})
	routes.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(set) })
	i.server = httptest.NewServer(routes)
	t.Cleanup(i.server.Close)
	return i
}

// token is an access token of the subject.
func (i *tokenIssuer) token(t *testing.T, subject string) string {
	t.Helper()
	claims, err := jwt.NewBuilder().Issuer(i.server.URL).Audience([]string{"gpuaas-api"}).Subject(subject).
		IssuedAt(time.Now()).Expiration(time.Now().Add(time.Hour)).Claim("azp", "gpuaas-api").Claim("typ", "Bearer").
		Claim("preferred_username", subject).Claim("realm_access", map[string]any{"roles": []string{"user"}}).Build()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.Sign(claims, jwt.WithKey(jwa.RS256, i.key))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}
