package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"crypto/rand"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// grantPassword is OAuth 2.0's resource-owner grant (RFC 6749, 4.3). The library leaves it out, because it is no
// part of OpenID Connect; Keycloak offers it, and scripts and tests need a sign-in without a browser.
const grantPassword oidc.GrantType = "password"

const badClient = "Invalid client or Invalid client credentials"

// passwordGrant answers token requests with grant_type=password and passes everything else on.
func (i *Issuer) passwordGrant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/"+protocolPath+"token" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		if err := r.ParseForm(); err != nil {
			op.WriteError(w, r, oidc.ErrInvalidRequest().WithDescription("the form cannot be read"), nil)
			return
		}
		if oidc.GrantType(r.PostForm.Get("grant_type")) != grantPassword {
			next.ServeHTTP(w, r)
			return
		}
		answer, err := i.passwordTokens(r)
		if err != nil {
			op.WriteError(w, r, err, nil)
			return
		}
		writeJSON(w, answer)
	})
}

func (i *Issuer) passwordTokens(r *http.Request) (*oidc.AccessTokenResponse, error) {
	client, err := i.authenticated(r)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(client.Grants, grantPassword) {
		return nil, oidc.ErrUnauthorizedClient().WithDescription("Client not allowed for direct access grants")
	}
	who, matches := i.signIn(r.PostForm.Get("username"), r.PostForm.Get("password"))
	if !matches {
		return nil, op.NewStatusError(oidc.ErrInvalidGrant().WithDescription("Invalid user credentials"), http.StatusUnauthorized)
	}
	asked := oidc.SpaceDelimitedArray{}
	if err := asked.UnmarshalText([]byte(r.PostForm.Get("scope"))); err != nil {
		return nil, oidc.ErrInvalidScope()
	}
	agreed := &grant{client: client.ID, subject: who.Subject, scopes: usual(asked), session: rand.Text(), at: time.Now()}
	answer, err := op.CreateTokenResponse(r.Context(), agreed, registered{client}, i.provider, true, "", "")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(agreed.scopes, oidc.ScopeOpenID) {
		answer.IDToken = ""
	}
	return answer, nil
}

// authenticated answers the confidential client that a form or a header proves.
func (i *Issuer) authenticated(r *http.Request) (Client, error) {
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if basicID, basicSecret, ok := r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(basicID)
		secret, _ = url.QueryUnescape(basicSecret)
	}
	client, known := storage{i}.client(id)
	if known && client.public() {
		return client, nil // it can prove nothing; what it may do is asked next
	}
	if !known || !client.has(secret) {
		return Client{}, op.NewStatusError(oidc.ErrInvalidClient().WithDescription(badClient), http.StatusUnauthorized)
	}
	return client, nil
}
