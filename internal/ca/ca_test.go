package ca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/internal/ca"
)

func encoded(t *testing.T, template x509.CertificateRequest, change func(der []byte)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(der)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestARequestThatNamesSomebodyIsRefused(t *testing.T) {
	another := &url.URL{Scheme: "spiffe", Host: "gpuaas", Path: "/service/api"}
	cases := map[string]struct {
		text string
		good bool
	}{
		"a key and nothing else": {encoded(t, x509.CertificateRequest{}, nil), true},
		"a common name":          {encoded(t, x509.CertificateRequest{Subject: pkix.Name{CommonName: "api"}}, nil), false},
		"a SPIFFE name":          {encoded(t, x509.CertificateRequest{URIs: []*url.URL{another}}, nil), false},
		"a host":                 {encoded(t, x509.CertificateRequest{DNSNames: []string{"api.internal"}}, nil), false},
		"an address":             {encoded(t, x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, nil), false},
		"an extension":           {encoded(t, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}}, nil), false},
		"a broken signature":     {encoded(t, x509.CertificateRequest{}, func(der []byte) { der[len(der)-1] ^= 1 }), false},
		"no PEM":                 {"no", false},
		"another kind of PEM":    {strings.ReplaceAll(encoded(t, x509.CertificateRequest{}, nil), "CERTIFICATE REQUEST", "CERTIFICATE"), false},
		"a mountain":             {encoded(t, x509.CertificateRequest{}, nil) + strings.Repeat("\n", 20<<10), false},
	}
	for name, c := range cases {
		if _, err := ca.ParseCSR(c.text); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStepCAIsConfiguredCompletelyOrNotAtAll(t *testing.T) {
	sum, key := strings.Repeat("ab", 32), []byte(`{"kty":"EC","crv":"P-256","kid":"k","x":"AA","y":"AA"}`)
	for name, config := range map[string]ca.StepCAConfig{
		"no https":            {URL: "http://ca:1", RootFingerprint: sum, Provisioner: "gpuaas", Key: key},
		"a short fingerprint": {URL: "https://ca:1", RootFingerprint: "ab", Provisioner: "gpuaas", Key: key},
		"no provisioner":      {URL: "https://ca:1", RootFingerprint: sum, Key: key},
		"a public key":        {URL: "https://ca:1", RootFingerprint: sum, Provisioner: "gpuaas", Key: key},
		"no key":              {URL: "https://ca:1", RootFingerprint: sum, Provisioner: "gpuaas"},
	} {
		if _, err := ca.NewStepCA(config); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
