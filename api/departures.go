package api

import (
	"context"
	"net/http"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// deleteMe is the operation by which somebody deletes themselves. A repeat of it comes from nobody whom the platform knows: instead of an
// answer under their name, which is gone, a hash of who they were and of the key is kept.
const deleteMe = "deleteMe"

type departureKey struct{}

// withDeparture marks a request that would delete its sender with its idempotency key, for authentication to look at.
func withDeparture(r *http.Request, line route) *http.Request {
	key := r.Header.Get(middleware.HeaderIdempotencyKey)
	if line.operation != deleteMe || key == "" {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), departureKey{}, key))
}

// departureHash is empty for a request that deletes nobody, or has no key.
func (s *server) departureHash(ctx context.Context, issuer, subject string) []byte {
	key, _ := ctx.Value(departureKey{}).(string)
	if key == "" {
		return nil
	}
	hash := s.derive("departure", issuer, subject, key)
	return hash[:]
}

// departed says whether the request repeats one by which this person deleted themselves.
func (s *server) departed(ctx context.Context, issuer, subject string) (bool, error) {
	hash := s.departureHash(ctx, issuer, subject)
	if hash == nil {
		return false, nil
	}
	return queries.HasDeparted(ctx, s.config.Pool, hash, s.config.Now())
}

// rememberDeparture keeps what a repeat is known by as long as any answer is kept.
func (s *server) rememberDeparture(ctx context.Context, db queries.DB, leaving queries.User) error {
	hash := s.departureHash(ctx, leaving.Issuer, leaving.Subject)
	if hash == nil {
		return nil
	}
	retention, err := s.memory.Retention(ctx)
	if err != nil {
		return err
	}
	now := s.config.Now()
	return queries.InsertDeparture(ctx, db, hash, now, now.Add(retention))
}
