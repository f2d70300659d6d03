package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/agent/durable"
	"github.com/gpuaas/gpuaas/domain/id"
)

// Files is where a node keeps its identity, in a directory only root can read. Key and certificate share one
// file, so that a crash during renewal leaves a pair that belongs together.
type Files struct {
	Directory string
}

func (f Files) identity() string   { return filepath.Join(f.Directory, "identity.pem") }
func (f Files) pendingKey() string { return filepath.Join(f.Directory, "enrol.key") }
func (f Files) roots() string      { return filepath.Join(f.Directory, "roots.pem") }

// Enrolled says whether an identity is kept here, valid or not.
func (f Files) Enrolled() bool {
	_, err := os.Stat(f.identity())
	return err == nil
}

// load reads the identity; fs.ErrNotExist when the node was never enrolled.
func (f Files) load() (*tls.Certificate, []byte, error) {
	pair, err := os.ReadFile(f.identity())
	if err != nil {
		return nil, nil, fmt.Errorf("read the node's identity: %w", err)
	}
	certificate, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		return nil, nil, fmt.Errorf("the node's identity in %s is not usable: %w", f.identity(), err)
	}
	roots, err := os.ReadFile(f.roots())
	if err != nil {
		return nil, nil, fmt.Errorf("read the platform's root certificates: %w", err)
	}
	return &certificate, roots, nil
}

// save keeps an identity: the roots first, because a pair without them cannot be used.
func (f Files) save(key *ecdsa.PrivateKey, chainPEM, rootsPEM string) (*tls.Certificate, error) {
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	pair := append(keyPEM, []byte(chainPEM)...)
	certificate, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		return nil, fmt.Errorf("the certificate does not belong to the key it was asked for: %w", err)
	}
	if err := durable.Replace(f.roots(), []byte(rootsPEM)); err != nil {
		return nil, err
	}
	return &certificate, durable.Replace(f.identity(), pair)
}

// enrolmentKey is the key of an enrolment in progress. It is kept before it is first used: a node that dies
// between asking and hearing the answer asks again with the same key, and the gateway answers again.
func (f Files) enrolmentKey() (*ecdsa.PrivateKey, error) {
	kept, err := os.ReadFile(f.pendingKey())
	if err == nil {
		if block, _ := pem.Decode(kept); block != nil {
			if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
				return key, nil
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the key of the enrolment: %w", err)
	}
	if err := os.MkdirAll(f.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("make the identity's directory: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, durable.Replace(f.pendingKey(), encoded)
}

func (f Files) forgetEnrolmentKey() error {
	if err := os.Remove(f.pendingKey()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the key of the enrolment: %w", err)
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func newCSR(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", fmt.Errorf("make the certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// nodeOf reads the node's id from its own certificate.
func nodeOf(certificate *tls.Certificate) (id.Node, error) {
	for _, name := range certificate.Leaf.URIs {
		if text, found := strings.CutPrefix(name.String(), "spiffe://gpuaas/node/"); found {
			return id.Parse[id.Node](text)
		}
	}
	return "", errors.New("the certificate names no node")
}

// renewAt is the instant to renew: half of the life that the certificate has.
func renewAt(certificate *tls.Certificate) time.Time {
	leaf := certificate.Leaf
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
}
