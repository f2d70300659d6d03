package api

import (
	"crypto/rsa"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// smallestRSABits is the weakest RSA key that is let onto a node.
const smallestRSABits = 2048

var saneLabelKey = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)

// acceptedKeys are the key types that may log in. Certificates are not among them: they would bring their own principals.
var acceptedKeys = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true,
	ssh.KeyAlgoSKED25519: true, ssh.KeyAlgoSKECDSA256: true, ssh.KeyAlgoRSA: true,
}

// checkName accepts what a person can read in one line.
func checkName(name string) error {
	if name != strings.TrimSpace(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid("body.name", "a name has printable characters only and no space at its ends")
	}
	return nil
}

func checkLabels(labels map[string]labelValue, most int64) (map[string]string, error) {
	if int64(len(labels)) > most {
		return nil, invalid("body.labels", fmt.Sprintf("at most %d labels are accepted", most))
	}
	checked := make(map[string]string, len(labels))
	for key, value := range labels {
		if !saneLabelKey.MatchString(key) {
			return nil, invalid("body.labels", "a label's key has 1 to 63 letters, digits, dots, dashes, slashes or underscores and ends in a letter or digit")
		}
		if strings.ContainsFunc(string(value), func(r rune) bool { return !unicode.IsPrint(r) }) {
			return nil, invalid("body.labels."+key, "a label's value has printable characters only")
		}
		checked[key] = string(value)
	}
	return checked, nil
}

// checkSSHKeys parses each key and keeps type and key alone: an option could run a command on the node, and a comment is
// mostly somebody's address, which belongs in no history.
func checkSSHKeys(keys []publicKey, most int64) ([]string, error) {
	if int64(len(keys)) > most {
		return nil, invalid("body.ssh_keys", fmt.Sprintf("at most %d keys are accepted", most))
	}
	checked, seen := make([]string, 0, len(keys)), map[string]bool{}
	for i, key := range keys {
		location := fmt.Sprintf("body.ssh_keys[%d]", i)
		line := strings.TrimSpace(string(key))
		if strings.ContainsAny(line, "\r\n\x00") {
			return nil, invalid(location, "a key is one line")
		}
		parsed, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case err != nil || len(rest) > 0:
			return nil, invalid(location, "this is no public key in authorized_keys form")
		case len(options) > 0:
			return nil, invalid(location, "options are not accepted")
		case !acceptedKeys[parsed.Type()]:
			return nil, invalid(location, "keys of type "+parsed.Type()+" are not accepted")
		}
		if crypto, holds := parsed.(ssh.CryptoPublicKey); holds {
			if modulus, isRSA := crypto.CryptoPublicKey().(*rsa.PublicKey); isRSA && modulus.N.BitLen() < smallestRSABits {
				return nil, invalid(location, fmt.Sprintf("an RSA key has at least %d bits", smallestRSABits))
			}
		}
		canonical := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(parsed)))
		if !seen[canonical] {
			seen[canonical] = true
			checked = append(checked, canonical)
		}
	}
	return checked, nil
}
