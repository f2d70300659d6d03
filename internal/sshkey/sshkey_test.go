package sshkey_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/gpuaas/gpuaas/internal/sshkey"
)

func line(t *testing.T, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func TestOnlyPlainKeysOfStrengthMayLogIn(t *testing.T) {
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	plain := line(t, edwards)
	for name, text := range map[string]string{
		"ed25519": plain, "ecdsa": line(t, &curve.PublicKey), "rsa of 2048 bits": line(t, &strong.PublicKey),
		"with a comment": plain + " somebody@example.com", "with blanks around it": "  " + plain + "\n",
	} {
		key, err := sshkey.Parse(text)
		if err != nil || strings.Contains(key.Line, "@") || len(strings.Fields(key.Line)) != 2 || !strings.HasPrefix(key.Fingerprint, "SHA256:") || len(key.Fingerprint) != 50 {
			t.Errorf("%s: %+v, %v", name, key, err)
		}
	}
	for name, test := range map[string][2]string{
		"rsa of 1024 bits": {line(t, &weak.PublicKey), "at least 2048 bits"},
		"an option":        {`command="rm -rf /" ` + plain, "options"},
		"two lines":        {plain + "\n" + plain, "one line"},
		"a private key":    {"-----BEGIN OPENSSH PRIVATE KEY-----", "no public key"},
		"dsa":              {"ssh-dss AAAAB3NzaC1kc3MAAAAEAAAAAwAAAAMAAAADAAAAAw==", ""},
		"nothing":          {"", "no public key"},
	} {
		if _, err := sshkey.Parse(test[0]); err == nil || !strings.Contains(err.Error(), test[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
