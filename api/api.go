// Package api says who may ask for what: Huma operations a noun, thin: parse, authorise, one call, render. It
// imports workflows for their contracts, internal for the outside things, schema/queries to read, and never activities.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/identity"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/evidence"
	"github.com/gpuaas/gpuaas/internal/ledgerchain"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/ratelimit"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/session"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// What a repeated X-Idempotency-Key does to an operation.
const (
	plain    = middleware.Unkeyed
	keyed    = middleware.Keyed
	required = middleware.KeyRequired
	ownKeys  = middleware.KeyOwn
)

// The budget that an operation draws on (docs/rate-limits.md).
const (
	unlimited = middleware.Unlimited
	general   = middleware.General
	financial = middleware.Financial
	overview  = middleware.AdminOverview
	anonymous = middleware.Anonymous
)

// route is one line of the table: an operation, where it is, who may call it and how often.
type route struct {
	operation, method, path string
	rule                    rule
	class                   middleware.Class
	key                     middleware.Idempotency
	status                  int
}

// routes is every operation there is. One that is not here, or has no rule or no class here, does not start.
var routes = []route{
	{"getHealth", "GET", "/healthz", public(), unlimited, plain, 200},
	{"getReadiness", "GET", "/readyz", public(), unlimited, plain, 200},

	// What a browser signs in by; see also signInPages.
	{"getSession", "GET", "/api/v1/auth/session", public(), anonymous, plain, 200},
	{"signOut", "POST", "/api/v1/auth/logout", public(), unlimited, plain, 204},
	{"logIn", "POST", "/api/v1/auth/login", public(), anonymous, plain, 200},
	{"refreshToken", "POST", "/api/v1/auth/token/refresh", public(), anonymous, plain, 200},

	{"getMe", "GET", "/api/v1/me", person(identity.ProfileRead), general, plain, 200},
	{"deleteMe", "DELETE", "/api/v1/me", person(identity.ProfileWrite), general, plain, 204},
	{"exportMe", "GET", "/api/v1/me/export", person(identity.ProfileRead), general, plain, 200},
	{"listUsers", "GET", "/api/v1/admin/users", operator(identity.PlatformRead), overview, plain, 200},
	{"createUser", "POST", "/api/v1/admin/users", operator(identity.PlatformWrite), general, keyed, 201},
	{"getUser", "GET", "/api/v1/admin/users/{user_id}", operator(identity.PlatformRead), overview, plain, 200},
	{"approveUser", "POST", "/api/v1/admin/users/{user_id}/approve", operator(identity.PlatformWrite), general, keyed, 200},
	{"suspendUser", "POST", "/api/v1/admin/users/{user_id}/suspend", operator(identity.PlatformWrite), general, keyed, 200},
	{"restoreUser", "POST", "/api/v1/admin/users/{user_id}/restore", operator(identity.PlatformWrite), general, keyed, 200},
	{"listPlatformAdmins", "GET", "/api/v1/admin/platform-admins", operator(identity.PlatformRead), overview, plain, 200},
	{"appointPlatformAdmin", "POST", "/api/v1/admin/platform-admins", operator(identity.PlatformWrite), general, keyed, 201},
	{"dismissPlatformAdmin", "POST", "/api/v1/admin/platform-admins/{user_id}/dismiss", operator(identity.PlatformWrite), general, keyed, 204},

	{"listTenants", "GET", "/api/v1/tenants", person(identity.ProfileRead), general, plain, 200},
	{"getTenant", "GET", "/api/v1/tenants/{tenant_id}", member(aTenant, identity.TenantRead), general, plain, 200},
	{"updateTenant", "PATCH", "/api/v1/tenants/{tenant_id}", member(aTenant, identity.TenantWrite), general, keyed, 200},
	{"listTenantMembers", "GET", "/api/v1/tenants/{tenant_id}/members", member(aTenant, identity.MembersRead), general, plain, 200},
	{"updateTenantMember", "PATCH", "/api/v1/tenants/{tenant_id}/members/{user_id}", member(aMember, identity.MembersWrite), general, keyed, 200},
	{"removeTenantMember", "DELETE", "/api/v1/tenants/{tenant_id}/members/{user_id}", member(aMember, identity.MembersWrite).orSelf().ending(), general, keyed, 204},
	{"exportTenant", "GET", "/api/v1/tenants/{tenant_id}/export", member(aTenant, identity.TenantOwn).ending().whenClosed(), general, plain, 200},
	{"closeTenant", "POST", "/api/v1/tenants/{tenant_id}/close", member(aTenant, identity.TenantOwn).whenClosed(), financial, keyed, 200},
	{"reopenTenant", "POST", "/api/v1/tenants/{tenant_id}/reopen", member(aTenant, identity.TenantOwn).whenClosed(), general, keyed, 200},
	{"adminCloseTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/close", operator(identity.PlatformWrite), financial, keyed, 200},
	{"adminReopenTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/reopen", operator(identity.PlatformWrite), general, keyed, 200},
	{"adminListTenants", "GET", "/api/v1/admin/tenants", operator(identity.PlatformRead), overview, plain, 200},
	{"createTenant", "POST", "/api/v1/admin/tenants", operator(identity.PlatformWrite), general, keyed, 201},
	{"adminGetTenant", "GET", "/api/v1/admin/tenants/{tenant_id}", operator(identity.PlatformRead), overview, plain, 200},
	{"setTenantOwner", "POST", "/api/v1/admin/tenants/{tenant_id}/owners", operator(identity.PlatformWrite), general, keyed, 200},
	{"suspendTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/suspend", operator(identity.PlatformWrite), general, keyed, 200},
	{"restoreTenant", "POST", "/api/v1/admin/tenants/{tenant_id}/restore", operator(identity.PlatformWrite), general, keyed, 200},
	{"listInvitations", "GET", "/api/v1/invitations", member(theTenant, identity.MembersRead), general, plain, 200},
	// Its answer holds a secret, so it is never stored: the token derives from the key instead.
	{"createInvitation", "POST", "/api/v1/invitations", member(theNamedPlace, identity.MembersWrite), general, plain, 201},
	{"revokeInvitation", "POST", "/api/v1/invitations/{invitation_id}/revoke", member(anInvitation, identity.MembersWrite).ending(), general, keyed, 200},
	{"acceptInvitation", "POST", "/api/v1/invitations/accept", person(identity.ProfileWrite), general, plain, 200},

	{"listProjects", "GET", "/api/v1/projects", member(theTenant, identity.ProjectsRead), general, plain, 200},
	{"createProject", "POST", "/api/v1/projects", member(theNamedTenant, identity.ProjectsWrite), general, keyed, 201},
	{"getProject", "GET", "/api/v1/projects/{project_id}", member(aProject, identity.ProjectsRead), general, plain, 200},
	{"updateProject", "PATCH", "/api/v1/projects/{project_id}", member(aProject, identity.ProjectsWrite), general, keyed, 200},
	{"archiveProject", "DELETE", "/api/v1/projects/{project_id}", member(aProject, identity.ProjectsWrite).ending(), general, keyed, 200},
	{"listProjectMembers", "GET", "/api/v1/projects/{project_id}/members", member(aProject, identity.MembersRead), general, plain, 200},
	{"putProjectMember", "PUT", "/api/v1/projects/{project_id}/members/{user_id}", member(aProjectMember, identity.MembersWrite), general, keyed, 200},
	{"removeProjectMember", "DELETE", "/api/v1/projects/{project_id}/members/{user_id}", member(aProjectMember, identity.MembersWrite).orSelf().ending(), general, keyed, 204},

	// Its answer is a secret: nothing of it is kept, and each request gets a token of its own.
	{tokenExchange, "POST", "/api/v1/auth/token", public(), anonymous, plain, 200},
	// Answers that hold a secret are never stored: the secret derives from the key instead.
	{"createToken", "POST", "/api/v1/tokens", person(identity.ProfileWrite), general, plain, 201},
	{"listTokens", "GET", "/api/v1/tokens", person(identity.ProfileRead), general, plain, 200},
	{"revokeToken", "DELETE", "/api/v1/tokens/{token_id}", person(identity.ProfileWrite), general, keyed, 200},
	{"createServiceAccount", "POST", "/api/v1/service-accounts", member(theNamedPlace, identity.ServiceAccountsWrite), general, keyed, 201},
	{"listServiceAccounts", "GET", "/api/v1/service-accounts", member(theTenant, identity.ServiceAccountsRead), general, plain, 200},
	{"getServiceAccount", "GET", "/api/v1/service-accounts/{service_account_id}", member(aServiceAccount, identity.ServiceAccountsRead), general, plain, 200},
	{"updateServiceAccount", "PATCH", "/api/v1/service-accounts/{service_account_id}", member(aServiceAccount, identity.ServiceAccountsWrite).ending(), general, keyed, 200},
	{"createServiceAccountSecret", "POST", "/api/v1/service-accounts/{service_account_id}/secrets", member(aServiceAccount, identity.ServiceAccountsWrite), general, plain, 201},
	{"revokeServiceAccountSecret", "DELETE", "/api/v1/service-accounts/{service_account_id}/secrets/{secret_id}", member(aServiceAccount, identity.ServiceAccountsWrite).ending(), general, keyed, 200},
	{"createSSHKey", "POST", "/api/v1/ssh-keys", member(theProject, identity.KeysWrite), general, keyed, 201},
	{"listSSHKeys", "GET", "/api/v1/ssh-keys", member(theTenant, identity.KeysRead), general, plain, 200},
	{"deleteSSHKey", "DELETE", "/api/v1/ssh-keys/{ssh_key_id}", owner(anSSHKey, identity.KeysWrite), general, keyed, 200},

	{"listTenantAudit", "GET", "/api/v1/tenants/{tenant_id}/audit", member(aTenant, identity.AuditRead), general, plain, 200},
	{"listAudit", "GET", "/api/v1/admin/audit", operator(identity.PlatformRead), overview, plain, 200},
	{"getAllocationEvidence", "GET", "/api/v1/allocations/{allocation_id}/evidence", member(anAllocation, identity.AuditRead).orSelf(), general, plain, 200},
	{"listEvidenceKeys", "GET", "/api/v1/evidence/keys", public(), anonymous, plain, 200},

	{"listSkus", "GET", "/api/v1/skus", person(identity.CatalogRead), general, plain, 200},
	{"getSku", "GET", "/api/v1/skus/{sku}", person(identity.CatalogRead), general, plain, 200},
	{"putSku", "PUT", "/api/v1/admin/skus/{sku}", operator(identity.PlatformWrite), general, keyed, 200},
	{"listSkuPrices", "GET", "/api/v1/admin/skus/{sku}/prices", operator(identity.PlatformRead), overview, plain, 200},
	{"addSkuPrice", "POST", "/api/v1/admin/skus/{sku}/prices", operator(identity.PlatformWrite), general, keyed, 201},

	{"createAllocation", "POST", "/api/v1/allocations", member(theProject, identity.AllocationsWrite), general, ownKeys, 201},
	{"listAllocations", "GET", "/api/v1/allocations", member(theTenant, identity.AllocationsRead), general, plain, 200},
	{"getAllocation", "GET", "/api/v1/allocations/{allocation_id}", member(anAllocation, identity.AllocationsRead), general, plain, 200},
	{"releaseAllocation", "POST", "/api/v1/allocations/{allocation_id}/release", owner(anAllocation, identity.AllocationsWrite).ending(), unlimited, keyed, 202},
	{"getAllocationTimeline", "GET", "/api/v1/allocations/{allocation_id}/timeline", member(anAllocation, identity.AllocationsRead), general, plain, 200},
	{"explainAllocation", "GET", "/api/v1/allocations/{allocation_id}/explain", member(anAllocation, identity.AllocationsRead), general, plain, 200},
	{"waitAllocation", "GET", "/api/v1/allocations/{allocation_id}/wait", member(anAllocation, identity.AllocationsRead), general, plain, 200},
	{"adminListAllocations", "GET", "/api/v1/admin/allocations", operator(identity.PlatformRead), overview, plain, 200},
	{"forceReleaseAllocation", "POST", "/api/v1/admin/allocations/{allocation_id}/force-release", operator(identity.PlatformWrite), unlimited, keyed, 202},

	{"getBalance", "GET", "/api/v1/billing/balance", member(theTenant, identity.BillingRead), unlimited, plain, 200},
	{"listLedgerEntries", "GET", "/api/v1/billing/ledger", member(theTenant, identity.BillingRead), general, plain, 200},
	{"listAccounts", "GET", "/api/v1/admin/accounts", operator(identity.PlatformRead), overview, plain, 200},
	{"verifyLedger", "GET", "/api/v1/admin/ledger/verification", operator(identity.PlatformRead), overview, plain, 200},
	{"getAccountBalance", "GET", "/api/v1/admin/accounts/{account_id}/balance", operator(identity.PlatformRead), unlimited, plain, 200},
	{"listRefundsDue", "GET", "/api/v1/admin/refunds-due", operator(identity.PlatformRead), overview, plain, 200},
	{"createAdjustment", "POST", "/api/v1/admin/accounts/{account_id}/adjustments", operator(identity.PlatformWrite), financial, required, 201},

	{"listNodes", "GET", "/api/v1/admin/nodes", operator(identity.PlatformRead), overview, plain, 200},
	// Its answer holds a secret, so it is never stored: the token derives from the key instead.
	{"createNodeEnrolToken", "POST", "/api/v1/admin/nodes/enrol-tokens", operator(identity.PlatformWrite), general, plain, 201},
	{"getNode", "GET", "/api/v1/admin/nodes/{node_id}", operator(identity.PlatformRead), overview, plain, 200},
	{"cordonNode", "POST", "/api/v1/admin/nodes/{node_id}/cordon", operator(identity.PlatformWrite), general, keyed, 200},
	{"uncordonNode", "POST", "/api/v1/admin/nodes/{node_id}/uncordon", operator(identity.PlatformWrite), general, keyed, 200},
	{"drainNode", "POST", "/api/v1/admin/nodes/{node_id}/drain", operator(identity.PlatformWrite), general, keyed, 200},
	{"quarantineNode", "POST", "/api/v1/admin/nodes/{node_id}/quarantine", operator(identity.PlatformWrite), general, keyed, 200},
	{"unquarantineNode", "POST", "/api/v1/admin/nodes/{node_id}/unquarantine", operator(identity.PlatformWrite), general, keyed, 200},
	{"denyNode", "POST", "/api/v1/admin/nodes/{node_id}/deny", operator(identity.PlatformWrite), general, keyed, 200},

	{"listPolicies", "GET", "/api/v1/admin/policies", operator(identity.PlatformRead), overview, plain, 200},
	{"getPolicy", "GET", "/api/v1/admin/policies/{key}", operator(identity.PlatformRead), overview, plain, 200},
	{"setPolicy", "PUT", "/api/v1/admin/policies/{key}", operator(identity.PlatformWrite), general, keyed, 200},
	{"setPolicies", "PUT", "/api/v1/admin/policies", operator(identity.PlatformWrite), general, keyed, 200},
	{"listPolicyVersions", "GET", "/api/v1/admin/policies/{key}/history", operator(identity.PlatformRead), overview, plain, 200},
	{"rollbackPolicy", "POST", "/api/v1/admin/policies/{key}/rollback", operator(identity.PlatformWrite), general, keyed, 200},

	{"listTenantPolicies", "GET", "/api/v1/admin/tenants/{tenant_id}/policies", operator(identity.PlatformRead), overview, plain, 200},
	{"setTenantPolicies", "PUT", "/api/v1/admin/tenants/{tenant_id}/policies", operator(identity.PlatformWrite), general, keyed, 200},
	{"listTenantPolicyVersions", "GET", "/api/v1/admin/tenants/{tenant_id}/policies/{key}/history", operator(identity.PlatformRead), overview, plain, 200},
	{"listTenantPrices", "GET", "/api/v1/admin/tenants/{tenant_id}/prices", operator(identity.PlatformRead), overview, plain, 200},
	{"setTenantPrice", "POST", "/api/v1/admin/tenants/{tenant_id}/prices", operator(identity.PlatformWrite), general, keyed, 201},
}

// Config is what the API stands on.
type Config struct {
	Pool   *pgxpool.Pool
	Redis  *redis.Client
	Policy *policy.Client
	// Temporal answers the client, nil while the cluster was not reached yet.
	Temporal func() client.Client
	Verifier *oidc.Verifier
	SignIn   SignIn
	// TemporalUI is where Temporal's own UI listens, which operators reach through the API; nil serves none.
	TemporalUI *url.URL
	// IDSecret derives ids from idempotency keys; the same on every replica, for ever.
	IDSecret []byte
	// Proxies are believed when they say whom a request comes from.
	Proxies middleware.TrustedProxies
	// Currency is that of accounts made at a first sign-in.
	Currency string
	// Chain is the hash chain over the ledger.
	Chain *ledgerchain.Chain
	// Evidence signs what is proven; nil where the platform has no key for it.
	Evidence *evidence.Keys
	Version  string
	Log      *slog.Logger
	// Tracing makes a span of every request; nil while tracing is off.
	Tracing *telemetry.Tracing
	Now     func() time.Time
}

type server struct {
	config   Config
	table    []route
	mux      *http.ServeMux
	huma     huma.API
	auth     *middleware.Authenticator
	limits   *middleware.RateLimits
	sessions *session.Store
	browser  *middleware.Browser
	memory   *middleware.Memory
	served   map[string]bool
	mistakes []error
}

// API is the public API: a handler, and what keeps it true while it serves.
type API struct {
	http.Handler
	auth *middleware.Authenticator
}

// Run listens to changes of identities until ctx ends, so that a suspension or a lost role counts at once.
func (a *API) Run(ctx context.Context) error { return a.auth.Run(ctx) }

// signUpByApproval is the value of identity.sign_up that makes newcomers wait.
const signUpByApproval = "approval"

// New makes the whole public API. An operation without a line or a rule in the table, and a line without
// an operation, are errors.
func New(config Config) (*API, error) {
	s := newServer(config, routes)
	s.operations()
	if err := s.complete(); err != nil {
		return nil, err
	}
	s.signInPages()
	s.temporalUI()
	if err := s.documentation(); err != nil {
		return nil, err
	}
	router := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// An address that is not written as it should be is no other address: nobody is sent elsewhere.
		if _, pattern := s.mux.Handler(r); pattern == "" || untidy(r.URL.Path) {
			middleware.Unmatched(config.Log, s.mux, w, r)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
	traced := middleware.Trace(config.Tracing, middleware.Log(config.Log, router))
	return &API{Handler: middleware.Correlate(traced), auth: s.auth}, nil
}

// OpenAPI is the contract as the code serves it, in YAML, for the test that holds it beside the authored one.
func OpenAPI() ([]byte, error) {
	s := newServer(Config{Log: slog.New(slog.DiscardHandler)}, routes)
	s.operations()
	if err := s.complete(); err != nil {
		return nil, err
	}
	return s.huma.OpenAPI().YAML()
}

func newServer(config Config, table []route) *server {
	shapeHuma()
	s := &server{config: config, table: table, mux: http.NewServeMux(), served: map[string]bool{}}
	s.auth = middleware.NewAuthenticator(middleware.AuthenticatorConfig{
		Pool: config.Pool, Verifier: config.Verifier, Currency: config.Currency, Welcome: s.welcome, Log: config.Log,
		ByApproval: func(ctx context.Context) (bool, error) {
			how, err := config.Policy.String(ctx, authored.IdentitySignUp)
			return how == signUpByApproval, err
		},
	})
	s.sessions = session.NewStore(config.Redis, config.IDSecret, config.SignIn.Web, s.sessionLimits, config.Now)
	browser, err := middleware.NewBrowser(s.sessions, config.SignIn.PublicURL)
	if err != nil {
		s.mistakes = append(s.mistakes, fmt.Errorf("the public URL %q: %w", config.SignIn.PublicURL, err))
	}
	s.browser = browser
	s.memory = &middleware.Memory{Pool: config.Pool, Log: config.Log, Retention: func(ctx context.Context) (time.Duration, error) {
		hours, err := config.Policy.Int(ctx, authored.IdempotencyRetentionHours)
		return time.Duration(hours) * time.Hour, err
	}}
	s.limits = &middleware.RateLimits{Limiter: ratelimit.New(config.Redis, config.Log), Limit: s.limitFor, Proxies: config.Proxies}
	s.huma = humago.New(s, humaConfig(config.Version))
	return s
}

// HandleFunc guards every operation that Huma registers, by its line in the table.
func (s *server) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	for _, line := range s.table {
		if line.method+" "+line.path == pattern {
			next := http.Handler(http.HandlerFunc(handler))
			if line.operation == tokenExchange {
				next = acceptClientCredentials(s.config.Log, next)
			}
			s.mux.Handle(pattern, s.guard(line, next))
			return
		}
	}
	s.mistakes = append(s.mistakes, fmt.Errorf("%s is served and not in the table of routes", pattern))
}

// ServeHTTP is the bare router.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// guard lets a request through to its operation when its line of the table does. The order is what an outsider can learn: first
// that a credential is needed, then that it is not good for this or used too often, then that the object is not theirs, then everything else.
func (s *server) guard(line route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		changes := r.Method != http.MethodGet && r.Method != http.MethodHead
		r, err := s.signIn(w, withSubject(r, line), line)
		if err == nil && changes {
			err = middleware.BufferBody(w, r)
		}
		if err == nil {
			err = refuseEmpty(r)
		}
		if err == nil {
			err = refuseUnkept(r, changes)
		}
		if err == nil {
			r, err = s.authorise(r, line)
		}
		if err != nil {
			s.auditRefusal(r, line, err)
			middleware.WriteFault(w, r, s.config.Log, err)
			return
		}
		if !changes {
			next.ServeHTTP(w, r)
			return
		}
		s.memory.Serve(w, r, line.operation, line.key, next)
	})
}

// signIn authenticates a request within the budgets of its address and of whoever makes it.
func (s *server) signIn(w http.ResponseWriter, r *http.Request, line route) (*http.Request, error) {
	if err := s.limits.BeforeSignIn(w, r, line.class); err != nil {
		return r, err
	}
	r, err := s.admitted(w, r, line.rule.access)
	if err != nil {
		return r, s.limits.SignInRefused(w, r, line.class, err)
	}
	return r, s.limits.Admit(w, r, line.class)
}

// admitted lets a browser's session stand in for a bearer token wherever one is asked for.
func (s *server) admitted(w http.ResponseWriter, r *http.Request, access middleware.Access) (*http.Request, error) {
	r = middleware.WithExchange(w, r)
	if access != middleware.Public {
		carrying, err := s.browser.Bearer(w, r)
		if err != nil {
			return r, err
		}
		r = carrying
	}
	return s.auth.Admit(r, access)
}

// handle binds an operation's function to its line in the table.
func handle[In, Out any](s *server, operation string, do func(context.Context, *In) (*Out, error)) {
	for _, line := range s.table {
		if line.operation != operation {
			continue
		}
		if !line.rule.decided() {
			s.mistakes = append(s.mistakes, fmt.Errorf("%s has no rule", operation))
			return
		}
		if line.class == middleware.Unclassed {
			s.mistakes = append(s.mistakes, fmt.Errorf("%s has no class of rate limit", operation))
			return
		}
		s.served[operation] = true
		security := []map[string][]string{{"bearer": {}}}
		if line.rule.access == middleware.Public {
			security = []map[string][]string{}
		}
		huma.Register(s.huma, huma.Operation{
			Security: security, Errors: line.refusals(takesBody[In]()),
			OperationID: line.operation, Method: line.method, Path: line.path, DefaultStatus: line.status, MaxBodyBytes: middleware.MaxBodyBytes,
		}, func(ctx context.Context, in *In) (*Out, error) {
			out, err := do(ctx, in)
			if err != nil {
				s.auditOutcome(ctx, line, err)
				return nil, s.refuse(ctx, operation, err)
			}
			return out, nil
		})
		return
	}
	s.mistakes = append(s.mistakes, fmt.Errorf("%s is not in the table of routes", operation))
}

// complete says what the table and the operations disagree about.
func (s *server) complete() error {
	for _, line := range s.table {
		if !s.served[line.operation] {
			s.mistakes = append(s.mistakes, fmt.Errorf("%s is in the table of routes and not served", line.operation))
		}
	}
	return errors.Join(s.mistakes...)
}

func (s *server) operations() {
	s.healthOperations()
	s.sessionOperations()
	s.identityOperations()
	s.tokenOperations()
	s.serviceAccountOperations()
	s.sshKeyOperations()
	s.auditOperations()
	s.tenantOperations()
	s.operatedTenantOperations()
	s.platformAdminOperations()
	s.closingOperations()
	s.invitationOperations()
	s.projectOperations()
	s.skuOperations()
	s.allocationOperations()
	s.billingOperations()
	s.ledgerChainOperations()
	s.nodeOperations()
	s.policyOperations()
	s.overrideOperations()
	s.completeContract()
}

var shapedOnce sync.Once

// shapeHuma sets what Huma keeps in variables of its package.
func shapeHuma() {
	shapedOnce.Do(func() {
		huma.DefaultArrayNullable = false
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			return fromHuma(context.Background(), status, message, errs)
		}
		huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
			return fromHuma(ctx.Context(), status, message, errs)
		}
	})
}

func humaConfig(version string) huma.Config {
	config := huma.DefaultConfig("GPUaaS", version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	return config
}
