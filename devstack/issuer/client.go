package issuer

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// confidentialClient tells the library what the one client may do: refresh tokens, and nothing with a browser.
type confidentialClient struct{ id string }

func (c confidentialClient) GetID() string                     { return c.id }
func (confidentialClient) RedirectURIs() []string              { return nil }
func (confidentialClient) PostLogoutRedirectURIs() []string    { return nil }
func (confidentialClient) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (confidentialClient) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodPost }
func (confidentialClient) ResponseTypes() []oidc.ResponseType  { return nil }
func (confidentialClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeRefreshToken}
}
func (confidentialClient) LoginURL(string) string               { return "" }
func (confidentialClient) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (confidentialClient) IDTokenLifetime() time.Duration       { return time.Hour }
func (confidentialClient) DevMode() bool                        { return true }
func (confidentialClient) IsScopeAllowed(string) bool           { return false }
func (confidentialClient) IDTokenUserinfoClaimsAssertion() bool { return false }
func (confidentialClient) ClockSkew() time.Duration             { return 0 }
func (confidentialClient) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}

func (confidentialClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}

func splitScope(scope string) oidc.SpaceDelimitedArray { return strings.Fields(scope) }

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the client has gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(body)
}
