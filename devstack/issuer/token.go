package issuer

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"net/url"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/pkg/crypto"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// grantPassword is OAuth 2.0's resource-owner grant (RFC 6749, 4.3). The library leaves it out, because it is no
// part of OpenID Connect; Keycloak offers it, and scripts and tests need a sign-in without a browser.
const grantPassword oidc.GrantType = "password"

const (
	typeBearer  = "Bearer"
	typeRefresh = "Refresh"
	// accountAudience is the second audience of Keycloak's tokens.
	accountAudience = "account"
)

type roles struct {
	Roles []string `json:"roles"`
}

// claims are those of Keycloak's tokens that the platform reads.
type claims struct {
	jwt.Claims

	Type              string `json:"typ"`
	AuthorizedParty   string `json:"azp"`
	RealmAccess       *roles `json:"realm_access,omitempty"`
	Scope             string `json:"scope"`
	PreferredUsername string `json:"preferred_username,omitempty"`
	Email             string `json:"email,omitempty"`
	EmailVerified     bool   `json:"email_verified,omitempty"`
	OrgID             string `json:"org_id,omitempty"`
}

// passwordGrant answers token requests with grant_type=password and passes everything else on.
func (i *Issuer) passwordGrant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/"+protocolPath+"token" {
			next.ServeHTTP(w, r)
			return
		}
		if err := r.ParseForm(); err != nil {
			op.WriteError(w, r, oidc.ErrInvalidRequest().WithDescription("the form cannot be read"), nil)
			return
		}
		if oidc.GrantType(r.PostForm.Get("grant_type")) != grantPassword {
			next.ServeHTTP(w, r)
			return
		}
		answer, err := i.signIn(r)
		if err != nil {
			op.WriteError(w, r, err, nil)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, answer)
	})
}

func (i *Issuer) signIn(r *http.Request) (*oidc.AccessTokenResponse, error) {
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if basicID, basicSecret, ok := r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(basicID)
		secret, _ = url.QueryUnescape(basicSecret)
	}
	if !i.isClient(id, secret) {
		return nil, op.NewStatusError(oidc.ErrInvalidClient().WithDescription("Invalid client or Invalid client credentials"), http.StatusUnauthorized)
	}
	user, known := i.userByName(r.PostForm.Get("username"))
	matches := subtle.ConstantTimeCompare([]byte(user.Password), []byte(r.PostForm.Get("password"))) == 1
	if !known || !matches {
		return nil, op.NewStatusError(oidc.ErrInvalidGrant().WithDescription("Invalid user credentials"), http.StatusUnauthorized)
	}
	return i.tokens(user, r.PostForm.Get("scope"))
}

// RefreshToken trades a refresh token for new tokens. Refresh tokens are signed and carry their own state, so they
// too outlive a restart.
func (i *Issuer) RefreshToken(_ context.Context, r *op.ClientRequest[oidc.RefreshTokenRequest]) (*op.Response, error) {
	got, err := i.verify(r.Data.RefreshToken, typeRefresh)
	if err != nil {
		return nil, oidc.ErrInvalidGrant().WithDescription("Invalid refresh token").WithParent(err)
	}
	user, known := i.userBySubject(got.Subject)
	if !known {
		return nil, oidc.ErrInvalidGrant().WithDescription("Invalid refresh token")
	}
	answer, err := i.tokens(user, got.Scope)
	if err != nil {
		return nil, err
	}
	response := op.NewResponse(answer)
	response.Header.Set("Cache-Control", "no-store")
	return response, nil
}

// UserInfo tells who an access token belongs to.
func (i *Issuer) UserInfo(_ context.Context, r *op.Request[oidc.UserInfoRequest]) (*op.Response, error) {
	got, err := i.verify(r.Data.AccessToken, typeBearer)
	if err != nil {
		return nil, op.NewStatusError(oidc.ErrAccessDenied().WithDescription("the access token is not valid").WithParent(err), http.StatusUnauthorized)
	}
	return op.NewResponse(&oidc.UserInfo{
		Subject:         got.Subject,
		UserInfoProfile: oidc.UserInfoProfile{PreferredUsername: got.PreferredUsername},
		UserInfoEmail:   oidc.UserInfoEmail{Email: got.Email, EmailVerified: oidc.Bool(got.EmailVerified)},
	}), nil
}

func (i *Issuer) tokens(user User, asked string) (*oidc.AccessTokenResponse, error) {
	now := time.Now()
	scope := "profile email"
	for _, one := range oidc.SpaceDelimitedArray(splitScope(asked)) {
		if one == oidc.ScopeOpenID {
			scope = "openid " + scope
		}
	}
	base := claims{
		Claims: jwt.Claims{
			Issuer: i.url, Subject: user.Subject, IssuedAt: jwt.NewNumericDate(now),
			Audience: jwt.Audience{i.cfg.Client.ID, accountAudience},
		},
		AuthorizedParty: i.cfg.Client.ID, Scope: scope,
	}
	access := base
	access.ID, access.Type = rand.Text(), typeBearer
	access.Expiry = jwt.NewNumericDate(now.Add(i.cfg.AccessTokenLifetime))
	access.RealmAccess, access.PreferredUsername = &roles{Roles: user.Roles}, user.Username
	access.Email, access.EmailVerified, access.OrgID = user.Email, user.Email != "", user.OrgID
	accessToken, err := crypto.Sign(access, i.signer)
	if err != nil {
		return nil, err
	}
	// The refresh token is for us alone: its audience is the issuer, so that no API takes it for an access token.
	refresh := base
	refresh.ID, refresh.Type, refresh.Audience = rand.Text(), typeRefresh, jwt.Audience{i.url}
	refresh.Expiry = jwt.NewNumericDate(now.Add(i.cfg.RefreshTokenLifetime))
	refreshToken, err := crypto.Sign(refresh, i.signer)
	if err != nil {
		return nil, err
	}
	return &oidc.AccessTokenResponse{
		AccessToken: accessToken, TokenType: oidc.BearerToken, RefreshToken: refreshToken,
		ExpiresIn: uint64(i.cfg.AccessTokenLifetime / time.Second), Scope: splitScope(scope),
	}, nil
}

func (i *Issuer) verify(token, kind string) (claims, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return claims{}, err
	}
	var got claims
	if err := parsed.Claims(i.key.private.Public(), &got); err != nil {
		return claims{}, err
	}
	if err := got.Validate(jwt.Expected{Issuer: i.url, Time: time.Now()}); err != nil {
		return claims{}, err
	}
	if got.Type != kind {
		return claims{}, oidc.ErrInvalidGrant().WithDescription("the token is of another kind")
	}
	return got, nil
}
