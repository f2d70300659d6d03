//go:build integration

package nodeapi

import (
	"context"
	"crypto/x509"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/ca"
	"github.com/gpuaas/gpuaas/internal/ca/catest"
)

const briefLife = 8 * time.Second

// brieflyCertifying is an authority whose certificates end within seconds.
type brieflyCertifying struct{ *catest.Authority }

func (b brieflyCertifying) Sign(ctx context.Context, request ca.Request) ([]*x509.Certificate, error) {
	request.TTL = briefLife
	return b.Authority.Sign(ctx, request)
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.Background(), patience)
}
