// Package webhook tells customers' endpoints of events: it decides which endpoints an event is for, keeps their secrets sealed, signs as
// Standard Webhooks says, and sends, to public addresses alone. It imports domain, schema/queries and internal packages; when to try again,
// and what a failure means, the workflow and its step decide.
package webhook

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/gpuaas/gpuaas/domain/id"
)

// SecretPrefix begins every signing secret, as Standard Webhooks libraries expect it.
const SecretPrefix = "whsec_"

// SecretText renders a secret as it is shown, once.
func SecretText(secret [32]byte) string {
	return SecretPrefix + base64.StdEncoding.EncodeToString(secret[:])
}

// Keys seal signing secrets, which have to be read again to sign with: AES-256-GCM, bound to the endpoint, so that one that is moved to
// another row opens nowhere. The first key seals; each of them opens, so that a new key is put in front and the old one stays until
// nothing is sealed under it.
type Keys struct {
	current string
	byID    map[string]cipher.AEAD
}

const keyBytes = 32

var keyID = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// ErrNotSealed says that a secret was sealed under no key that is known, or for another endpoint.
var ErrNotSealed = errors.New("the webhook's secret cannot be opened with the keys that are configured")

// ParseKeys reads "id:hex,id:hex": an id is 1 to 16 of a-z and 0-9, a key exactly 32 bytes.
func ParseKeys(text string) (*Keys, error) {
	keys := &Keys{byID: map[string]cipher.AEAD{}}
	for _, pair := range strings.Split(text, ",") {
		name, encoded, _ := strings.Cut(strings.TrimSpace(pair), ":")
		key, err := hex.DecodeString(encoded)
		if !keyID.MatchString(name) || err != nil || len(key) != keyBytes {
			// The text itself is a secret and stays out of the sentence.
			return nil, fmt.Errorf("keys are id:hex, separated by commas, each of exactly %d bytes", keyBytes)
		}
		if _, twice := keys.byID[name]; twice {
			return nil, fmt.Errorf("the key id %q is given twice", name)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		if keys.byID[name], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
		if keys.current == "" {
			keys.current = name
		}
	}
	return keys, nil
}

// Seal seals a secret for an endpoint: length of the key id, key id, nonce, ciphertext.
func (k *Keys) Seal(endpoint id.Webhook, secret [32]byte) []byte {
	sealing := k.byID[k.current]
	nonce := make([]byte, sealing.NonceSize())
	_, _ = rand.Read(nonce) // never fails since Go 1.24
	sealed := append([]byte{byte(len(k.current))}, k.current...)
	return sealing.Seal(append(sealed, nonce...), nonce, secret[:], []byte(endpoint))
}

// Open opens what Seal sealed for the endpoint; ErrNotSealed for anything else.
func (k *Keys) Open(endpoint id.Webhook, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || len(sealed) < 1+int(sealed[0]) {
		return nil, ErrNotSealed
	}
	end := 1 + int(sealed[0])
	opening, known := k.byID[string(sealed[1:end])]
	rest := sealed[end:]
	if !known || len(rest) < opening.NonceSize() {
		return nil, ErrNotSealed
	}
	secret, err := opening.Open(nil, rest[:opening.NonceSize()], rest[opening.NonceSize():], []byte(endpoint))
	if err != nil {
		return nil, ErrNotSealed
	}
	return secret, nil
}
