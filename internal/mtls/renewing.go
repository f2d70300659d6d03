package mtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/gpuaas/gpuaas/internal/ca"
)

// Renewing is a service's certificate: issued at start, renewed over a new key at half of its life, and asked
// for at every handshake. It lives in memory only.
type Renewing struct {
	authority ca.Client
	name      *url.URL
	hosts     []string
	life      time.Duration
	log       *slog.Logger
	roots     []*x509.Certificate
	current   atomic.Pointer[tls.Certificate]
}

// Issue asks the authority for the first certificate of a service; hosts are the DNS names and IP addresses at
// which it is reached.
func Issue(ctx context.Context, authority ca.Client, service string, hosts []string, life time.Duration, log *slog.Logger) (*Renewing, error) {
	roots, err := authority.Roots(ctx)
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return nil, errors.New("the certificate authority has no root")
	}
	r := &Renewing{authority: authority, name: ServiceURI(service), hosts: hosts, life: life, log: log, roots: roots}
	return r, r.Renew(ctx)
}

// Renew replaces the certificate now.
func (r *Renewing) Renew(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make a certificate request: %w", err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return fmt.Errorf("read the certificate request back: %w", err)
	}
	chain, err := r.authority.Sign(ctx, ca.Request{CSR: csr, SPIFFE: r.name, Hosts: r.hosts, TTL: r.life})
	if err != nil {
		return err
	}
	certificate := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, one := range chain {
		certificate.Certificate = append(certificate.Certificate, one.Raw)
	}
	// The root goes along, so that a node that knows only its fingerprint can pick it out of the chain.
	certificate.Certificate = append(certificate.Certificate, r.roots[0].Raw)
	r.current.Store(certificate)
	return nil
}

// Run renews until ctx ends and tries again every few seconds while the authority is away.
func (r *Renewing) Run(ctx context.Context) error {
	const again = 10 * time.Second
	wait := r.untilRenewal()
	for {
		timer := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if err := r.Renew(ctx); err != nil {
			r.log.ErrorContext(ctx, "the service's certificate was not renewed", "name", r.name.String(), "expires", r.current.Load().Leaf.NotAfter, "error", err)
			wait = again
			continue
		}
		wait = r.untilRenewal()
	}
}

func (r *Renewing) untilRenewal() time.Duration {
	leaf := r.current.Load().Leaf
	return time.Until(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2))
}

// Leaf is the certificate in use.
func (r *Renewing) Leaf() *x509.Certificate { return r.current.Load().Leaf }

// Roots are the authority's roots.
func (r *Renewing) Roots() []*x509.Certificate { return r.roots }

// RootFingerprint is the SHA-256 of the first root in hexadecimal: what an operator gives a new node.
func (r *Renewing) RootFingerprint() string {
	sum := sha256.Sum256(r.roots[0].Raw)
	return hex.EncodeToString(sum[:])
}

func (r *Renewing) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, root := range r.roots {
		pool.AddCert(root)
	}
	return pool
}

// ServerConfig serves this certificate and verifies a client's certificate where it shows one; whether one is
// needed is decided per request, because enrolment comes without. A certificate that is expired or of another
// authority fails the handshake.
func (r *Renewing) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2"},
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      r.pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.current.Load(), nil },
		// A resumed session would skip the verification of a certificate that has expired meanwhile.
		SessionTicketsDisabled: true,
	}
}

// ClientConfig shows this certificate and accepts only the named service at the other end.
func (r *Renewing) ClientConfig(service string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              r.pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.current.Load(), nil },
		VerifyConnection: func(state tls.ConnectionState) error {
			peer, err := PeerOf(&state)
			if err != nil {
				return err
			}
			if peer.Service != service {
				return fmt.Errorf("the other end is not the service %q", service)
			}
			return nil
		},
	}
}
