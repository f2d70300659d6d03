package issuer

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	typeBearer = "Bearer"
	typeID     = "ID"
)

type roles struct {
	Roles []string `json:"roles"`
}

// granted is the agreement behind a request for tokens, whatever flow it came by.
func granted(request any) grant {
	switch r := request.(type) {
	case *authorization:
		return *r.grant
	case *grant:
		return *r
	case *service:
		return r.granted
	case *op.DeviceAuthorizationState:
		return grant{client: r.ClientID, subject: r.Subject, scopes: r.Scopes, at: r.AuthTime}
	default:
		return grant{}
	}
}

// usual adds the scopes that Keycloak gives without being asked.
func usual(scopes []string) []string {
	kept := []string{}
	if slices.Contains(scopes, oidc.ScopeOpenID) {
		kept = append(kept, oidc.ScopeOpenID)
	}
	return append(kept, oidc.ScopeProfile, oidc.ScopeEmail)
}

// refreshed adds the scope without which the library hands out no refresh token; Keycloak always does.
func refreshed(scopes []string) []string { return append(usual(scopes), oidc.ScopeOfflineAccess) }

// --- tokens that are made ---

func (s storage) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return rand.Text(), time.Now().Add(s.cfg.AccessTokenLifetime), nil
}

// CreateAccessAndRefreshTokens hands out a new refresh token; the one it was asked with is used up.
func (s storage) CreateAccessAndRefreshTokens(_ context.Context, request op.TokenRequest, current string) (id, refresh string, expires time.Time, err error) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	next := refreshable{granted: granted(request), family: rand.Text()}
	if current != "" {
		last, err := s.usable(current)
		if err != nil {
			return "", "", time.Time{}, err
		}
		next.family, last.used = last.family, true
		s.state.refresh.put(current, last)
	}
	refresh = rand.Text() + rand.Text()
	s.state.refresh.put(refresh, next)
	return rand.Text(), refresh, time.Now().Add(s.cfg.AccessTokenLifetime), nil
}

// usable answers a refresh token that may be used. A second use ends its whole family.
func (s storage) usable(token string) (refreshable, error) {
	found, known := s.state.refresh.get(token)
	if !known {
		return refreshable{}, oidc.ErrInvalidGrant().WithDescription("Invalid refresh token")
	}
	if found.used {
		s.state.refresh.removeIf(func(r refreshable) bool { return r.family == found.family })
		return refreshable{}, oidc.ErrInvalidGrant().WithDescription("Refresh token was used before")
	}
	return found, nil
}

func (s storage) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	found, err := s.usable(token)
	if err != nil {
		return nil, err
	}
	answer := found.granted
	return &answer, nil
}

// --- tokens that are taken back ---

func (s storage) GetRefreshTokenInfo(_ context.Context, client, token string) (subject, id string, err error) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	found, known := s.state.refresh.get(token)
	if !known || found.granted.client != client {
		return "", "", op.ErrInvalidRefreshToken
	}
	return found.granted.subject, token, nil
}

// RevokeToken takes back a refresh token with its whole family, or one access token by its id.
func (s storage) RevokeToken(_ context.Context, token, _, client string) *oidc.Error {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	if found, known := s.state.refresh.get(token); known {
		if found.granted.client == client {
			s.state.refresh.removeIf(func(r refreshable) bool { return r.family == found.family })
		}
		return nil
	}
	s.state.revoked.put(token, struct{}{})
	return nil
}

// TerminateSession is asked when nothing is known of the session but whose it is.
func (s storage) TerminateSession(_ context.Context, subject, client string) error {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	s.state.refresh.removeIf(func(r refreshable) bool { return r.granted.subject == subject && r.granted.client == client })
	return nil
}

// TerminateSessionFromRequest ends the session that the ID token names, else the one of the browser that asks.
func (s storage) TerminateSessionFromRequest(ctx context.Context, request *op.EndSessionRequest) (string, error) {
	session := browserSession(ctx)
	if request.IDTokenHintClaims != nil {
		session = request.IDTokenHintClaims.SessionID
	}
	s.state.end(session)
	return request.RedirectURI, nil
}

// --- what tokens say ---

// GetPrivateClaimsFromRequest are the claims of Keycloak's access tokens beside the registered ones.
func (s storage) GetPrivateClaimsFromRequest(_ context.Context, request op.TokenRequest, _ []string) (map[string]any, error) {
	of := granted(request)
	who, known := s.user(of.subject)
	if !known {
		return nil, oidc.ErrInvalidGrant().WithDescription("the user is gone")
	}
	said := map[string]any{
		"typ": typeBearer, "azp": of.client, "realm_access": roles{Roles: append([]string{}, who.Roles...)},
		"scope": oidc.SpaceDelimitedArray(usual(of.scopes)).String(), "preferred_username": who.Username, "email_verified": who.Email != "",
	}
	for name, value := range map[string]string{"email": who.Email, "org_id": who.OrgID, "sid": of.session} {
		if value != "" {
			said[name] = value
		}
	}
	return said, nil
}

func (s storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, oidc.ErrServerError()
}

// SetUserinfoFromScopes has nothing to add to SetUserinfoFromRequest.
func (s storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills an ID token.
func (s storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, _ []string) error {
	if err := s.describe(info, request.GetSubject()); err != nil {
		return err
	}
	info.AppendClaims("typ", typeID)
	if session := granted(request).session; session != "" {
		info.AppendClaims("sid", session)
	}
	return nil
}

// SetUserinfoFromToken answers userinfo, for an access token alone.
func (s storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, id, subject, _ string) error {
	s.state.mutex.Lock()
	_, revoked := s.state.revoked.get(id)
	s.state.mutex.Unlock()
	if id == "" || revoked {
		return oidc.ErrAccessDenied().WithDescription("the access token is not valid")
	}
	return s.describe(info, subject)
}

func (s storage) SetIntrospectionFromToken(_ context.Context, answer *oidc.IntrospectionResponse, id, subject, client string) error {
	info := &oidc.UserInfo{}
	if err := s.SetUserinfoFromToken(context.Background(), info, id, subject, ""); err != nil {
		return err
	}
	answer.SetUserInfo(info)
	answer.ClientID = client
	return nil
}

func (s storage) describe(info *oidc.UserInfo, subject string) error {
	who, known := s.user(subject)
	if !known {
		return oidc.ErrAccessDenied().WithDescription("the user is gone")
	}
	info.Subject, info.PreferredUsername = who.Subject, who.Username
	info.Email, info.EmailVerified = who.Email, oidc.Bool(who.Email != "")
	if who.OrgID != "" {
		info.AppendClaims("org_id", who.OrgID)
	}
	return nil
}
