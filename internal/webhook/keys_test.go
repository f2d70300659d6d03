package webhook_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/webhook"
)

func keys(t *testing.T, text string) *webhook.Keys {
	t.Helper()
	parsed, err := webhook.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestASecretOpensWhereItWasSealedForAndNowhereElse(t *testing.T) {
	const one, other id.Webhook = "hook_aaaaaaaaaaaaaaaaaaaaaaaaaa", "hook_baaaaaaaaaaaaaaaaaaaaaaaaa"
	secret := [32]byte{1, 2, 3}
	old, fresh := "old:"+strings.Repeat("01", 32), "new:"+strings.Repeat("02", 32)
	sealed := keys(t, old).Seal(one, secret)
	if bytes.Contains(sealed, secret[:3]) {
		t.Error("the secret can be read")
	}
	if again := keys(t, old).Seal(one, secret); bytes.Equal(again, sealed) {
		t.Error("what is sealed twice looks the same twice")
	}
	if opened, err := keys(t, fresh+","+old).Open(one, sealed); err != nil || !bytes.Equal(opened, secret[:]) {
		t.Errorf("behind a new key the old one opens %v, %v", opened, err)
	}
	turned := bytes.Clone(sealed)
	turned[len(turned)-1] ^= 1
	for name, test := range map[string]struct {
		keys     *webhook.Keys
		endpoint id.Webhook
		sealed   []byte
	}{
		"another endpoint":  {keys(t, old), other, sealed},
		"an unknown key":    {keys(t, fresh), one, sealed},
		"a changed byte":    {keys(t, old), one, turned},
		"nothing":           {keys(t, old), one, nil},
		"a length too much": {keys(t, old), one, []byte{200, 1, 2}},
		"a cut one":         {keys(t, old), one, sealed[:8]},
	} {
		if opened, err := test.keys.Open(test.endpoint, test.sealed); !errors.Is(err, webhook.ErrNotSealed) || opened != nil {
			t.Errorf("%s: %v, %v", name, opened, err)
		}
	}
}

func TestKeysAreReadOrRefused(t *testing.T) {
	good := strings.Repeat("ab", 32)
	for _, text := range []string{"", "a", "a:", "a:xyz", "a:" + good[2:], "a:" + good + "ab", "A:" + good, ":" + good, "a:" + good + ",a:" + good} {
		_, err := webhook.ParseKeys(text)
		if err == nil {
			t.Errorf("%q is taken", text)
		} else if strings.Contains(err.Error(), good[:16]) {
			t.Errorf("the refusal tells the key: %v", err)
		}
	}
}
