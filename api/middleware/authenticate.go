package middleware

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// Access is the rule of an operation: who may call it at all. Whose object it is about, its handler decides.
type Access int

const (
	// Undecided is no rule: an operation that has it does not start.
	Undecided Access = iota
	// Public needs no token.
	Public
	// SignedIn needs a valid token of a user.
	SignedIn
	// AdminOnly needs the platform's admin role.
	AdminOnly
)

type principalKey struct{}

// Principal is who makes the request; the zero value on a public operation.
func Principal(ctx context.Context) identity.Principal {
	principal, _ := ctx.Value(principalKey{}).(identity.Principal)
	return principal
}

// Authenticator turns a bearer token into a principal, making user, personal tenant, default project and account at
// the first sign-in.
type Authenticator struct {
	pool     *pgxpool.Pool
	verifier *oidc.Verifier
	currency string
	// welcome is told of everybody who was made a short while ago, whenever they are read from the database.
	welcome func(ctx context.Context, who identity.Principal, madeNow bool)

	mutex sync.RWMutex
	known map[string]knownUser
}

type knownUser struct {
	principal identity.Principal
	until     time.Time
}

const (
	// newFor is how long somebody counts as new.
	newFor       = 24 * time.Hour
	knownFor     = time.Minute
	knownAtMost  = 50_000
	bearerPrefix = "Bearer "
)

// NewAuthenticator makes one; currency is that of accounts made at a first sign-in. welcome may hear of the same
// person more than once.
func NewAuthenticator(pool *pgxpool.Pool, verifier *oidc.Verifier, currency string, welcome func(ctx context.Context, who identity.Principal, madeNow bool)) *Authenticator {
	return &Authenticator{pool: pool, verifier: verifier, currency: currency, welcome: welcome, known: map[string]knownUser{}}
}

// Admit checks a request against a rule and answers it with its principal. Faults: TokenMissing, TokenInvalid,
// TokenExpired, AdminRequired, UpstreamError, ServiceUnavailable.
func (a *Authenticator) Admit(r *http.Request, access Access) (*http.Request, error) {
	if access == Public {
		return r, nil
	}
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return r, fault.New(fault.TokenMissing, "")
	}
	if len(authorization) <= len(bearerPrefix) || !strings.EqualFold(authorization[:len(bearerPrefix)], bearerPrefix) {
		return r, fault.New(fault.TokenInvalid, "The Authorization header must carry a bearer token.")
	}
	claims, err := a.verifier.Verify(r.Context(), strings.TrimSpace(authorization[len(bearerPrefix):]))
	if err != nil {
		return r, err
	}
	principal, err := a.principal(r.Context(), claims)
	if err != nil {
		return r, err
	}
	if access == AdminOnly && !principal.IsAdmin() {
		return r, fault.New(fault.AdminRequired, "")
	}
	return r.WithContext(context.WithValue(r.Context(), principalKey{}, principal)), nil
}

func (a *Authenticator) principal(ctx context.Context, claims oidc.Claims) (identity.Principal, error) {
	now, key := time.Now(), claims.Issuer+"\x00"+claims.Subject
	a.mutex.RLock()
	cached, hit := a.known[key]
	a.mutex.RUnlock()
	if hit && now.Before(cached.until) && cached.principal.Username == claims.Username {
		principal := cached.principal
		principal.Roles = claims.Roles // roles are the token's, never the cache's
		return principal, nil
	}
	signedIn, err := a.signIn(ctx, claims)
	if err != nil {
		return identity.Principal{}, err
	}
	principal := identity.Principal{
		UserID: signedIn.User.ID, TenantID: signedIn.User.TenantID, ProjectID: signedIn.Project.ID, AccountID: signedIn.Account.ID,
		Username: claims.Username, Roles: claims.Roles,
	}
	if now.Sub(signedIn.User.CreatedAt) < newFor {
		a.welcome(ctx, principal, signedIn.Created)
	}
	a.mutex.Lock()
	if len(a.known) >= knownAtMost {
		clear(a.known)
	}
	a.known[key] = knownUser{principal: principal, until: now.Add(knownFor)}
	a.mutex.Unlock()
	return principal, nil
}

// signIn finds the user of a token, or makes it: a first sign-in is one transaction that two can race for.
func (a *Authenticator) signIn(ctx context.Context, claims oidc.Claims) (queries.SignedIn, error) {
	found, err := queries.FindSignedIn(ctx, a.pool, claims.Issuer, claims.Subject)
	switch {
	case err == nil:
		if found.User.Username != claims.Username {
			err = queries.RenameUser(ctx, a.pool, found.User.TenantID, found.User.ID, claims.Username)
		}
		return found, unavailable(err)
	case !errors.Is(err, pgx.ErrNoRows):
		return found, unavailable(err)
	}
	err = store.InTx(ctx, a.pool, func(ctx context.Context, tx pgx.Tx) error {
		made, err := queries.EnsureSignedIn(ctx, tx, queries.SignIn{
			Issuer: claims.Issuer, Subject: claims.Subject, Username: claims.Username, Currency: a.currency,
			TenantID: id.New[id.Tenant](entropy()), UserID: id.New[id.User](entropy()),
			ProjectID: id.New[id.Project](entropy()), AccountID: id.New[id.Account](entropy()),
		})
		found = made
		return err
	})
	return found, unavailable(err)
}

// unavailable says that it is the database, and not the caller, who is at fault.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(err, fault.ServiceUnavailable, "")
}

func entropy() (random [16]byte) {
	_, _ = rand.Read(random[:]) // never fails since Go 1.24
	return random
}
