// Package sshkey reads SSH public keys and decides which may be let onto a node. It imports golang.org/x/crypto/ssh alone.
package sshkey

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// SmallestRSABits is the weakest RSA key that is let onto a node.
const SmallestRSABits = 2048

// accepted are the key types that may log in. Certificates are not among them: they would bring their own principals.
var accepted = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true,
	ssh.KeyAlgoSKED25519: true, ssh.KeyAlgoSKECDSA256: true, ssh.KeyAlgoRSA: true,
}

// Key is a public key that may log in.
type Key struct {
	// Line is type and key in authorized_keys form, without options and comment.
	Line string
	// Fingerprint is SHA-256, as ssh-keygen -l shows it.
	Fingerprint string
}

// Parse reads one line in authorized_keys form and keeps type and key alone: an option could run a command on the node, and a
// comment is mostly somebody's address, which belongs in no history. The errors are sentences for whoever sent the line.
func Parse(text string) (Key, error) {
	line := strings.TrimSpace(text)
	if strings.ContainsAny(line, "\r\n\x00") {
		return Key{}, errors.New("a key is one line")
	}
	parsed, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil || len(rest) > 0:
		return Key{}, errors.New("this is no public key in authorized_keys form")
	case len(options) > 0:
		return Key{}, errors.New("options are not accepted")
	case !accepted[parsed.Type()]:
		return Key{}, fmt.Errorf("keys of type %s are not accepted", parsed.Type())
	}
	if crypto, holds := parsed.(ssh.CryptoPublicKey); holds {
		if modulus, isRSA := crypto.CryptoPublicKey().(*rsa.PublicKey); isRSA && modulus.N.BitLen() < SmallestRSABits {
			return Key{}, fmt.Errorf("an RSA key has at least %d bits", SmallestRSABits)
		}
	}
	return Key{Line: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(parsed))), Fingerprint: ssh.FingerprintSHA256(parsed)}, nil
}
