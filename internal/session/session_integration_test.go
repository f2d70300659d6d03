//go:build integration

package session

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/redis"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
)

// The issuer is the development stack's: it takes the second use of a refresh token for a theft and ends the family, so
// that two renewals of one session cannot go unnoticed.
func issuer(t *testing.T) *oidc.Client {
	t.Helper()
	address := os.Getenv("GPUAAS_TEST_OIDC_ISSUER")
	if address == "" {
		t.Fatal("GPUAAS_TEST_OIDC_ISSUER is not set: run `make test-integration`")
	}
	verifier := oidc.New(oidc.Config{Issuer: address, Audiences: []string{"gpuaas-api"}}, http.DefaultClient, time.Now)
	return oidc.NewClient(verifier, http.DefaultClient, "gpuaas-api", "dev-client-secret", "")
}

func signedIn(t *testing.T, client *oidc.Client) oidc.Tokens {
	t.Helper()
	tokens, err := client.Password(t.Context(), "dev-user", "dev123")
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

var pepper = []byte(strings.Repeat("p", 32))

func newStore(t *testing.T, config redis.Config, client *oidc.Client, now func() time.Time) *Store {
	t.Helper()
	limits := func(context.Context) (Limits, error) { return Limits{Idle: time.Hour, Longest: 8 * time.Hour}, nil }
	return NewStore(redistest.Open(t, config), pepper, client, limits, now)
}

func mustBegin(t *testing.T, s *Store, tokens oidc.Tokens) Session {
	t.Helper()
	begun, err := s.Begin(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	return begun
}

func TestOneRenewalServesEveryRequestOfEveryReplica(t *testing.T) {
	client, config := issuer(t), redistest.Config(t)
	replicas := []*Store{newStore(t, config, client, time.Now), newStore(t, config, client, time.Now), newStore(t, config, client, time.Now)}
	for name, left := range map[string]time.Duration{"about to expire": 5 * time.Second, "expired": -time.Minute} {
		t.Run(name, func(t *testing.T) {
			tokens := signedIn(t, client)
			tokens.Expires = time.Now().Add(left)
			begun := mustBegin(t, replicas[0], tokens)
			found := make(chan Session, 60)
			var group sync.WaitGroup
			for i := range cap(found) {
				group.Go(func() {
					one, err := replicas[i%len(replicas)].Find(context.WithoutCancel(t.Context()), begun.Secret)
					if err != nil {
						t.Errorf("a request is sent away: %v", err)
						return
					}
					found <- one
				})
			}
			group.Wait()
			close(found)
			renewed := map[string]bool{}
			for one := range found {
				if one.Secret != begun.Secret {
					renewed[one.Tokens.Refresh] = true
				} else if left < 0 {
					t.Error("an expired access token was handed out")
				}
			}
			if len(renewed) != 1 {
				t.Errorf("there were %d renewals", len(renewed))
			}
			// The old cookie leads to the new session for requests under way; and the issuer still takes its refresh token.
			now, err := replicas[1].Find(t.Context(), begun.Secret)
			if err != nil || now.Secret == begun.Secret || !renewed[now.Tokens.Refresh] {
				t.Fatalf("the old cookie finds %v, %v", now.Secret != begun.Secret, err)
			}
			if _, err := client.Refresh(t.Context(), now.Tokens.Refresh); err != nil {
				t.Errorf("the issuer noticed two renewals: %v", err)
			}
		})
	}
}

func TestASessionThatTheIssuerEndedIsOver(t *testing.T) {
	client := issuer(t)
	s := newStore(t, redistest.Config(t), client, time.Now)
	tokens := signedIn(t, client)
	if _, err := client.Refresh(t.Context(), tokens.Refresh); err != nil {
		t.Fatal(err)
	}
	tokens.Expires = time.Now().Add(-time.Second)
	begun := mustBegin(t, s, tokens)
	for range 2 {
		if _, err := s.Find(t.Context(), begun.Secret); !errors.Is(err, fault.TokenExpired) {
			t.Errorf("it answers %v", err)
		}
	}
}

func TestWhoSignsOutDuringARenewalStaysSignedOut(t *testing.T) {
	client := issuer(t)
	s := newStore(t, redistest.Config(t), client, time.Now)
	tokens := signedIn(t, client)
	begun := mustBegin(t, s, tokens)
	if _, err := s.End(t.Context(), begun.Secret); err != nil {
		t.Fatal(err)
	}
	// A renewal that had read the session before it was ended comes to its last step now.
	if _, err := s.replace(t.Context(), begun, s.key(begun.Secret)+":renewing", "holder"); !errors.Is(err, fault.TokenExpired) {
		t.Errorf("the renewal answers %v", err)
	}
	if _, err := s.Find(t.Context(), begun.Secret); !errors.Is(err, fault.TokenExpired) {
		t.Errorf("the session is back: %v", err)
	}
	if keys, err := s.redis.Keys(t.Context(), s.redis.Key("*")).Result(); err != nil || len(keys) != 0 {
		t.Errorf("%v is left behind (%v)", keys, err)
	}
}

// What stays open beside a session finds it where it went, for as long as it lives, and does not keep it alive.
func TestASessionIsFollowedUntilItEnds(t *testing.T) {
	client := issuer(t)
	s := newStore(t, redistest.Config(t), client, time.Now)
	tokens := signedIn(t, client)
	tokens.Expires = time.Now().Add(-time.Second)
	begun := mustBegin(t, s, tokens)
	if now, err := s.Follow(t.Context(), begun.Secret); err != nil || now != begun.Secret {
		t.Fatalf("it is followed to another (%t), %v", now != begun.Secret, err)
	}
	if err := s.redis.PExpire(t.Context(), s.key(begun.Secret), time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Follow(t.Context(), begun.Secret); err != nil || s.redis.PTTL(t.Context(), s.key(begun.Secret)).Val() > time.Minute {
		t.Errorf("being followed is taken for use: %v", err)
	}
	renewed, err := s.Find(t.Context(), begun.Secret)
	if err != nil || renewed.Secret == begun.Secret {
		t.Fatalf("it was not renewed: %v", err)
	}
	for _, secret := range []string{begun.Secret, renewed.Secret} {
		if now, err := s.Follow(t.Context(), secret); err != nil || now != renewed.Secret {
			t.Errorf("the renewed one is not found: %v", err)
		}
	}
	if _, err := s.End(t.Context(), renewed.Secret); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{begun.Secret, renewed.Secret, "guessed"} {
		if _, err := s.Follow(t.Context(), secret); !errors.Is(err, fault.TokenExpired) {
			t.Errorf("after its end it is followed: %v", err)
		}
	}
}

func TestASessionLivesAsLongAsItMay(t *testing.T) {
	client := issuer(t)
	var mutex sync.Mutex
	later := time.Duration(0)
	s := newStore(t, redistest.Config(t), client, func() time.Time {
		mutex.Lock()
		defer mutex.Unlock()
		return time.Now().Add(later)
	})
	tokens := signedIn(t, client)
	tokens.Expires = time.Now().Add(24 * time.Hour)
	begun := mustBegin(t, s, tokens)
	idle := func() time.Duration {
		left, err := s.redis.PTTL(t.Context(), s.key(begun.Secret)).Result()
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	if err := s.redis.PExpire(t.Context(), s.key(begun.Secret), time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(t.Context(), begun.Secret); err != nil || idle() < 59*time.Minute || idle() > time.Hour {
		t.Errorf("a request leaves %v until the session is idle too long (%v)", idle(), err)
	}
	mutex.Lock()
	later = 7*time.Hour + 45*time.Minute
	mutex.Unlock()
	if _, err := s.Find(t.Context(), begun.Secret); err != nil || idle() > 15*time.Minute {
		t.Errorf("near its end the session may be idle for %v (%v)", idle(), err)
	}
	mutex.Lock()
	later = 8*time.Hour + time.Second
	mutex.Unlock()
	if _, err := s.Find(t.Context(), begun.Secret); !errors.Is(err, fault.TokenExpired) {
		t.Errorf("a session as old as it may get answers %v", err)
	}
}

func TestRedisGivesNoSecretAway(t *testing.T) {
	client := issuer(t)
	s := newStore(t, redistest.Config(t), client, time.Now)
	tokens := signedIn(t, client)
	tokens.Expires = time.Now()
	begun := mustBegin(t, s, tokens)
	renewed, err := s.Find(t.Context(), begun.Secret)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.redis.Keys(t.Context(), s.redis.Key("*")).Result()
	if err != nil || len(keys) != 2 {
		t.Fatalf("redis holds %v (%v)", keys, err)
	}
	for _, key := range keys {
		value, err := s.redis.Get(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{begun.Secret, renewed.Secret, tokens.Access, renewed.Tokens.Access, tokens.Refresh, renewed.Tokens.Refresh, "dev-user", s.Token(begun.Secret)} {
			if strings.Contains(key+value, secret) {
				t.Errorf("%s gives %q away", key, secret)
			}
		}
		// Whoever can write Redis cannot put one person's session under another's cookie.
		other := mustBegin(t, s, signedIn(t, client))
		if err := s.redis.Set(t.Context(), s.key(other.Secret), value, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Find(t.Context(), other.Secret); !errors.Is(err, fault.TokenExpired) {
			t.Errorf("a session that was put elsewhere answers %v", err)
		}
	}
}

func TestWithoutRedisSessionsAreUnavailable(t *testing.T) {
	client := issuer(t)
	s := newStore(t, redistest.Away(), client, time.Now)
	if _, err := s.Begin(t.Context(), signedIn(t, client)); !errors.Is(err, fault.ServiceUnavailable) {
		t.Errorf("a sign-in answers %v", err)
	}
	for name, do := range map[string]func(context.Context, string) (Session, error){"a request": s.Find, "a sign-out": s.End} {
		if _, err := do(t.Context(), "secret"); !errors.Is(err, fault.ServiceUnavailable) {
			t.Errorf("%s answers %v", name, err)
		}
	}
}

func TestTheTokenOfAPageBelongsToItsSession(t *testing.T) {
	s := newStore(t, redistest.Away(), nil, time.Now)
	if !s.Matches("one", s.Token("one")) || s.Matches("one", s.Token("two")) || s.Matches("one", "") || s.Matches("one", "one") {
		t.Error("a page's token is judged wrongly")
	}
}
