package issuer

import (
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// accountAudience is the second audience of Keycloak's access tokens.
const accountAudience = "account"

// grant is what somebody agreed to: a client may act for a subject. As a request for tokens it is answered with a
// refresh token as well.
type grant struct {
	client, subject string
	scopes          []string
	// session is the sign-in that it came from; it ends with it. Empty for a service account.
	session string
	at      time.Time
}

func (g *grant) GetClientID() string              { return g.client }
func (g *grant) GetSubject() string               { return g.subject }
func (g *grant) GetScopes() []string              { return g.scopes }
func (g *grant) SetCurrentScopes(scopes []string) { g.scopes = scopes }
func (g *grant) GetAudience() []string            { return []string{Audience, accountAudience} }
func (g *grant) GetAuthTime() time.Time           { return g.at }
func (g *grant) GetAMR() []string {
	if g.session == "" {
		return nil
	}
	return []string{"pwd"}
}

// service is the grant of a client to itself, which brings no refresh token.
type service struct{ granted grant }

func (s *service) GetSubject() string    { return s.granted.subject }
func (s *service) GetScopes() []string   { return s.granted.scopes }
func (s *service) GetAudience() []string { return s.granted.GetAudience() }

// authorization is an authorisation-code request on its way: begun by a client, then granted by a person.
type authorization struct {
	*grant

	id    string
	asked oidc.AuthRequest
}

func (a *authorization) GetID() string                      { return a.id }
func (a *authorization) GetACR() string                     { return "1" }
func (a *authorization) GetNonce() string                   { return a.asked.Nonce }
func (a *authorization) GetRedirectURI() string             { return a.asked.RedirectURI }
func (a *authorization) GetResponseType() oidc.ResponseType { return a.asked.ResponseType }
func (a *authorization) GetResponseMode() oidc.ResponseMode { return a.asked.ResponseMode }
func (a *authorization) GetState() string                   { return a.asked.State }
func (a *authorization) Done() bool                         { return a.subject != "" }

func (a *authorization) GetCodeChallenge() *oidc.CodeChallenge {
	if a.asked.CodeChallenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: a.asked.CodeChallenge, Method: a.asked.CodeChallengeMethod}
}

// accepts says whether a sign-in of that time is good enough, or the person must be asked again.
func (a *authorization) accepts(signedIn time.Time) bool {
	if slices.Contains(a.asked.Prompt, oidc.PromptLogin) {
		return false
	}
	return a.asked.MaxAge == nil || time.Since(signedIn) <= time.Duration(*a.asked.MaxAge)*time.Second //nolint:gosec // an age in seconds
}

// device is a device-authorisation request on its way.
type device struct {
	state    op.DeviceAuthorizationState
	userCode string
	polled   time.Time
}

// refreshable is a refresh token that was handed out. A used one is remembered, so that its second use ends the whole
// family: somebody has a copy.
type refreshable struct {
	granted grant
	family  string
	used    bool
}

// signedIn is a browser's session with the issuer.
type signedIn struct {
	subject string
	at      time.Time
}
