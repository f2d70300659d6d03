package nodeapi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
)

var (
	oldKey = "old:" + strings.Repeat("0f", 32)
	newKey = "new:" + strings.Repeat("f0", 32)
	nodeA  = id.New[id.Node]([16]byte{1})
	nodeB  = id.New[id.Node]([16]byte{2})
)

func keysOf(t testing.TB, text string) *TokenKeys {
	t.Helper()
	keys, err := ParseTokenKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestASealedTokenOpensForItsNodeAndKeyOnly(t *testing.T) {
	token := []byte("a task token of Temporal's")
	sealed := keysOf(t, oldKey).Seal(nodeA, token)
	swapped := append([]byte{3}, append([]byte("new"), sealed[4:]...)...)
	cases := []struct {
		name  string
		keys  string
		node  id.Node
		token []byte
		opens bool
	}{
		{"the node it was given to", oldKey, nodeA, sealed, true},
		{"during the overlap of a rotation", newKey + "," + oldKey, nodeA, sealed, true},
		{"after its key was taken away", newKey, nodeA, sealed, false},
		{"another node", oldKey, nodeB, sealed, false},
		{"the bare token", oldKey, nodeA, token, false},
		{"nothing", oldKey, nodeA, nil, false},
		{"the seal without a token", oldKey, nodeA, sealed[:1+3+macBytes], false},
		{"under another key's name", newKey + "," + oldKey, nodeA, swapped, false},
		{"with a byte more", oldKey, nodeA, append(bytes.Clone(sealed), 0), false},
	}
	for _, c := range cases {
		opened, err := keysOf(t, c.keys).Open(c.node, c.token)
		if c.opens && (err != nil || !bytes.Equal(opened, token)) {
			t.Errorf("%s: %q, %v", c.name, opened, err)
		}
		if !c.opens && !errors.Is(err, ErrTokenNotSealed) {
			t.Errorf("%s: opened %q, %v", c.name, opened, err)
		}
	}
	for at := range sealed {
		changed := bytes.Clone(sealed)
		changed[at] ^= 1
		if _, err := keysOf(t, oldKey).Open(nodeA, changed); err == nil {
			t.Errorf("the token opens with byte %d changed", at)
		}
	}
}

func TestTokenKeysThatAreNotUsableAreRefused(t *testing.T) {
	for _, text := range []string{"", "a", "a:", "a:zz", "a:" + strings.Repeat("0", 62), "A:" + strings.Repeat("0f", 32), ":" + strings.Repeat("0f", 32),
		oldKey + "," + oldKey, oldKey + ",", strings.Repeat("a", 17) + ":" + strings.Repeat("0f", 32)} {
		if _, err := ParseTokenKeys(text); err == nil {
			t.Errorf("%q was taken as keys", text)
		} else if strings.Contains(err.Error(), strings.Repeat("0f", 32)) {
			t.Errorf("the sentence tells the key: %v", err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	keys := keysOf(f, newKey+","+oldKey)
	sealed := keys.Seal(nodeA, []byte("token"))
	f.Add(sealed)
	f.Add([]byte{})
	f.Add([]byte{255})
	f.Add(append([]byte{3}, []byte("new")...))
	f.Fuzz(func(t *testing.T, given []byte) {
		token, err := keys.Open(nodeA, given)
		if err != nil {
			return
		}
		// Whatever opens was sealed by a key of ours for this node: sealing it again gives the same bytes.
		for _, text := range []string{newKey, oldKey} {
			if bytes.Equal(keysOf(t, text).Seal(nodeA, token), given) {
				return
			}
		}
		t.Fatalf("%s opened to %q and was never sealed", hex.EncodeToString(given), token)
	})
}
