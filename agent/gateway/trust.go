package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// serverIdentity is who answers at the gateway's address: a certificate of the right host that is some other
// service's is refused.
const serverIdentity = "spiffe://gpuaas/service/api"

// Trust says how a node that has nothing yet knows the platform: by its root certificate, or by that
// certificate's SHA-256.
type Trust struct {
	// RootPEM is one or more root certificates.
	RootPEM []byte
	// Fingerprint is the SHA-256 of the root certificate in hexadecimal; used only without RootPEM.
	Fingerprint string
}

// roots answers the certificates to trust. With a fingerprint it asks the gateway for its chain and takes the
// certificate that has exactly this fingerprint; everything after is verified against it.
func (t Trust) roots(ctx context.Context, gatewayURL string) ([]byte, error) {
	if len(t.RootPEM) > 0 {
		return t.RootPEM, nil
	}
	want, err := hex.DecodeString(strings.ToLower(strings.ReplaceAll(t.Fingerprint, ":", "")))
	if err != nil || len(want) != sha256.Size {
		return nil, errors.New("give the platform's root certificate, or its SHA-256 fingerprint of 64 hexadecimal digits")
	}
	address, host, err := hostPort(gatewayURL)
	if err != nil {
		return nil, err
	}
	var found []byte
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: host,
		// Nothing is sent over this connection; it only shows a chain, of which the fingerprint picks the root.
		InsecureSkipVerify: true, //nolint:gosec // the fingerprint is the verification
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, certificate := range state.PeerCertificates {
				sum := sha256.Sum256(certificate.Raw)
				if bytes.Equal(sum[:], want) {
					found = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
					return nil
				}
			}
			return errors.New("the gateway shows no root certificate with this fingerprint")
		},
	}}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("fetch the root certificate from %s: %w", address, err)
	}
	return found, connection.Close()
}

// tlsConfig trusts exactly these roots, and only the service "api" under them.
func tlsConfig(rootsPEM []byte, host string) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(rootsPEM) {
		return nil, errors.New("the root certificates hold no PEM certificate")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    pool,
		ServerName: host,
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, name := range state.PeerCertificates[0].URIs {
				if name.String() == serverIdentity {
					return nil
				}
			}
			return fmt.Errorf("the certificate at %s is not the one of %s", host, serverIdentity)
		},
	}, nil
}

// hostPort splits https://host[:port] into what is dialled and the name that is verified.
func hostPort(gatewayURL string) (address, host string, err error) {
	parsed, err := url.Parse(gatewayURL)
	if err != nil || parsed.Scheme != "https" || parsed.Hostname() == "" {
		return "", "", fmt.Errorf("the gateway's address is https://host:port, not %q", gatewayURL)
	}
	port := parsed.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(parsed.Hostname(), port), parsed.Hostname(), nil
}
