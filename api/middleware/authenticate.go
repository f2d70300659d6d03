package middleware

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
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

// Access is the first thing a rule says: who may call an operation at all.
type Access int

const (
	// Undecided is no rule: an operation that has it does not start.
	Undecided Access = iota
	// Public needs no token.
	Public
	// SignedIn needs the credential of a user or a service account.
	SignedIn
	// AdminOnly needs an operator of the platform.
	AdminOnly
)

type principalKey struct{}

// Principal is who makes the request; the zero value on a public operation.
func Principal(ctx context.Context) identity.Principal {
	principal, _ := ctx.Value(principalKey{}).(identity.Principal)
	return principal
}

// AuthenticatorConfig is what an authenticator stands on.
type AuthenticatorConfig struct {
	Pool     *pgxpool.Pool
	Verifier *oidc.Verifier
	// Currency is that of accounts made at a first sign-in.
	Currency string
	// ByApproval says whether somebody new waits for an operator's approval.
	ByApproval func(context.Context) (bool, error)
	// Welcome is told of everybody who was made a short while ago, whenever they are read from the database, with who they are
	// at their issuer; it may hear of the same person more than once.
	Welcome func(ctx context.Context, who identity.Principal, issuer, subject string, madeNow bool)
	// Departed says whether this request is a repeat of the one by which somebody deleted themselves; it is asked before they would be made anew.
	Departed func(ctx context.Context, issuer, subject string) (bool, error)
	Log      *slog.Logger
}

// ErrDeparted says that a request repeats the one by which its sender deleted themselves: it is answered as that was, to nobody.
var ErrDeparted = errors.New("they have deleted themselves by this request")

// Authenticator turns a credential into a principal, making user, tenant, default project and account at a first sign-in.
type Authenticator struct {
	config     AuthenticatorConfig
	identities *identities
	used       credentialUse
}

// newFor is how long somebody counts as new.
const newFor = 24 * time.Hour

const bearerPrefix = "Bearer "

// NewAuthenticator makes one; Run keeps what it remembers true.
func NewAuthenticator(config AuthenticatorConfig) *Authenticator {
	return &Authenticator{config: config, identities: newIdentities(config.Pool, config.Log)}
}

// Run listens to changes of identities until ctx ends. Without it every request reads the database.
func (a *Authenticator) Run(ctx context.Context) error { return a.identities.run(ctx) }

// Admit checks a request against the access of its operation and answers it with its principal. Faults: TokenMissing,
// TokenInvalid, TokenExpired, ApprovalPending, UserSuspended, AdminRequired, ServiceUnavailable; ErrDeparted.
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
	principal, err := a.bearer(r.Context(), strings.TrimSpace(authorization[len(bearerPrefix):]))
	if err != nil {
		return r, err
	}
	r = r.WithContext(context.WithValue(r.Context(), principalKey{}, principal))
	if access == AdminOnly && !principal.IsAdmin() {
		return r, fault.New(fault.AdminRequired, "")
	}
	return r, nil
}

func (a *Authenticator) bearer(ctx context.Context, token string) (identity.Principal, error) {
	if strings.HasPrefix(token, ownPrefix) {
		return a.credential(ctx, token)
	}
	claims, err := a.config.Verifier.Verify(ctx, token)
	if err != nil {
		return identity.Principal{}, err
	}
	return a.signIn(ctx, claims)
}

// signIn finds the user of a token, or makes it: a first sign-in is one transaction that two can race for.
func (a *Authenticator) signIn(ctx context.Context, claims oidc.Claims) (identity.Principal, error) {
	if departed, err := a.config.Departed(ctx, claims.Issuer, claims.Subject); err != nil {
		return identity.Principal{}, unavailable(err)
	} else if departed {
		return identity.Principal{}, ErrDeparted
	}
	now, key := time.Now(), "subject\x00"+claims.Issuer+"\x00"+claims.Subject
	wanted := queries.SignIn{
		Issuer: claims.Issuer, Subject: claims.Subject, Username: claims.Username, OrgID: claims.OrgID,
		Email: claims.Email, EmailVerified: claims.EmailVerified,
		Admin: slices.Contains(claims.Roles, identity.RoleAdmin), Currency: a.config.Currency,
	}
	found, hit, changes := a.identities.get(key, now)
	if hit && found.Follows(wanted) {
		return PrincipalOf(found, claims.Roles)
	}
	found, err := queries.FindIdentity(ctx, a.config.Pool, claims.Issuer, claims.Subject)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return identity.Principal{}, unavailable(err)
	}
	if err != nil || !found.Follows(wanted) {
		if found, err = a.ensure(ctx, wanted); err != nil {
			return identity.Principal{}, unavailable(err)
		}
	}
	principal, err := PrincipalOf(found, claims.Roles)
	if err == nil && now.Sub(found.User.CreatedAt) < newFor {
		a.config.Welcome(ctx, principal, claims.Issuer, claims.Subject, found.Created)
	}
	a.identities.put(key, found, now, changes)
	return principal, err
}

func (a *Authenticator) ensure(ctx context.Context, wanted queries.SignIn) (found queries.Identity, err error) {
	if wanted.Pending, err = a.config.ByApproval(ctx); err != nil {
		return found, err
	}
	wanted.TenantID, wanted.UserID = id.New[id.Tenant](entropy()), id.New[id.User](entropy())
	wanted.ProjectID, wanted.AccountID = id.New[id.Project](entropy()), id.New[id.Account](entropy())
	err = store.InTx(ctx, a.config.Pool, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = queries.EnsureIdentity(ctx, tx, wanted)
		return err
	})
	return found, err
}

// PrincipalOf is an identity as a caller: refused where it must not call, and without what its organisation no longer gives it. Faults:
// ApprovalPending, UserSuspended, TokenInvalid for somebody erased.
func PrincipalOf(found queries.Identity, roles []string) (identity.Principal, error) {
	switch found.User.Status {
	case queries.UserActive:
	case queries.UserPending:
		return identity.Principal{}, fault.New(fault.ApprovalPending, "")
	case queries.UserSuspended:
		return identity.Principal{}, fault.New(fault.UserSuspended, "")
	default:
		return identity.Principal{}, fault.New(fault.TokenInvalid, "")
	}
	principal := identity.Principal{
		UserID: found.User.ID, TenantID: found.User.TenantID, Username: found.User.Username, Roles: roles, Service: found.User.Kind == queries.UserService,
	}
	if found.User.PlatformAdmin && !slices.Contains(roles, identity.RoleAdmin) {
		principal.Roles = append(slices.Clone(roles), identity.RoleAdmin)
	}
	if home, there := found.Home(); there {
		principal.ProjectID, principal.AccountID = home.ProjectID, home.AccountID
	}
	elsewhere := map[id.Tenant]bool{}
	for _, tenant := range found.Tenants {
		elsewhere[tenant.TenantID] = tenant.OrgID != found.User.OrgID
		principal.Tenants = append(principal.Tenants, identity.Standing{
			TenantID: tenant.TenantID, Suspended: tenant.Status != queries.TenantActive,
			Closed: tenant.Status == queries.TenantClosed, ProjectID: tenant.ProjectID, AccountID: tenant.AccountID,
		})
	}
	for _, member := range found.Memberships {
		if member.Source == queries.MemberByOrganisation && elsewhere[member.TenantID] {
			continue // the issuer says that they left it
		}
		principal.Memberships = append(principal.Memberships, identity.Membership{TenantID: member.TenantID, ProjectID: member.ProjectID, Role: member.Role})
	}
	return principal, nil
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
