// Package session keeps a browser signed in: the browser holds one random value in a cookie, and everything else, the
// issuer's tokens above all, lies in Redis, encrypted under a key that only that value opens. It imports internal/oidc,
// internal/redis and domain/fault; cookies and requests are the API's business.
package session

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/oidc"
	"github.com/gpuaas/gpuaas/internal/redis"
)

const (
	// refreshAhead is how long before its end an access token is renewed, while requests still work with the old one.
	refreshAhead = 30 * time.Second
	// refreshHold is how long one replica may take for it: longer than a call to the issuer can last.
	refreshHold = 15 * time.Second
	refreshPoll = 50 * time.Millisecond
	// movedFor is how long requests that were under way with the old cookie find the new session.
	movedFor = time.Minute

	secretBytes = 32
	keyBytes    = 32
)

// Limits of a session, by policy: without a request, and in all.
type Limits struct{ Idle, Longest time.Duration }

// Session is one sign-in of one browser.
type Session struct {
	Tokens oidc.Tokens `json:"tokens"`
	Began  time.Time   `json:"began"`
	// Until is when the session ends, whatever happens.
	Until time.Time `json:"-"`
	// Secret is the value of the browser's cookie.
	Secret string `json:"-"`
}

// Refresher renews tokens; oidc.Client is one.
type Refresher interface {
	Refresh(ctx context.Context, refresh string) (oidc.Tokens, error)
}

// Store keeps sessions. It is safe for concurrent use, by any number of replicas on one Redis.
type Store struct {
	redis   *redis.Client
	pepper  []byte
	issuer  Refresher
	limits  func(context.Context) (Limits, error)
	now     func() time.Time
	renewal singleflight.Group
}

// NewStore makes one. pepper is a secret of the installation that goes into every key.
func NewStore(cache *redis.Client, pepper []byte, issuer Refresher, limits func(context.Context) (Limits, error), now func() time.Time) *Store {
	return &Store{redis: cache, pepper: pepper, issuer: issuer, limits: limits, now: now}
}

// errEnded is what a cookie of no session gets.
func errEnded(cause error) error {
	return fault.Wrap(cause, fault.TokenExpired, "The session has ended; sign in again.")
}

func away(err error) error {
	return fault.Wrap(err, fault.ServiceUnavailable, "Sessions cannot be read at the moment.")
}

// Begin keeps a sign-in under a new secret, which no browser has seen before.
func (s *Store) Begin(ctx context.Context, tokens oidc.Tokens) (Session, error) {
	limits, err := s.limits(ctx)
	if err != nil {
		return Session{}, err
	}
	begun := Session{Tokens: tokens, Began: s.now().UTC(), Secret: newSecret()}
	begun.Until = begun.Began.Add(limits.Longest)
	sealed, err := s.seal(begun.Secret, begun)
	if err != nil {
		return Session{}, err
	}
	if err := s.redis.Set(ctx, s.key(begun.Secret), sealed, limits.Idle).Err(); err != nil {
		return Session{}, away(err)
	}
	return begun, nil
}

// Find answers the session of a secret with an access token that is good now, renewing it where needed; a renewal gives
// the session a new secret. Faults: TokenExpired for a session that has ended, ServiceUnavailable while Redis is away, or
// while the issuer is and the access token has expired.
func (s *Store) Find(ctx context.Context, secret string) (Session, error) {
	found, err := s.read(ctx, secret)
	if err != nil {
		return Session{}, err
	}
	left := found.Tokens.Expires.Sub(s.now())
	if left > refreshAhead {
		return found, nil
	}
	renewed, err := s.renew(ctx, found)
	if err != nil && left > 0 && !errors.Is(err, fault.TokenExpired) {
		return found, nil // the token at hand is still good
	}
	return renewed, err
}

// Follow answers under which secret the session of a secret stands by now. It is no use of the session: idle time goes on. Whoever follows
// one asks more often than once in movedFor. Faults: TokenExpired for a session that has ended, ServiceUnavailable while Redis is away.
func (s *Store) Follow(ctx context.Context, secret string) (string, error) {
	var next string
	for range 2 { // between the two looks it may have moved
		stands, err := s.redis.Exists(ctx, s.key(secret)).Result()
		if err != nil {
			return secret, away(err)
		}
		if stands == 1 {
			return secret, nil
		}
		switch err := s.load(ctx, s.moved(secret), secret, &next); {
		case errors.Is(err, redis.ErrAway):
			return secret, away(err)
		case err != nil:
			return secret, errEnded(err)
		}
		secret = next
	}
	return secret, errEnded(errors.New("what took the session's place has ended"))
}

// End forgets a session and answers what it held; the issuer is the caller's to tell.
func (s *Store) End(ctx context.Context, secret string) (Session, error) {
	found, err := s.read(ctx, secret)
	if err != nil {
		return Session{}, err
	}
	if err := s.redis.Del(ctx, s.key(found.Secret), s.moved(secret)).Err(); err != nil {
		return Session{}, away(err)
	}
	return found, nil
}

// Token is what a page must send with every change, beside the cookie: another site can make a browser send the one, and
// cannot read the other.
func (s *Store) Token(secret string) string {
	mac := hmac.New(sha256.New, s.pepper)
	mac.Write([]byte("csrf\x00" + secret))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Matches says whether a page sent the right token.
func (s *Store) Matches(secret, token string) bool {
	return hmac.Equal([]byte(s.Token(secret)), []byte(token))
}

// read opens the session of a secret, or the one that took its place a moment ago. Reading is using: it begins the idle
// time anew.
func (s *Store) read(ctx context.Context, secret string) (Session, error) {
	limits, err := s.limits(ctx)
	if err != nil {
		return Session{}, err
	}
	found := Session{}
	err = s.load(ctx, s.key(secret), secret, &found)
	if errors.Is(err, goredis.Nil) {
		var next string
		if err = s.load(ctx, s.moved(secret), secret, &next); err == nil {
			secret = next
			err = s.load(ctx, s.key(secret), secret, &found)
		}
	}
	switch {
	case errors.Is(err, redis.ErrAway):
		return Session{}, away(err)
	case err != nil:
		return Session{}, errEnded(err)
	}
	found.Secret, found.Until = secret, found.Began.Add(limits.Longest)
	left := found.Until.Sub(s.now())
	if left <= 0 {
		_ = s.redis.Del(ctx, s.key(secret)).Err() // what cannot be removed now ends by itself
		return Session{}, errEnded(errors.New("the session is as old as a session may get"))
	}
	if err := s.redis.PExpire(ctx, s.key(secret), min(limits.Idle, left)).Err(); err != nil {
		return Session{}, away(err)
	}
	return found, nil
}

// load opens what lies under a key with a secret.
func (s *Store) load(ctx context.Context, key, secret string, into any) error {
	sealed, err := s.redis.Get(ctx, key).Bytes()
	if err != nil {
		return err
	}
	aead, err := s.cipher(secret)
	if err != nil {
		return err
	}
	text, err := aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	return json.Unmarshal(text, into)
}

// key names a session without giving its secret away.
func (s *Store) key(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return s.redis.Key("session", hex.EncodeToString(sum[:]))
}

// moved is where the secret of the next session lies, sealed with the one before.
func (s *Store) moved(secret string) string { return s.key(secret) + ":moved" }

func newSecret() string {
	var random [secretBytes]byte
	_, _ = rand.Read(random[:]) // never returns an error
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// cipher belongs to one secret: whoever can read Redis, and even whoever has the pepper too, reads no session without the
// browser's cookie.
func (s *Store) cipher(secret string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), s.pepper, "gpuaas browser session", keyBytes)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s *Store) seal(secret string, value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	aead, err := s.cipher(secret)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, text, nil), nil
}
