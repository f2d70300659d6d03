package api

import (
	"context"
	"errors"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/session"
)

// SignIn is the platform as an application of the issuer. Each of its clients may be nil where it is not configured.
type SignIn struct {
	// PublicURL is where browsers find the API, without a path.
	PublicURL string
	// Web signs browsers in; Password, for development alone, whoever sends a password.
	Web, Password *oidc.Client
	// Refreshers are the clients whose refresh tokens may be traded here, by their ids.
	Refreshers map[string]*oidc.Client
}

const (
	// endTimeout bounds how long a sign-out waits for the issuer to hear of it.
	endTimeout   = 5 * time.Second
	bearerTokens = "Bearer"
)

type sessionBody struct {
	SignedIn  bool     `json:"signed_in" doc:"Whether the browser has a session."`
	Username  string   `json:"username,omitempty"`
	Roles     []string `json:"roles,omitempty"`
	CSRFToken string   `json:"csrf_token,omitempty" doc:"To be sent as X-CSRF-Token with every change."`
	ExpiresAt *moment  `json:"expires_at,omitempty"`
}

type sessionOut struct {
	CacheControl string `header:"Cache-Control"`
	Body         sessionBody
}

type signOutIn struct {
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	CSRFToken      string `header:"X-CSRF-Token" maxLength:"255"`
}

type logInIn struct {
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	Body           struct {
		Username string `json:"username" minLength:"1" maxLength:"200"`
		Password string `json:"password" minLength:"1" maxLength:"1000"`
	}
}

type refreshTokenIn struct {
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	Body           struct {
		RefreshToken string `json:"refresh_token" minLength:"1" maxLength:"16384"`
		ClientID     string `json:"client_id,omitempty" maxLength:"255" default:"gpuaas-cli"`
	}
}

type tokensBody struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	TokenType    string `json:"token_type" enum:"Bearer"`
	ExpiresAt    moment `json:"expires_at"`
}

type tokensOut struct {
	CacheControl string `header:"Cache-Control"`
	Body         tokensBody
}

// resourceMetadata is RFC 9728's: what a program needs to know to come with a token.
type resourceMetadata struct {
	Resource      string   `json:"resource" format:"uri" doc:"Where the platform is found."`
	Name          string   `json:"resource_name"`
	Issuers       []string `json:"authorization_servers" doc:"The issuer whose tokens are accepted, as it stands in them."`
	Methods       []string `json:"bearer_methods_supported"`
	Documentation string   `json:"resource_documentation" format:"uri"`
}

type resourceMetadataOut struct{ Body resourceMetadata }

func (s *server) sessionOperations() {
	handle(s, "getResourceMetadata", s.getResourceMetadata)
	handle(s, "getSession", s.getSession)
	handle(s, "signOut", s.signOut)
	handle(s, "logIn", s.logIn)
	handle(s, "refreshToken", s.refreshToken)
}

// getResourceMetadata tells whoever knows only this address who signs people in.
func (s *server) getResourceMetadata(context.Context, *struct{}) (*resourceMetadataOut, error) {
	address := s.config.SignIn.PublicURL
	return &resourceMetadataOut{Body: resourceMetadata{
		Resource: address, Name: "GPUaaS", Issuers: []string{s.config.Verifier.Issuer()}, Methods: []string{"header"}, Documentation: address + "/docs",
	}}, nil
}

// getSession tells a page of ours who is signed in. Nobody is no mistake.
func (s *server) getSession(ctx context.Context, _ *struct{}) (*sessionOut, error) {
	w, r := middleware.Exchange(ctx)
	out := &sessionOut{CacheControl: "no-store"}
	if s.browser.Secret(r) == "" {
		return out, nil
	}
	found, err := s.browser.Session(w, r)
	if errors.Is(err, fault.TokenExpired) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	until := moment(found.Until)
	out.Body = sessionBody{
		SignedIn: true, Username: found.Tokens.Claims.Username, Roles: found.Tokens.Claims.Roles,
		CSRFToken: s.sessions.Token(found.Secret), ExpiresAt: &until,
	}
	return out, nil
}

// signOut ends the browser's session here and with the issuer. What is ended already stays so.
func (s *server) signOut(ctx context.Context, _ *signOutIn) (*struct{}, error) {
	w, r := middleware.Exchange(ctx)
	secret := s.browser.Secret(r)
	if secret == "" {
		return nil, nil
	}
	if err := s.browser.OwnPage(r, secret); err != nil {
		return nil, err
	}
	ended, err := s.sessions.End(ctx, secret)
	if err != nil && !errors.Is(err, fault.TokenExpired) {
		return nil, err
	}
	s.browser.Keep(w, nil, s.config.Now())
	if err != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := s.config.SignIn.Web.End(ctx, ended.Tokens); err != nil {
		s.config.Log.WarnContext(ctx, "the issuer did not hear of a sign-out", "error", err.Error())
	}
	return nil, nil
}

// logIn trades a password for tokens, where that is allowed at all.
func (s *server) logIn(ctx context.Context, in *logInIn) (*tokensOut, error) {
	if s.config.SignIn.Password == nil {
		return nil, fault.New(fault.PasswordLoginDisabled, "")
	}
	tokens, err := s.config.SignIn.Password.Password(ctx, in.Body.Username, in.Body.Password)
	if err != nil {
		return nil, err
	}
	return renderTokens(tokens), nil
}

// refreshToken trades a refresh token for new tokens, for callers that cannot reach the issuer themselves.
func (s *server) refreshToken(ctx context.Context, in *refreshTokenIn) (*tokensOut, error) {
	client, known := s.config.SignIn.Refreshers[in.Body.ClientID]
	if !known {
		return nil, invalid("body.client_id", "this client's tokens are not refreshed here")
	}
	tokens, err := client.Refresh(ctx, in.Body.RefreshToken)
	if err != nil {
		return nil, err
	}
	return renderTokens(tokens), nil
}

func (s *server) sessionLimits(ctx context.Context) (session.Limits, error) {
	idle, err := s.config.Policy.Int(ctx, authored.AuthSessionIdleSeconds)
	if err != nil {
		return session.Limits{}, err
	}
	longest, err := s.config.Policy.Int(ctx, authored.AuthSessionMaxSeconds)
	return session.Limits{Idle: time.Duration(idle) * time.Second, Longest: time.Duration(longest) * time.Second}, err
}

func renderTokens(tokens oidc.Tokens) *tokensOut {
	return &tokensOut{CacheControl: "no-store", Body: tokensBody{
		AccessToken: tokens.Access, RefreshToken: tokens.Refresh, TokenType: bearerTokens, ExpiresAt: moment(tokens.Expires),
	}}
}
