package nodeapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/gpuaas/gpuaas/domain/id"
)

// TokenKeys seal task tokens: Temporal's own are plain and unsigned, so whoever holds one could complete anybody's
// task. All replicas share the keys. The first seals; each of them opens, so that a rotation puts the new key in
// front and takes the old one away when its last tasks are done.
type TokenKeys struct {
	current string
	byID    map[string][]byte
}

const (
	macBytes = sha256.Size
	// maxTokenBytes bounds a sealed token; Temporal's are a few hundred bytes.
	maxTokenBytes = 8 << 10
	minKeyBytes   = 32
)

var keyID = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// ErrTokenNotSealed says that a task token is not one that this node was given.
var ErrTokenNotSealed = errors.New("the task token was not given to this node")

// ParseTokenKeys reads "id:hex,id:hex": an id is 1 to 16 of a-z and 0-9, a key at least 32 bytes.
func ParseTokenKeys(text string) (*TokenKeys, error) {
	keys := &TokenKeys{byID: map[string][]byte{}}
	for _, pair := range strings.Split(text, ",") {
		name, encoded, _ := strings.Cut(strings.TrimSpace(pair), ":")
		key, err := hex.DecodeString(encoded)
		if !keyID.MatchString(name) || err != nil || len(key) < minKeyBytes {
			// The text itself is a secret and stays out of the sentence.
			return nil, fmt.Errorf("task token keys are id:hex, separated by commas, each key of at least %d bytes", minKeyBytes)
		}
		if _, twice := keys.byID[name]; twice {
			return nil, fmt.Errorf("the task token key id %q is given twice", name)
		}
		if keys.current == "" {
			keys.current = name
		}
		keys.byID[name] = key
	}
	return keys, nil
}

// Seal binds a task token to a node: length of the key id, key id, MAC, token.
func (k *TokenKeys) Seal(nodeID id.Node, token []byte) []byte {
	sealed := make([]byte, 0, 1+len(k.current)+macBytes+len(token))
	sealed = append(sealed, byte(len(k.current)))
	sealed = append(sealed, k.current...)
	sealed = append(sealed, mac(k.byID[k.current], k.current, nodeID, token)...)
	return append(sealed, token...)
}

// Open answers the token inside if this node was given it; ErrTokenNotSealed otherwise, whatever is wrong.
func (k *TokenKeys) Open(nodeID id.Node, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || len(sealed) > maxTokenBytes {
		return nil, ErrTokenNotSealed
	}
	idEnd := 1 + int(sealed[0])
	if len(sealed) <= idEnd+macBytes {
		return nil, ErrTokenNotSealed
	}
	name := string(sealed[1:idEnd])
	key, known := k.byID[name]
	if !known {
		return nil, ErrTokenNotSealed
	}
	given, token := sealed[idEnd:idEnd+macBytes], sealed[idEnd+macBytes:]
	if !hmac.Equal(given, mac(key, name, nodeID, token)) {
		return nil, ErrTokenNotSealed
	}
	return token, nil
}

// mac covers key id, node and token with zero bytes between, which neither of the first two can contain.
func mac(key []byte, name string, nodeID id.Node, token []byte) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(name))
	hash.Write([]byte{0})
	hash.Write([]byte(nodeID))
	hash.Write([]byte{0})
	hash.Write(token)
	return hash.Sum(nil)
}
