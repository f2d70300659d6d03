package stepca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/ca"
)

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestKeysSurviveARestartAndTheRootKeyIsForgotten(t *testing.T) {
	dir := t.TempDir()
	first, err := Start(t.Context(), dir, freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(first.RootFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second, err := Start(t.Context(), dir, freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	}()
	after, err := os.ReadFile(second.RootFile())
	if err != nil || string(before) != string(after) {
		t.Errorf("the root changed over a restart (%v)", err)
	}
	secrets, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range secrets {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if ext := filepath.Ext(path); (ext == ".key" || ext == ".jwk") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if got := leaf(t, second, 24*time.Hour); got.URIs[0].String() != "spiffe://gpuaas/node/test" {
		t.Errorf("the leaf names %v", got.URIs)
	}
}

// leaf asks for a certificate through the product's own client, which checks names and times.
func leaf(t *testing.T, c *CA, ttl time.Duration) *x509.Certificate {
	t.Helper()
	key, err := os.ReadFile(c.ProvisionerKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.NewStepCA(ca.StepCAConfig{URL: c.URL(), RootFingerprint: c.RootFingerprint(), Provisioner: Provisioner, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := client.Sign(t.Context(), ca.Request{CSR: csr(t), SPIFFE: &url.URL{Scheme: "spiffe", Host: "gpuaas", Path: "/node/test"}, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	if life := chain[0].NotAfter.Sub(chain[0].NotBefore); life > usualLife+2*time.Minute {
		t.Errorf("the leaf lives %v", life)
	}
	return chain[0]
}

func csr(t *testing.T) *x509.CertificateRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
