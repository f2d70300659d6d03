package evidence

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// Keys are the key that signs now and every key that ever did, newest first.
type Keys struct {
	current signer
	public  []ed25519.PublicKey
}

const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// LoadKeys reads a file of PEM blocks: the first is the private key that signs (PKCS #8, Ed25519), the others are older keys,
// private or public, whose public halves stay published so that what they signed can be verified for ever.
func LoadKeys(path string) (*Keys, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the evidence keys: %w", err)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("the evidence keys in %s: %w", path, err)
	}
	return keys, nil
}

func parseKeys(text []byte) (*Keys, error) {
	keys := &Keys{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		one, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		if len(keys.public) == 0 {
			if keys.current = one; one.private == nil {
				return nil, errors.New("the first key must be a private one: it signs")
			}
		}
		keys.public = append(keys.public, one.public)
	}
	if len(keys.public) == 0 {
		return nil, errors.New("there is no PEM block in it")
	}
	return keys, nil
}

func parseKey(block *pem.Block) (signer, error) {
	switch block.Type {
	case privateBlock:
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return signer{}, fmt.Errorf("a private key: %w", err)
		}
		private, fits := parsed.(ed25519.PrivateKey)
		if !fits {
			return signer{}, errors.New("a private key is not an Ed25519 key")
		}
		return signer{private: private, public: private.Public().(ed25519.PublicKey)}, nil
	case publicBlock:
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return signer{}, fmt.Errorf("a public key: %w", err)
		}
		public, fits := parsed.(ed25519.PublicKey)
		if !fits {
			return signer{}, errors.New("a public key is not an Ed25519 key")
		}
		return signer{public: public}, nil
	default:
		return signer{}, fmt.Errorf("a PEM block of type %q is no key", block.Type)
	}
}

// ParsePublicKeys reads a file of PEM blocks with at least one public key.
func ParsePublicKeys(text []byte) ([]ed25519.PublicKey, error) {
	var found []ed25519.PublicKey
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != publicBlock {
			return nil, fmt.Errorf("a PEM block of type %q is no public key", block.Type)
		}
		one, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		found = append(found, one.public)
	}
	if len(found) == 0 {
		return nil, errors.New("there is no public key in PEM form in it")
	}
	return found, nil
}

// Generate makes a new key as LoadKeys reads it.
func Generate() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("an evidence key: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("an evidence key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: encoded}), nil
}

// Published is a key as everybody may know it.
type Published struct {
	KeyID string
	// PEM is the public key (SubjectPublicKeyInfo).
	PEM string
	// Current says that it signs now.
	Current bool
}

// Published lists every key, the current one first.
func (k *Keys) Published() ([]Published, error) {
	var published []Published
	for i, public := range k.public {
		encoded, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("an evidence key: %w", err)
		}
		published = append(published, Published{KeyID: KeyID(public), PEM: string(pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: encoded})), Current: i == 0})
	}
	return published, nil
}

// KeyID names a public key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
func KeyID(public ed25519.PublicKey) string {
	encoded, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}
