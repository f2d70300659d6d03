package middleware

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/session"
)

// HeaderCSRFToken carries the token that a page read from the session, with every change that it asks for by cookie.
const HeaderCSRFToken = "X-CSRF-Token"

// Browser turns the cookie of a signed-in browser into the access token behind it. A request with a bearer token of its own
// is none of its business.
type Browser struct {
	sessions *session.Store
	secure   bool
	origins  *http.CrossOriginProtection
}

// NewBrowser makes one. publicURL is where browsers find the API: over https its cookies never travel otherwise. Behind a
// proxy that changes the Host header, it is also the one origin whose pages are ours.
func NewBrowser(sessions *session.Store, publicURL string) (*Browser, error) {
	b := &Browser{sessions: sessions, secure: strings.HasPrefix(publicURL, "https://"), origins: http.NewCrossOriginProtection()}
	if publicURL == "" {
		return b, nil
	}
	return b, b.origins.AddTrustedOrigin(publicURL)
}

// Cookie is a cookie of this host alone. A lifetime of zero lasts as long as the browser, a negative one removes it.
func (b *Browser) Cookie(name, value string, life time.Duration) *http.Cookie {
	cookie := &http.Cookie{Name: b.name(name), Value: value, Path: "/", HttpOnly: true, Secure: b.secure, SameSite: http.SameSiteLaxMode, MaxAge: int(life.Seconds())}
	if life < 0 {
		cookie.MaxAge = -1
	}
	return cookie
}

// Read answers the value of a cookie of ours, empty when there is none.
func (b *Browser) Read(r *http.Request, name string) string {
	cookie, err := r.Cookie(b.name(name))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// name keeps other hosts and plain http from setting a cookie in our place, where browsers can promise that.
func (b *Browser) name(plain string) string {
	if b.secure {
		return "__Host-gpuaas_" + plain
	}
	return "gpuaas_" + plain
}

const sessionCookie = "session"

// Keep gives the browser a session, or with nil takes it away.
func (b *Browser) Keep(w http.ResponseWriter, kept *session.Session, now time.Time) {
	cookie := b.Cookie(sessionCookie, "", -1)
	if kept != nil {
		cookie = b.Cookie(sessionCookie, kept.Secret, kept.Until.Sub(now))
	}
	http.SetCookie(w, cookie)
}

// Secret is the value of the session cookie, empty when there is none.
func (b *Browser) Secret(r *http.Request) string { return b.Read(r, sessionCookie) }

// Bearer answers the request with the access token of its session, where it has a session and no token of its own. Faults:
// CSRFTokenInvalid for a change that did not come from our own pages, TokenExpired for a session that has ended,
// ServiceUnavailable while sessions cannot be read.
func (b *Browser) Bearer(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	secret := b.Secret(r)
	if secret == "" || r.Header.Get("Authorization") != "" {
		return r, nil
	}
	if err := b.OwnPage(r, secret); err != nil {
		return r, err
	}
	found, err := b.Session(w, r)
	if err != nil {
		return r, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", bearerPrefix+found.Tokens.Access)
	return r, nil
}

// Follow answers by which secret a session is known by now that a connection was opened with. Faults: TokenExpired once it has ended.
// While sessions cannot be read it has not ended: the access token is good for as long as it is.
func (b *Browser) Follow(ctx context.Context, secret string) (string, error) {
	now, err := b.sessions.Follow(ctx, secret)
	if err != nil && !errors.Is(err, fault.TokenExpired) {
		return secret, nil
	}
	return now, err
}

// Session answers the session of a request's cookie, and gives the browser its new secret when it has one.
func (b *Browser) Session(w http.ResponseWriter, r *http.Request) (session.Session, error) {
	secret := b.Secret(r)
	found, err := b.sessions.Find(r.Context(), secret)
	switch {
	case errors.Is(err, fault.TokenExpired):
		b.Keep(w, nil, time.Now())
	case err == nil && found.Secret != secret:
		b.Keep(w, &found, time.Now())
	}
	return found, err
}

// OwnPage refuses a change that another site may have made the browser ask for: the browser must say that the page is ours,
// and the page must know the token that only ours can read.
func (b *Browser) OwnPage(r *http.Request, secret string) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if err := b.origins.Check(r); err != nil {
		return fault.Wrap(err, fault.CsrfTokenInvalid, "")
	}
	if !b.sessions.Matches(secret, r.Header.Get(HeaderCSRFToken)) {
		return fault.New(fault.CsrfTokenInvalid, "")
	}
	return nil
}

type exchangeKey struct{}

type exchange struct {
	w http.ResponseWriter
	r *http.Request
}

// WithExchange lets an operation that is about cookies reach them.
func WithExchange(w http.ResponseWriter, r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), exchangeKey{}, exchange{w, r}))
}

// Exchange is the request under way and its answer.
func Exchange(ctx context.Context) (http.ResponseWriter, *http.Request) {
	found, _ := ctx.Value(exchangeKey{}).(exchange)
	return found.w, found.r
}
