// Package oidc validates bearer tokens locally: the issuer is discovered, its keys are cached, and every claim that
// the platform relies on is checked here. It imports jwx and domain/fault; who a subject is to us is the API's
// business.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// Config is whom we believe.
type Config struct {
	Issuer   string   `env:"KEYCLOAK_ISSUER_URL" envDefault:"http://localhost:8080/realms/gpuaas" usage:"issuer of the bearer tokens; its discovery document lies below it"`
	Audience string   `env:"OIDC_AUDIENCE" envDefault:"gpuaas-api" usage:"audience that every token must name"`
	Clients  []string `env:"OIDC_CLIENTS" envDefault:"gpuaas-api,gpuaas-web,gpuaas-cli" usage:"authorised parties (azp) whose tokens are accepted, comma separated"`
}

// Check says in one sentence each what is wrong with the configuration.
func (c Config) Check() []string {
	var mistakes []string
	if !strings.HasPrefix(c.Issuer, "http://") && !strings.HasPrefix(c.Issuer, "https://") {
		mistakes = append(mistakes, "KEYCLOAK_ISSUER_URL must be an http or https URL.")
	}
	if c.Audience == "" {
		mistakes = append(mistakes, "OIDC_AUDIENCE must name an audience.")
	}
	return mistakes
}

// Claims are what the platform keeps of a valid token. The e-mail address in it is not kept.
type Claims struct {
	Issuer, Subject, Username string
	Roles                     []string
	// OrgID is the organisation the token names, empty when it names none.
	OrgID   string
	Expires time.Time
}

// algorithms are the asymmetric ones we accept. Neither none nor an HMAC is among them: a public key must never be
// usable as a shared secret.
var algorithms = []jwa.SignatureAlgorithm{
	jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512, jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA,
}

const (
	// leeway is how far the issuer's clock may be from ours.
	leeway = 30 * time.Second
	// longestToken bounds what is parsed at all, in bytes.
	longestToken    = 16 << 10
	longestSubject  = 255
	longestUsername = 200
)

// Verifier judges tokens. It is safe for concurrent use.
type Verifier struct {
	config Config
	keys   *Keys
	now    func() time.Time
}

// New makes a verifier; Keys().Run keeps its keys fresh.
func New(config Config, client *http.Client, now func() time.Time) *Verifier {
	return &Verifier{config: config, keys: newKeys(config.Issuer, client, now), now: now}
}

// Keys is the cache behind the verifier.
func (v *Verifier) Keys() *Keys { return v.keys }

// Verify judges a token: fault.TokenExpired for one that was good, fault.TokenInvalid for any other refusal, and
// fault.ServiceUnavailable while the issuer's keys were never read.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) > longestToken {
		return Claims{}, invalid(errors.New("too long"))
	}
	key, algorithm, err := v.signer(ctx, token)
	if err != nil {
		return Claims{}, err
	}
	parsed, err := jwt.ParseString(token,
		jwt.WithKey(algorithm, key), jwt.WithValidate(true), jwt.WithClock(jwt.ClockFunc(v.now)), jwt.WithAcceptableSkew(leeway),
		jwt.WithIssuer(v.config.Issuer), jwt.WithAudience(v.config.Audience), jwt.WithRequiredClaim(jwt.ExpirationKey), jwt.WithRequiredClaim(jwt.SubjectKey),
	)
	switch {
	case err != nil && errors.Is(err, jwt.ErrTokenExpired()):
		return Claims{}, fault.Wrap(err, fault.TokenExpired, "")
	case err != nil:
		return Claims{}, invalid(err)
	}
	return v.claims(parsed)
}

func invalid(cause error) error { return fault.Wrap(cause, fault.TokenInvalid, "") }

// signer finds the issuer's key that the token names. What a token brings along (jwk, jku, x5c) is never looked at.
func (v *Verifier) signer(ctx context.Context, token string) (jwk.Key, jwa.SignatureAlgorithm, error) {
	message, err := jws.ParseString(token)
	if err != nil {
		return nil, "", invalid(err)
	}
	if len(message.Signatures()) != 1 {
		return nil, "", invalid(errors.New("not exactly one signature"))
	}
	header := message.Signatures()[0].ProtectedHeaders()
	algorithm := header.Algorithm()
	if !slices.Contains(algorithms, algorithm) {
		return nil, "", invalid(fmt.Errorf("algorithm %q", algorithm))
	}
	if header.KeyID() == "" || len(header.Critical()) > 0 {
		return nil, "", invalid(errors.New("no kid, or critical headers"))
	}
	key, err := v.keys.Find(ctx, header.KeyID())
	if err != nil {
		return nil, "", err
	}
	// A key that says what it is for is used for nothing else.
	if declared := key.Algorithm().String(); declared != "" && declared != algorithm.String() {
		return nil, "", invalid(fmt.Errorf("the key is for %s, the token says %s", declared, algorithm))
	}
	return key, algorithm, nil
}

func (v *Verifier) claims(token jwt.Token) (Claims, error) {
	private := token.PrivateClaims()
	// An ID token or a refresh token is no access token, although the same key signed it.
	if kind, said := private["typ"].(string); said && !strings.EqualFold(kind, "Bearer") {
		return Claims{}, invalid(fmt.Errorf("typ %q", kind))
	}
	if party, said := private["azp"].(string); said && len(v.config.Clients) > 0 && !slices.Contains(v.config.Clients, party) {
		return Claims{}, invalid(fmt.Errorf("azp %q", party))
	}
	if token.Subject() == "" || len(token.Subject()) > longestSubject {
		return Claims{}, invalid(errors.New("no usable subject"))
	}
	found := Claims{Issuer: token.Issuer(), Subject: token.Subject(), Expires: token.Expiration()}
	found.Username, _ = private["preferred_username"].(string)
	if found.Username == "" || len(found.Username) > longestUsername {
		found.Username = found.Subject
	}
	found.OrgID, _ = private["org_id"].(string)
	access, _ := private["realm_access"].(map[string]any)
	roles, _ := access["roles"].([]any)
	for _, role := range roles {
		if name, text := role.(string); text {
			found.Roles = append(found.Roles, name)
		}
	}
	return found, nil
}
