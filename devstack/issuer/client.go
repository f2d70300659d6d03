package issuer

import (
	"crypto/subtle"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	// Audience is what every access token names, whichever client asked for it: the API.
	Audience = "gpuaas-api"

	idTokenLifetime = time.Hour
	callbackPath    = "/api/v1/auth/callback"
)

// Client is an application that may ask for tokens.
type Client struct {
	ID string
	// Secret of a confidential client; a public one has none, and must use PKCE.
	Secret string
	Grants []oidc.GrantType
	// RedirectURIs and LogoutURIs are where a browser may be sent, matched letter by letter.
	RedirectURIs, LogoutURIs []string
	// ServiceAccount is the subject of client-credential tokens.
	ServiceAccount string
}

// DevelopmentClients are those of every development instance, as deploy/keycloak makes them on a Keycloak. consoleURL is
// where the browser finds the API.
func DevelopmentClients(consoleURL string) []Client {
	return []Client{
		{
			ID: "gpuaas-web", Grants: []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken},
			RedirectURIs: []string{consoleURL + callbackPath}, LogoutURIs: []string{consoleURL + "/"},
		},
		{
			ID: "gpuaas-api", Secret: "dev-client-secret", ServiceAccount: "e3b0c442-98fc-4c14-9afb-f4c8996fb924",
			Grants: []oidc.GrantType{grantPassword, oidc.GrantTypeRefreshToken, oidc.GrantTypeClientCredentials},
		},
		{ID: "gpuaas-cli", Grants: []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}},
	}
}

func (c Client) public() bool { return c.Secret == "" }

func (c Client) has(secret string) bool {
	return !c.public() && subtle.ConstantTimeCompare([]byte(secret), []byte(c.Secret)) == 1
}

// registered is a client as the library wants to see it.
type registered struct{ client Client }

func (r registered) GetID() string                     { return r.client.ID }
func (r registered) RedirectURIs() []string            { return r.client.RedirectURIs }
func (r registered) PostLogoutRedirectURIs() []string  { return r.client.LogoutURIs }
func (r registered) GrantTypes() []oidc.GrantType      { return r.client.Grants }
func (r registered) LoginURL(request string) string    { return loginURL("request", request) }
func (registered) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (registered) IDTokenLifetime() time.Duration      { return idTokenLifetime }
func (registered) IsScopeAllowed(string) bool          { return false }
func (registered) IDTokenUserinfoClaimsAssertion() bool {
	return true
}
func (registered) ClockSkew() time.Duration { return 0 }

// DevMode lets a browser come back over plain http, which never leaves the machine here.
func (registered) DevMode() bool { return true }

func (r registered) ApplicationType() op.ApplicationType {
	switch {
	case !r.client.public():
		return op.ApplicationTypeWeb
	case len(r.client.RedirectURIs) > 0:
		return op.ApplicationTypeUserAgent
	default:
		return op.ApplicationTypeNative
	}
}

func (r registered) AuthMethod() oidc.AuthMethod {
	if r.client.public() {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodPost
}

func (r registered) ResponseTypes() []oidc.ResponseType {
	if slices.Contains(r.client.Grants, oidc.GrantTypeCode) {
		return []oidc.ResponseType{oidc.ResponseTypeCode}
	}
	return nil
}

func (registered) RestrictAdditionalIdTokenScopes() func([]string) []string { return unrestricted }

func (registered) RestrictAdditionalAccessTokenScopes() func([]string) []string { return unrestricted }

func unrestricted(scopes []string) []string { return scopes }
