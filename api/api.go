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
	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/api/middleware"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/evidence"
	"github.com/gpuaas/gpuaas/internal/ledgerchain"
	"github.com/gpuaas/gpuaas/internal/notify"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/ratelimit"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/session"
	"github.com/gpuaas/gpuaas/internal/statement"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/webhook"
)

// Config is what the API stands on.
type Config struct {
	Pool   *pgxpool.Pool
	Redis  *redis.Client
	Policy *policy.Client
	// Letters are the dead letters of the event bus; nil where there is none.
	Letters letterBox
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
	// WebhookSecrets hold Stripe's webhooks to their signatures; without one the platform takes no payments.
	WebhookSecrets []string
	// WebhookKeys seal the secrets of customers' endpoints; nil where the platform sends no webhooks. WebhookGuard refuses addresses early that
	// the sender would not ask.
	WebhookKeys  *webhook.Keys
	WebhookGuard rules.Guard
	// Evidence signs what is proven; nil where the platform has no key for it.
	Evidence *evidence.Keys
	Version  string
	Log      *slog.Logger
	// Meter measures requests; nil where nobody asks for what it measures.
	Meter *telemetry.Meter
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
	bell     *notify.Bell
	// ending is closed when the API stops serving.
	ending chan struct{}
	// statements reads what happened to accounts out of the ledger.
	statements *statement.Reader
	// What is measured beside requests: open sockets, those that were too slow, and webhooks of Stripe by outcome.
	sockets                     telemetry.Level
	slowReaders, stripeWebhooks telemetry.Counter
}

// API is the public API: a handler, and what keeps it true while it serves.
type API struct {
	http.Handler
	auth   *middleware.Authenticator
	bell   *notify.Bell
	ending chan struct{}
}

// Run keeps what the API knows true while it serves: changes of identities, so that a suspension or a lost role counts at once, and the
// bell of notifications. When ctx ends, open connections are told. It runs once.
func (a *API) Run(ctx context.Context) error {
	defer close(a.ending)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.auth.Run(ctx) })
	group.Go(func() error { return a.bell.Run(ctx) })
	return group.Wait()
}

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
	s.notificationsSocket()
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
	measured := middleware.Measure(config.Meter, s.operationsByPattern(), middleware.Log(config.Log, router))
	traced := middleware.Trace(config.Tracing, measured)
	return &API{Handler: middleware.Correlate(traced), auth: s.auth, bell: s.bell, ending: s.ending}, nil
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
	s := &server{config: config, table: table, mux: http.NewServeMux(), served: map[string]bool{}, bell: notify.NewBell(config.Redis), ending: make(chan struct{})}
	s.auth = middleware.NewAuthenticator(middleware.AuthenticatorConfig{
		Pool: config.Pool, Verifier: config.Verifier, Currency: config.Currency, Welcome: s.welcome, Departed: s.departed, Log: config.Log,
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
	s.limits = &middleware.RateLimits{
		Limiter: ratelimit.New(config.Redis, config.Log), Limit: s.limitFor, Proxies: config.Proxies, Refusals: config.Meter.Counter(telemetry.RateLimitRefusals).FromZero(middleware.Budgets()...),
	}
	s.sockets, s.slowReaders = config.Meter.Level(telemetry.NotificationSockets), config.Meter.Counter(telemetry.NotificationSlowReaders)
	s.stripeWebhooks = config.Meter.Counter(telemetry.StripeWebhooks).FromZero(webhookAccepted, webhookRepeated, webhookIgnored, webhookRefused, webhookError)
	s.statements = statement.NewReader(config.Pool, config.Now)
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

// operationsByPattern names the operation of each route's pattern.
func (s *server) operationsByPattern() map[string]string {
	named := map[string]string{"GET " + SocketPath: socketRoute.operation}
	for _, line := range s.table {
		named[line.method+" "+line.path] = line.operation
	}
	return named
}

// ServeHTTP is the bare router.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// guard lets a request through to its operation when its line of the table does. The order is what an outsider can learn: first
// that a credential is needed, then that it is not good for this or used too often, then that the object is not theirs, then everything else.
func (s *server) guard(line route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		changes := r.Method != http.MethodGet && r.Method != http.MethodHead
		r, err := s.signIn(w, withDeparture(withSubject(r, line), line), line)
		if errors.Is(err, middleware.ErrDeparted) {
			w.Header().Set(middleware.HeaderReplayed, "true")
			w.WriteHeader(line.status)
			return
		}
		if err == nil && changes {
			err = middleware.BufferBody(w, r)
		}
		if err == nil {
			err = refuseEmpty(r)
		}
		if err == nil && line.operation != receiveWebhook { // its bytes are looked at by nobody before their signature
			err = refuseUnkept(r, changes)
		}
		if err == nil {
			r, err = s.authorise(r, line)
		}
		if err != nil {
			if changes && s.mayHaveBeenAnswered(r, line, err) && s.memory.Replay(w, r, line.operation, line.key) {
				return
			}
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
			SkipValidateBody: line.operation == receiveWebhook, // it is nobody's before its signature was verified
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
	s.budgetOperations()
	s.skuOperations()
	s.allocationOperations()
	s.billingOperations()
	s.statementOperations()
	s.paymentOperations()
	s.cardOperations()
	s.receiptOperations()
	s.refundOperations()
	s.ledgerChainOperations()
	s.reconciliationOperations()
	s.nodeOperations()
	s.policyOperations()
	s.overrideOperations()
	s.outboxOperations()
	s.deadLetterOperations()
	s.notificationOperations()
	s.webhookOperations()
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
