// Package ca is the way to the certificate authority. Client is all that the platform asks of one: a certificate
// for a name over a key, and the roots to trust; StepCA speaks to Smallstep step-ca by its HTTP API. It imports
// the standard library and jwx. Nodes never speak to the authority themselves.
package ca

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Client issues certificates.
type Client interface {
	// Sign certifies the key of a certificate request under exactly these names, whatever the request itself
	// names; the chain is leaf first, without the root. Renewal is another Sign over a new key.
	Sign(ctx context.Context, request Request) ([]*x509.Certificate, error)
	// Roots are the certificates that everybody inside trusts.
	Roots(ctx context.Context) ([]*x509.Certificate, error)
}

// Request is one certificate to be.
type Request struct {
	CSR *x509.CertificateRequest
	// SPIFFE is the identity; Hosts are DNS names and IP addresses beside it, for servers.
	SPIFFE *url.URL
	Hosts  []string
	// TTL is how long the certificate is valid.
	TTL time.Duration
}

// maxCSRBytes bounds what is parsed of a certificate request from outside.
const maxCSRBytes = 16 << 10

// ParseCSR reads a PEM certificate request, checks its self-signature and refuses one that asks for names or
// extensions of its own: the platform decides them.
func ParseCSR(text string) (*x509.CertificateRequest, error) {
	if len(text) > maxCSRBytes {
		return nil, fmt.Errorf("a certificate request has at most %d bytes", maxCSRBytes)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("a certificate request in PEM is expected")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	if len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses)+len(csr.URIs)+len(csr.Extensions) > 0 || len(csr.Subject.Names) > 0 {
		return nil, errors.New("a certificate request names nobody and asks for no extension: the platform decides both")
	}
	return csr, nil
}

// EncodePEM renders certificates one after another.
func EncodePEM(certificates []*x509.Certificate) string {
	var encoded []byte
	for _, certificate := range certificates {
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return string(encoded)
}

// DecodePEM reads every certificate of a PEM text; at least one.
func DecodePEM(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse a certificate: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("there is no PEM certificate")
	}
	return certificates, nil
}

func encodeCSR(csr *x509.CertificateRequest) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw}))
}
