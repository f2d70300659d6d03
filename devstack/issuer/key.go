package issuer

import (
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

	jose "github.com/go-jose/go-jose/v4"
)

const keyBits = 2048

// signingKey is the RSA key that signs every token; its id is its thumbprint (RFC 7638).
type signingKey struct {
	private *rsa.PrivateKey
	id      string
}

// loadKey reads the key or makes it. The file is written whole under another name first, so that a kill leaves
// either no key or a good one.
func loadKey(path string) (signingKey, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		raw, err = makeKey(path)
	}
	if err != nil {
		return signingKey{}, fmt.Errorf("the issuer's signing key is not usable: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return signingKey{}, fmt.Errorf("%s holds no PEM block", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return signingKey{}, fmt.Errorf("%s holds no PKCS #8 key: %w", path, err)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return signingKey{}, fmt.Errorf("%s holds no RSA key", path)
	}
	thumbprint, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return signingKey{}, err
	}
	return signingKey{private: private, id: base64.RawURLEncoding.EncodeToString(thumbprint)}, nil
}

func makeKey(path string) ([]byte, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return nil, err
	}
	return raw, os.Rename(path+".new", path)
}

func (k signingKey) signer() (jose.Signer, error) {
	return jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: k.private, KeyID: k.id}},
		(&jose.SignerOptions{}).WithType("JWT"))
}

func (k signingKey) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(jose.RS256), Use: "sig"}
}
