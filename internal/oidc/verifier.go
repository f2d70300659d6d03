// Package oidc validates bearer tokens locally: the issuer is discovered, its keys are cached, and every claim that
// the platform relies on is checked here. It imports jwx and domain/fault; who a subject is to us is the API's
// business.
package oidc

import (
	"context"
	"encoding/json"
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

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/fault"
)

// Config is whom we believe.
type Config struct {
	Issuer    string   `env:"KEYCLOAK_ISSUER_URL" envDefault:"http://localhost:8080/realms/gpuaas" usage:"issuer of the bearer tokens; its discovery document lies below it"`
	Audiences []string `env:"OIDC_AUDIENCES" envDefault:"gpuaas-api" usage:"audiences of which every token must name one, comma separated"`
	Clients   []string `env:"OIDC_CLIENTS" envDefault:"gpuaas-api,gpuaas-web,gpuaas-cli" usage:"authorised parties (azp) whose tokens are accepted, comma separated"`
}

// Check says in one sentence each what is wrong with the configuration.
func (c Config) Check() []string {
	var mistakes []string
	if !strings.HasPrefix(c.Issuer, "http://") && !strings.HasPrefix(c.Issuer, "https://") {
		mistakes = append(mistakes, "KEYCLOAK_ISSUER_URL must be an http or https URL.")
	}
	if len(c.Audiences) == 0 || slices.Contains(c.Audiences, "") {
		mistakes = append(mistakes, "OIDC_AUDIENCES must name audiences, comma separated.")
	}
	return mistakes
}

// Claims are what the platform keeps of a valid token.
type Claims struct {
	Issuer, Subject, Username string
	Roles                     []string
	// OrgID is the organisation the token names, empty when it names none.
	OrgID string
	// Email is the address the token names, empty where it names none that a mail could be sent to; EmailVerified is the issuer's word that it
	// is theirs.
	Email         string
	EmailVerified bool
	Expires       time.Time
}

// algorithms are the asymmetric ones we accept. Neither none nor an HMAC is among them: a public key must never be
// usable as a shared secret.
var algorithms = []jwa.SignatureAlgorithm{
	jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512, jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA,
}

const (
	// leeway is how far the issuer's clock may be from ours.
	leeway = time.Minute
	// longestToken bounds what is parsed at all, in bytes.
	longestToken    = 16 << 10
	longestKeyID    = 255
	longestSubject  = 255
	longestUsername = 200
)

// Verifier judges tokens. It is safe for concurrent use.
type Verifier struct {
	config Config
	keys   *Keys
	now    func() time.Time

	verified verified
}

// New makes a verifier; Keys().Run keeps its keys fresh.
func New(config Config, client *http.Client, now func() time.Time) *Verifier {
	return &Verifier{config: config, keys: newKeys(config.Issuer, client, now), now: now}
}

// Issuer is whom the verifier believes.
func (v *Verifier) Issuer() string { return v.config.Issuer }

// Keys is the cache behind the verifier.
func (v *Verifier) Keys() *Keys { return v.keys }

// judge checks a token from scratch.
func (v *Verifier) judge(ctx context.Context, token string) (Claims, error) {
	if len(token) > longestToken {
		return Claims{}, invalid(errors.New("too long"))
	}
	written, err := payloadOf(token)
	if err != nil {
		return Claims{}, invalid(err)
	}
	key, algorithm, err := v.signer(ctx, token)
	if err != nil {
		return Claims{}, err
	}
	parsed, err := jwt.ParseString(token, jwt.WithKey(algorithm, key), jwt.WithValidate(false))
	if err != nil {
		return Claims{}, invalid(err)
	}
	found, err := v.claims(parsed, written)
	if err != nil {
		return Claims{}, err
	}
	// The clock comes last: only a token that is right in everything else is merely expired.
	err = jwt.Validate(parsed, jwt.WithClock(jwt.ClockFunc(v.now)), jwt.WithAcceptableSkew(leeway), jwt.WithRequiredClaim(jwt.ExpirationKey))
	switch {
	case err != nil && errors.Is(err, jwt.ErrTokenExpired()):
		return Claims{}, fault.Wrap(err, fault.TokenExpired, "")
	case err != nil:
		return Claims{}, invalid(err)
	}
	return found, nil
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
	if err := plain(header); err != nil {
		return nil, "", invalid(err)
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

// accessTokenTypes are what the header of an access token may call it (RFC 9068 and what came before).
var accessTokenTypes = []string{"", "jwt", "at+jwt", "application/at+jwt"}

// plain refuses a header that asks for anything beyond checking one signature with a key of ours.
func plain(header jws.Headers) error {
	_, encoded := header.Get("b64")
	switch {
	case header.KeyID() == "" || len(header.KeyID()) > longestKeyID:
		return errors.New("no usable kid")
	case len(header.Critical()) > 0 || encoded:
		return errors.New("critical headers")
	case header.ContentType() != "":
		return fmt.Errorf("content type %q", header.ContentType())
	case !slices.Contains(accessTokenTypes, strings.ToLower(header.Type())):
		return fmt.Errorf("header typ %q", header.Type())
	default:
		return nil
	}
}

// claims answers what a token of ours says; written are the same claims as they stand in it.
func (v *Verifier) claims(token jwt.Token, written map[string]json.RawMessage) (Claims, error) {
	private := token.PrivateClaims()
	kind, typed := private["typ"].(string)
	_, hashed := written["at_hash"]
	_, coded := written["c_hash"]
	switch party, said := private["azp"].(string); {
	case token.Issuer() != v.config.Issuer:
		return Claims{}, invalid(fmt.Errorf("issuer %q", token.Issuer()))
	case !slices.ContainsFunc(token.Audience(), func(one string) bool { return slices.Contains(v.config.Audiences, one) }):
		return Claims{}, invalid(fmt.Errorf("audience %q", token.Audience()))
	case said && len(v.config.Clients) > 0 && !slices.Contains(v.config.Clients, party):
		return Claims{}, invalid(fmt.Errorf("azp %q", party))
	// An ID token or a refresh token is no access token, although the same key signed it. Keycloak says what a token is;
	// of another issuer's, an ID token shows itself by the hashes in it.
	case typed && !strings.EqualFold(kind, "Bearer"), !typed && (hashed || coded):
		return Claims{}, invalid(fmt.Errorf("typ %q", kind))
	case token.Subject() == "" || len(token.Subject()) > longestSubject:
		return Claims{}, invalid(errors.New("no usable subject"))
	}
	found := Claims{Issuer: token.Issuer(), Subject: token.Subject(), Expires: token.Expiration()}
	found.Username, _ = private["preferred_username"].(string)
	if found.Username == "" || len(found.Username) > longestUsername {
		found.Username = found.Subject
	}
	found.OrgID, _ = private["org_id"].(string)
	if address, _ := private["email"].(string); email.Address(address) {
		found.Email = address
		found.EmailVerified, _ = private["email_verified"].(bool)
	}
	access, _ := private["realm_access"].(map[string]any)
	roles, _ := access["roles"].([]any)
	for _, role := range roles {
		if name, text := role.(string); text {
			found.Roles = append(found.Roles, name)
		}
	}
	return found, nil
}
