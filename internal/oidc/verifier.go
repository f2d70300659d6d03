// Package oidc validates bearer tokens locally against the issuer's published keys. It imports jwx and
// domain/fault; it knows nothing of users and tenants.
package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"

	"github.com/gpuaas/gpuaas/domain/fault"
)

const (
	// leeway forgives clocks that differ a little.
	leeway = 30 * time.Second
	// longestToken bounds what is parsed at all, in bytes.
	longestToken = 16 << 10
)

// algorithms are the signatures accepted: asymmetric ones only, so that a public key can never serve as a shared secret.
var algorithms = []jwa.SignatureAlgorithm{
	jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512, jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA,
}

// Identity is whom a valid token speaks for (SPEC §7). The e-mail address in it is not kept.
type Identity struct {
	Subject  string
	Username string
	Roles    []string
	// OrgID is empty for a user without an organisation.
	OrgID   string
	Expires time.Time
}

// Config names the issuer and whom its tokens must be meant for.
type Config struct {
	// IssuerURL is compared with iss to the letter.
	IssuerURL string
	// Audiences are accepted in aud; a token meant for none of them is refused.
	Audiences []string
	// Clients are the authorised parties (azp) accepted where a token names one; empty accepts every client.
	Clients []string
	HTTP    *http.Client
	Now     func() time.Time
	Log     *slog.Logger
}

// Verifier validates tokens with a cached key set. It is safe for concurrent use.
type Verifier struct {
	config Config
	keys   *keySet
}

// New makes a verifier; keys are fetched when the first token comes.
func New(config Config) *Verifier {
	if config.HTTP == nil {
		config.HTTP = &http.Client{Timeout: 5 * time.Second}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Verifier{config: config, keys: &keySet{issuer: config.IssuerURL, http: config.HTTP, now: config.Now, log: config.Log}}
}

// Ready says whether the issuer's keys are there, fetching them if none are.
func (v *Verifier) Ready(ctx context.Context) error {
	_, err := v.keys.current(ctx, false)
	return err
}

// Verify answers whom a valid token speaks for. Faults: TokenExpired, TokenInvalid, and UpstreamError while the issuer's
// keys could never be fetched.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if len(token) > longestToken {
		return Identity{}, fault.New(fault.TokenInvalid, "The token is larger than any this platform accepts.")
	}
	keyID, algorithm, err := header(token)
	if err != nil {
		return Identity{}, err
	}
	key, err := v.keys.find(ctx, keyID)
	if err != nil {
		return Identity{}, err
	}
	// A key that says what it is for is used for nothing else.
	if declared := key.Algorithm().String(); declared != "" && declared != algorithm.String() {
		return Identity{}, invalid(fmt.Errorf("the key is for %s and the token says %s", declared, algorithm))
	}
	parsed, err := jwt.ParseString(token, jwt.WithKey(algorithm, key), jwt.WithValidate(true),
		jwt.WithIssuer(v.config.IssuerURL), jwt.WithAcceptableSkew(leeway), jwt.WithClock(jwt.ClockFunc(v.config.Now)),
		jwt.WithRequiredClaim(jwt.SubjectKey), jwt.WithRequiredClaim(jwt.ExpirationKey))
	switch {
	case errors.Is(err, jwt.ErrTokenExpired()):
		return Identity{}, fault.Wrap(err, fault.TokenExpired, "")
	case err != nil:
		return Identity{}, invalid(err)
	}
	if !slices.ContainsFunc(parsed.Audience(), func(audience string) bool { return slices.Contains(v.config.Audiences, audience) }) {
		return Identity{}, invalid(fmt.Errorf("aud %v is not meant for this platform", parsed.Audience()))
	}
	return v.identity(parsed)
}

func invalid(cause error) error { return fault.Wrap(cause, fault.TokenInvalid, "") }

// header reads the protected header alone. What it says is used to choose among our own keys; keys and addresses that a
// token brings along (jwk, jku, x5c, x5u) are never looked at.
func header(token string) (keyID string, algorithm jwa.SignatureAlgorithm, err error) {
	message, err := jws.Parse([]byte(token), jws.WithCompact())
	if err != nil {
		return "", "", invalid(err)
	}
	signatures := message.Signatures()
	if len(signatures) != 1 {
		return "", "", invalid(errors.New("a token has exactly one signature"))
	}
	protected := signatures[0].ProtectedHeaders()
	switch kind := protected.Type(); {
	case !slices.Contains(algorithms, protected.Algorithm()):
		return "", "", invalid(fmt.Errorf("alg %q is not accepted", protected.Algorithm()))
	case len(protected.Critical()) > 0:
		return "", "", invalid(errors.New("the token asks for extensions that nobody here knows"))
	case protected.KeyID() == "":
		return "", "", invalid(errors.New("the token names no key"))
	case kind != "" && !strings.EqualFold(kind, "JWT") && !strings.EqualFold(kind, "at+jwt"):
		return "", "", invalid(fmt.Errorf("typ %q is no access token", kind))
	}
	return protected.KeyID(), protected.Algorithm(), nil
}

func (v *Verifier) identity(token jwt.Token) (Identity, error) {
	var claims struct {
		Username    string  `json:"preferred_username"`
		OrgID       *string `json:"org_id"`
		Type        string  `json:"typ"`
		Party       string  `json:"azp"`
		RealmAccess struct {
			Roles []string `json:"roles"`
		} `json:"realm_access"`
	}
	text, err := json.Marshal(token)
	if err != nil {
		return Identity{}, invalid(err)
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return Identity{}, invalid(fmt.Errorf("a claim has the wrong shape: %w", err))
	}
	subject := token.Subject()
	switch {
	// An ID token or a refresh token is no access token, although the same key signed it.
	case claims.Type != "" && !strings.EqualFold(claims.Type, "Bearer"):
		return Identity{}, invalid(fmt.Errorf("typ %q is no access token", claims.Type))
	case claims.Party != "" && len(v.config.Clients) > 0 && !slices.Contains(v.config.Clients, claims.Party):
		return Identity{}, invalid(fmt.Errorf("azp %q is no client of ours", claims.Party))
	case subject == "" || len(subject) > 255:
		return Identity{}, invalid(errors.New("sub must have 1 to 255 characters"))
	}
	read := Identity{Subject: subject, Username: claims.Username, Roles: claims.RealmAccess.Roles, Expires: token.Expiration()}
	if read.Username == "" {
		read.Username = subject
	}
	if claims.OrgID != nil {
		read.OrgID = *claims.OrgID
	}
	return read, nil
}
