// Package catest is a certificate authority inside a test: real keys and real certificates, in memory, of any
// validity, so that expiry and foreign authorities can be shown. Programs never import it.
package catest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/ca"
)

// Authority is a ca.Client with a root of its own.
type Authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

var _ ca.Client = (*Authority)(nil)

// New makes a root.
func New(t testing.TB) *Authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "test root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{root: root, key: key}
}

// Sign certifies the request's key under the names asked for, from now for TTL.
func (a *Authority) Sign(_ context.Context, request ca.Request) ([]*x509.Certificate, error) {
	now := time.Now()
	return a.sign(request.CSR.PublicKey, request.SPIFFE, request.Hosts, now.Add(-time.Second), now.Add(request.TTL))
}

// Roots is the one root.
func (a *Authority) Roots(context.Context) ([]*x509.Certificate, error) {
	return []*x509.Certificate{a.root}, nil
}

// RootPEM is the root as a client is given it.
func (a *Authority) RootPEM() []byte { return []byte(ca.EncodePEM([]*x509.Certificate{a.root})) }

// Certificate is a key with a certificate of these names and this validity.
func (a *Authority) Certificate(t testing.TB, names []*url.URL, notBefore, notAfter time.Time) tls.Certificate {
	t.Helper()
	key := newKey(t)
	chain, err := a.signNames(key.Public(), names, nil, notBefore, notAfter)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key, Leaf: chain[0]}
}

func (a *Authority) sign(public any, name *url.URL, hosts []string, notBefore, notAfter time.Time) ([]*x509.Certificate, error) {
	return a.signNames(public, []*url.URL{name}, hosts, notBefore, notAfter)
}

func (a *Authority) signNames(public any, names []*url.URL, hosts []string, notBefore, notAfter time.Time) ([]*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), URIs: names, NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, public, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return []*x509.Certificate{leaf}, err
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial() *big.Int {
	number, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // never fails since Go 1.24
	return number
}
