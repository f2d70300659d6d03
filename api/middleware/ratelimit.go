package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/ratelimit"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// Class is the budget that an operation draws on.
type Class int

const (
	// Unclassed is no class: an operation that has it does not start.
	Unclassed Class = iota
	// Unlimited operations are never refused: they end what costs money or show what it has cost, or a balancer asks them.
	Unlimited
	// General operations draw on the budget of whoever is signed in.
	General
	// TerminalTokens are the minting of terminal tokens.
	TerminalTokens
	// Financial operations move money.
	Financial
	// AdminOverview is what an administrator's console polls.
	AdminOverview
	// Anonymous operations need no credential: the caller's address pays.
	Anonymous
	// Webhooks are what the payment provider tells: its address pays, from a budget of its own.
	Webhooks
)

// Headers of draft-ietf-httpapi-ratelimit-headers.
const (
	HeaderRateLimit       = "RateLimit"
	HeaderRateLimitPolicy = "RateLimit-Policy"
)

// budget is what a class allows: a policy key, and what holds while Redis is away.
type budget struct {
	name string
	key  policy.IntKey
	away ratelimit.Away
}

// budget of a class; none for one that is not limited. Reading on while Redis is away does no harm; guessing credentials, moving
// money and opening terminals might.
func (c Class) budget() (budget, bool) {
	switch c {
	case General:
		return budget{"api", policy.RateLimitAPIRequestsPerMinute, ratelimit.Lenient}, true
	case AdminOverview:
		return budget{"admin_overview", policy.RateLimitAdminOverviewRequestsPerMinute, ratelimit.Lenient}, true
	case TerminalTokens:
		return budget{"terminal_token", policy.RateLimitTerminalTokenRequestsPerMinute, ratelimit.Strict}, true
	case Financial:
		return budget{"financial", policy.RateLimitFinancialRequestsPerMinute, ratelimit.Strict}, true
	case Anonymous:
		return budget{"unauthenticated", policy.RateLimitUnauthenticatedRequestsPerMinute, ratelimit.Strict}, true
	case Webhooks:
		return budget{"webhook", policy.RateLimitWebhookRequestsPerMinute, ratelimit.Lenient}, true
	default:
		return budget{}, false
	}
}

// Budgets names the budgets there are.
func Budgets() []string {
	var names []string
	for class := Unclassed; class <= Webhooks; class++ {
		if drawn, limited := class.budget(); limited {
			names = append(names, drawn.name)
		}
	}
	return names
}

// RateLimits hold callers to the budgets of the policy.
type RateLimits struct {
	Limiter *ratelimit.Limiter
	// Limit reads how many requests a minute a key allows; on an error its default holds.
	Limit   func(context.Context, policy.IntKey) (int64, error)
	Proxies TrustedProxies
	// Refusals counts what was refused, by budget.
	Refusals telemetry.Counter
}

// BeforeSignIn refuses, with fault.RateLimitExceeded, an address whose budget for failed sign-ins is known to be used up, before its
// credential is looked at. An operation that is never refused is looked at all the same: its caller may be in the right.
func (l *RateLimits) BeforeSignIn(w http.ResponseWriter, r *http.Request, class Class) error {
	if class == Unlimited || class == Anonymous || class == Webhooks {
		return nil
	}
	anonymous, _ := Anonymous.budget()
	decision, refused := l.Limiter.Refused(l.addressBucket(anonymous, r), l.limit(r.Context(), anonymous))
	if !refused {
		return nil
	}
	return l.answer(w, r, anonymous, decision)
}

// SignInRefused draws a refused sign-in on a budget: that of whoever is known, who may not do this, or else that of the address. It
// answers what the caller gets: refusal, or fault.RateLimitExceeded.
func (l *RateLimits) SignInRefused(w http.ResponseWriter, r *http.Request, class Class, refusal error) error {
	var found *fault.Error
	if !errors.As(refusal, &found) {
		return refusal
	}
	switch status := found.Code.HTTPStatus(); {
	case status != http.StatusUnauthorized && status != http.StatusForbidden:
		return refusal // our own trouble is not theirs
	case Principal(r.Context()).UserID != "":
		return cmp.Or(l.Admit(w, r, class), refusal)
	default:
		return cmp.Or(l.address(w, r), refusal)
	}
}

// Admit draws a request on the budget of its class: the address's for an anonymous one, else the principal's, whether a user or
// a service account. The answer's headers say what is left. Fault: RateLimitExceeded.
func (l *RateLimits) Admit(w http.ResponseWriter, r *http.Request, class Class) error {
	if class == Anonymous {
		return l.address(w, r)
	}
	drawn, limited := class.budget()
	if !limited {
		return nil
	}
	bucket := drawn.name + ":" + string(Principal(r.Context()).UserID)
	if class == Webhooks {
		bucket = l.addressBucket(drawn, r)
	}
	return l.answer(w, r, drawn, l.Limiter.Take(r.Context(), bucket, l.limit(r.Context(), drawn), drawn.away))
}

func (l *RateLimits) address(w http.ResponseWriter, r *http.Request) error {
	drawn, _ := Anonymous.budget()
	return l.answer(w, r, drawn, l.Limiter.Take(r.Context(), l.addressBucket(drawn, r), l.limit(r.Context(), drawn), drawn.away))
}

// addressBucket is that of an IPv4 address or of an IPv6 network of 64 bits, which one household has.
func (l *RateLimits) addressBucket(drawn budget, r *http.Request) string {
	address := l.Proxies.Client(r)
	if address.Is6() {
		return drawn.name + ":" + netip.PrefixFrom(address, 64).Masked().String()
	}
	return drawn.name + ":" + address.String()
}

func (l *RateLimits) limit(ctx context.Context, drawn budget) int64 {
	limit, err := l.Limit(ctx, drawn.key)
	if err != nil {
		return drawn.key.Default
	}
	return limit
}

// answer writes the headers of a decision and answers the fault of a refusal.
func (l *RateLimits) answer(w http.ResponseWriter, r *http.Request, drawn budget, decision ratelimit.Decision) error {
	reset := seconds(decision.Reset)
	if !decision.Allowed {
		reset = max(1, seconds(decision.RetryAfter))
		w.Header().Set("Retry-After", fmt.Sprint(reset))
	}
	w.Header().Set(HeaderRateLimitPolicy, fmt.Sprintf("%q;q=%d;w=%d", drawn.name, decision.Limit, int(ratelimit.Window.Seconds())))
	w.Header().Set(HeaderRateLimit, fmt.Sprintf("%q;r=%d;t=%d", drawn.name, decision.Remaining, reset))
	if decision.Allowed {
		return nil
	}
	l.Refusals.Add(r.Context(), 1, drawn.name)
	return fault.New(fault.RateLimitExceeded, "").With(map[string]any{"budget": drawn.name, "limit": decision.Limit, "retry_after_seconds": reset})
}

// seconds rounds up: a client that waits them finds what it was told.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
