package issuer

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	keyBits = 2048
	// keptKeys are how many keys stay published: the newest signs, the others still verify what they signed.
	keptKeys = 3
)

// signingKey is an RSA key that signs tokens; its id is its thumbprint (RFC 7638).
type signingKey struct {
	private *rsa.PrivateKey
	id      string
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) Key() any                                    { return k.private }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }

// publicKey is what everybody may know of a signing key.
type publicKey struct{ signingKey }

func (k publicKey) Key() any                           { return k.private.Public() }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }

// keyring holds the keys of an issuer, the newest first, and the file that outlives it.
type keyring struct {
	path  string
	mutex sync.Mutex
	keys  []signingKey
}

// openKeyring reads the keys or makes the first one.
func openKeyring(path string) (*keyring, error) {
	ring := &keyring{path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return ring, ring.rotate()
	}
	if err != nil {
		return nil, fmt.Errorf("the issuer's signing key is not usable: %w", err)
	}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s holds no PKCS #8 key: %w", path, err)
		}
		private, ok := parsed.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s holds no RSA key", path)
		}
		key, err := named(private)
		if err != nil {
			return nil, err
		}
		ring.keys = append(ring.keys, key)
	}
	if len(ring.keys) == 0 {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return ring, nil
}

func named(private *rsa.PrivateKey) (signingKey, error) {
	thumbprint, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return signingKey{}, err
	}
	return signingKey{private: private, id: base64.RawURLEncoding.EncodeToString(thumbprint)}, nil
}

// rotate makes a new key that signs from now on; those before it stay published for a while.
func (r *keyring) rotate() error {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return err
	}
	key, err := named(private)
	if err != nil {
		return err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	keys := append([]signingKey{key}, r.keys...)
	keys = keys[:min(len(keys), keptKeys)]
	if err := write(r.path, keys); err != nil {
		return fmt.Errorf("the issuer's signing key cannot be kept: %w", err)
	}
	r.keys = keys
	return nil
}

// write puts the file whole under another name first, so that a kill leaves either the old keys or the new ones.
func write(path string, keys []signingKey) error {
	var file bytes.Buffer
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key.private)
		if err != nil {
			return err
		}
		if err := pem.Encode(&file, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", file.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (r *keyring) signing() signingKey {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.keys[0]
}

func (r *keyring) published() []op.Key {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	public := make([]op.Key, 0, len(r.keys))
	for _, key := range r.keys {
		public = append(public, publicKey{key})
	}
	return public
}
