//go:build integration

package ca_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/ca"
)

func setting(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run `make test-integration`, which starts a real step-ca", name)
	}
	return value
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestARealStepCACertifiesExactlyWhatThePlatformAsksFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	roots, err := ca.DecodePEM(read(t, setting(t, "GPUAAS_TEST_CA_ROOT_FILE")))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(roots[0].Raw)
	config := ca.StepCAConfig{
		URL: setting(t, "GPUAAS_TEST_CA_URL"), RootFingerprint: hex.EncodeToString(sum[:]), Provisioner: setting(t, "GPUAAS_TEST_CA_PROVISIONER"),
		Key: read(t, setting(t, "GPUAAS_TEST_CA_PROVISIONER_KEY_FILE")),
	}
	authority, err := ca.NewStepCA(config)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.ParseCSR(encoded(t, x509.CertificateRequest{}, nil))
	if err != nil {
		t.Fatal(err)
	}
	name := &url.URL{Scheme: "spiffe", Host: "gpuaas", Path: "/node/node_" + strings.Repeat("a", 26)}
	// Renewal is another Sign, so the same authority is asked twice.
	for range 2 {
		chain, err := authority.Sign(ctx, ca.Request{CSR: csr, SPIFFE: name, Hosts: []string{"gateway.test", "127.0.0.1"}, TTL: 2 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		trusted, between := x509.NewCertPool(), x509.NewCertPool()
		trusted.AddCert(roots[0])
		for _, one := range chain[1:] {
			between.AddCert(one)
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			if _, err := chain[0].Verify(x509.VerifyOptions{Roots: trusted, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Error(err)
			}
		}
		leaf := chain[0]
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != name.String() || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "gateway.test" || len(leaf.IPAddresses) != 1 || leaf.IsCA {
			t.Errorf("certified %v %v %v", leaf.URIs, leaf.DNSNames, leaf.IPAddresses)
		}
		if left := time.Until(leaf.NotAfter); left > 2*time.Hour+time.Minute || left < 110*time.Minute {
			t.Errorf("the certificate lasts %s", left)
		}
	}
	// Who has another fingerprint or another key gets nothing.
	config.RootFingerprint = strings.Repeat("00", 32)
	wrong, err := ca.NewStepCA(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Roots(ctx); err == nil {
		t.Error("a root of another fingerprint is trusted")
	}
}
