package session

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// renew gets new tokens for a session, once for however many requests of however many replicas find them old: a refresh
// token is good once, and an issuer takes its second use for a theft.
func (s *Store) renew(ctx context.Context, old Session) (Session, error) {
	done := s.renewal.DoChan(old.Secret, func() (any, error) {
		// Whoever asked first may go away; the others still wait for it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshHold)
		defer cancel()
		return s.renewHere(ctx, old)
	})
	select {
	case <-ctx.Done():
		return Session{}, away(ctx.Err())
	case result := <-done:
		if result.Err != nil {
			return Session{}, result.Err
		}
		return result.Val.(Session), nil
	}
}

// renewHere does it if no other replica is doing it, and else waits for that one.
func (s *Store) renewHere(ctx context.Context, old Session) (Session, error) {
	lock, holder := s.key(old.Secret)+":renewing", rand.Text()
	for {
		won, err := s.redis.SetNX(ctx, lock, holder, refreshHold).Result()
		if err != nil {
			return Session{}, away(err)
		}
		// Another may have done it between our reading and our turn.
		current, err := s.read(ctx, old.Secret)
		fresh := err == nil && current.Tokens.Expires.Sub(s.now()) > refreshAhead
		switch {
		case won && (err != nil || fresh):
			s.release(ctx, lock, holder)
			return current, err
		case err != nil || fresh:
			return current, err
		case won:
			return s.replace(ctx, current, lock, holder)
		}
		select {
		case <-ctx.Done():
			return Session{}, away(errors.New("another replica did not renew the session in time"))
		case <-time.After(refreshPoll):
		}
	}
}

// replace renews the tokens and moves the session to a new secret. The old one leads to it for a moment, for requests that
// are under way.
func (s *Store) replace(ctx context.Context, old Session, lock, holder string) (Session, error) {
	tokens, err := s.issuer.Refresh(ctx, old.Tokens.Refresh)
	if errors.Is(err, fault.TokenInvalid) {
		// The issuer has ended the session: so do we.
		_ = s.redis.Del(ctx, s.key(old.Secret), lock).Err()
		return Session{}, errEnded(err)
	}
	if err != nil {
		s.release(ctx, lock, holder)
		return Session{}, err
	}
	if tokens.ID == "" {
		tokens.ID = old.Tokens.ID // signing out needs one, and any of the session will do
	}
	limits, err := s.limits(ctx)
	if err != nil {
		return Session{}, err
	}
	next := Session{Tokens: tokens, Began: old.Began, Until: old.Until, Secret: newSecret()}
	sealed, err := s.seal(next.Secret, next)
	if err != nil {
		return Session{}, err
	}
	pointer, err := s.seal(old.Secret, next.Secret)
	if err != nil {
		return Session{}, err
	}
	life := max(time.Second, min(limits.Idle, old.Until.Sub(s.now())))
	moved, err := moveScript.Run(ctx, s.redis, []string{s.key(old.Secret), s.key(next.Secret), s.moved(old.Secret), lock},
		sealed, life.Milliseconds(), pointer, movedFor.Milliseconds()).Int()
	switch {
	case err != nil:
		return Session{}, away(err)
	case moved == 0:
		return Session{}, errEnded(errors.New("the session was ended while it was renewed"))
	default:
		return next, nil
	}
}

// moveScript puts a session in the place of another, unless that one was ended meanwhile: nobody who signed out comes back.
var moveScript = goredis.NewScript(`redis.call('DEL', KEYS[4])
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
return 1`)

var releaseScript = goredis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

// release gives the turn up, unless it has passed to another already.
func (s *Store) release(ctx context.Context, lock, holder string) {
	_ = releaseScript.Run(ctx, s.redis, []string{lock}, holder).Err() // it ends by itself
}
