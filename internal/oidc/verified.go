package oidc

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// mostVerified bounds the memory for tokens that were found good, some twenty megabytes.
const mostVerified = 50_000

// verified remembers the claims of tokens whose signature was checked, by the hash of the token, so that a token is judged once
// and not with each request. What it remembers holds for one reading of the issuer's keys and until the token expires: a key
// that the issuer takes back takes its tokens with it. Who a subject is by now, it does not know and is not asked.
type verified struct {
	mutex  sync.RWMutex
	set    jwk.Set
	claims map[[sha256.Size]byte]Claims
}

func (v *verified) get(token [sha256.Size]byte, set jwk.Set, now time.Time) (Claims, bool) {
	v.mutex.RLock()
	defer v.mutex.RUnlock()
	if set == nil || v.set != set {
		return Claims{}, false
	}
	claims, known := v.claims[token]
	return claims, known && now.Before(claims.Expires)
}

func (v *verified) put(token [sha256.Size]byte, set jwk.Set, claims Claims) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if v.set != set || len(v.claims) >= mostVerified {
		v.set, v.claims = set, map[[sha256.Size]byte]Claims{}
	}
	v.claims[token] = claims
}

// Verify judges a token: fault.TokenExpired for one that was good, fault.TokenInvalid for any other refusal, and
// fault.ServiceUnavailable while the issuer's keys were never read. The claims are shared: nobody may change them.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	hash, set := sha256.Sum256([]byte(token)), v.keys.atHand()
	if claims, known := v.verified.get(hash, set, v.now()); known {
		return claims, nil
	}
	claims, err := v.judge(ctx, token)
	// Keys that were read meanwhile may lack the one that this token was judged by.
	if err == nil && set != nil && v.keys.atHand() == set {
		v.verified.put(hash, set, claims)
	}
	return claims, err
}
