package oidc_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/oidc"
)

func TestAFloodOfUnknownKeysReadsTheIssuerOnceInThirtySeconds(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	verifier := newVerifier(i, now)
	if err := verifier.Keys().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	flood := func() {
		verifyAll(t, verifier, forged(t, i, now, 2000), fault.TokenInvalid)
	}
	before := i.readCount()
	flood()
	if reads := i.readCount() - before; reads > 1 {
		t.Errorf("a flood made us read the keys %d times", reads)
	}
	now.forward(29 * time.Second)
	flood()
	if reads := i.readCount() - before; reads > 1 {
		t.Errorf("within 30 s a second flood made us read again (%d times)", reads)
	}
	now.forward(2 * time.Second)
	flood()
	if reads := i.readCount() - before; reads != 2 {
		t.Errorf("after 30 s the keys were read %d times in all, not 2", reads)
	}
}

// At a rotation everybody comes at once with the new key; nobody is sent away.
func TestARotationRefusesNobody(t *testing.T) {
	first, second, now := newSigningKey(t, "one"), newSigningKey(t, "two"), start()
	i := newIssuer(t, first)
	verifier := newVerifier(i, now)
	if err := verifier.Keys().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.rotateTo(first, second)
	before := i.readCount()
	fresh := sign(t, jwa.RS256, second.private, "two", i.valid(now.now(), nil), nil)
	old := sign(t, jwa.RS256, first.private, "one", i.valid(now.now(), nil), nil)
	verifyTogether(t, verifier, slices.Repeat([]string{fresh, old}, 25))
	if reads := i.readCount() - before; reads != 1 {
		t.Errorf("the keys were read %d times", reads)
	}
}

// forged are tokens of made-up keys; nobody looks at their signature.
func forged(t *testing.T, i *issuer, now *clock, many int) []string {
	t.Helper()
	tokens := make([]string, 0, many)
	for range many {
		unsigned := unsigned(t, map[string]any{"alg": "RS256", "kid": rand.Text()}, i.valid(now.now(), nil))
		tokens = append(tokens, unsigned+strings.Repeat("A", 342))
	}
	return tokens
}

// verifyAll sends tokens from several sides at once; all must be answered alike.
func verifyAll(t *testing.T, verifier *oidc.Verifier, tokens []string, want error) {
	t.Helper()
	var group sync.WaitGroup
	for chunk := range slices.Chunk(tokens, max(1, len(tokens)/8)) {
		group.Go(func() {
			for _, token := range chunk {
				if _, err := verifier.Verify(context.WithoutCancel(t.Context()), token); !errors.Is(err, want) {
					t.Errorf("answers %v, want %v", err, want)
				}
			}
		})
	}
	group.Wait()
}

// A busy API keeps verifying while the issuer turns its key again and again; every token that the issuer hands out,
// before and after, is good at once.
func TestRotationsUnderLoadRefuseNobody(t *testing.T) {
	now := start()
	keys := []signingKey{newSigningKey(t, "0")}
	i := newIssuer(t, keys...)
	verifier := newVerifier(i, now)
	// The first token after a start brings the first keys, and the issuer may turn its key the moment after.
	verifyAll(t, verifier, []string{sign(t, jwa.RS256, keys[0].private, "0", i.valid(now.now(), nil), nil)}, nil)
	for _, kid := range []string{"1", "2", "3", "4"} {
		last := keys[len(keys)-1]
		keys = append(keys, newSigningKey(t, kid))
		next := keys[len(keys)-1]
		before := sign(t, jwa.RS256, last.private, last.kid, i.valid(now.now(), nil), nil)
		after := sign(t, jwa.RS256, next.private, next.kid, i.valid(now.now(), nil), nil)
		rotated := make(chan struct{})
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 20 {
					if _, err := verifier.Verify(context.WithoutCancel(t.Context()), before); err != nil {
						t.Errorf("a token of the key before is refused: %v", err)
					}
				}
				<-rotated
				for range 20 {
					for _, token := range []string{before, after} {
						if _, err := verifier.Verify(context.WithoutCancel(t.Context()), token); err != nil {
							t.Errorf("around the rotation to %s a token is refused: %v", next.kid, err)
						}
					}
				}
			})
		}
		i.rotateTo(last, next)
		close(rotated)
		group.Wait()
		now.forward(earlyPause)
	}
}

// earlyPause is how long the verifier waits between two readings that an unknown key caused.
const earlyPause = 30 * time.Second

func TestTheFirstRequestsWaitForTheFirstKeys(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	verifyTogether(t, newVerifier(i, now), slices.Repeat([]string{sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), nil), nil)}, 20))
}

func verifyTogether(t *testing.T, verifier *oidc.Verifier, tokens []string) {
	t.Helper()
	var group sync.WaitGroup
	for _, token := range tokens {
		group.Go(func() {
			if _, err := verifier.Verify(context.WithoutCancel(t.Context()), token); err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
	group.Wait()
}

func TestAnIssuerThatIsAway(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	token := sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), nil), nil)

	never := newVerifier(i, now)
	i.setAway(true)
	if _, err := never.Verify(t.Context(), token); !errors.Is(err, fault.ServiceUnavailable) {
		t.Errorf("keys that were never read answer %v", err)
	}
	if never.Keys().Ready() == nil {
		t.Error("a verifier without keys calls itself ready")
	}

	i.setAway(false)
	known := newVerifier(i, now)
	if _, err := known.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	i.setAway(true)
	if err := known.Keys().Refresh(t.Context()); err == nil {
		t.Error("reading keys from an issuer that is away succeeded")
	}
	if _, err := known.Verify(t.Context(), token); err != nil || known.Keys().Ready() != nil {
		t.Errorf("keys at hand were dropped: %v", err)
	}
}

// An hour without the issuer: whoever is signed in works on, a flood of made-up keys costs two readings a minute, and the
// first token of a key that was made meanwhile is good as soon as the issuer is back.
func TestAnIssuerThatIsAwayForAnHour(t *testing.T) {
	key, next, now := newSigningKey(t, "one"), newSigningKey(t, "two"), start()
	i := newIssuer(t, key)
	verifier := newVerifier(i, now)
	token := sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), claims{"exp": now.now().Add(2 * time.Hour).Unix()}), nil)
	short := sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), nil), nil)
	verifyAll(t, verifier, []string{token, short}, nil)
	i.setAway(true)
	now.forward(earlyPause)
	before := i.readCount()
	for range 120 {
		verifyAll(t, verifier, forged(t, i, now, 20), fault.TokenInvalid)
		verifyAll(t, verifier, []string{token}, nil)
		if err := verifier.Keys().Ready(); err != nil {
			t.Fatalf("the verifier calls itself not ready: %v", err)
		}
		now.forward(earlyPause)
	}
	if reads := i.readCount() - before; reads != 120 {
		t.Errorf("in an hour the issuer was asked %d times, not 120", reads)
	}
	verifyAll(t, verifier, []string{short}, fault.TokenExpired)
	i.rotateTo(key, next)
	i.setAway(false)
	verifyAll(t, verifier, []string{token, sign(t, jwa.RS256, next.private, "two", i.valid(now.now(), nil), nil)}, nil)
}
