package nodeapi

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// idleBudget is how long a key that does not ask is remembered, and maxBudgets how many are.
	idleBudget = 10 * time.Minute
	maxBudgets = 100_000
)

// budgets bound how often each of many callers may ask: nodes by their id, strangers by their address.
type budgets struct {
	mu        sync.Mutex
	perSecond rate.Limit
	burst     int
	byKey     map[string]*budget
	lastSweep time.Time
}

type budget struct {
	limiter  *rate.Limiter
	lastUsed time.Time
}

func newBudgets(perSecond rate.Limit, burst int) *budgets {
	return &budgets{perSecond: perSecond, burst: burst, byKey: map[string]*budget{}}
}

// allow takes one request from the key's budget. When more keys ask than can be remembered, new ones are refused:
// that many strangers are an attack, and those already known go on.
func (b *budgets) allow(key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.lastSweep) > idleBudget {
		for known, one := range b.byKey {
			if now.Sub(one.lastUsed) > idleBudget {
				delete(b.byKey, known)
			}
		}
		b.lastSweep = now
	}
	one := b.byKey[key]
	if one == nil {
		if len(b.byKey) >= maxBudgets {
			return false
		}
		one = &budget{limiter: rate.NewLimiter(b.perSecond, b.burst)}
		b.byKey[key] = one
	}
	one.lastUsed = now
	return one.limiter.AllowN(now, 1)
}

// addressOf is whose budget a stranger's request counts against: its IPv4 address or its IPv6 network of 64 bits.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	address, err := netip.ParseAddr(host)
	if err != nil || address.Unmap().Is4() {
		return host
	}
	network, err := address.Prefix(64)
	if err != nil {
		return host
	}
	return network.String()
}
