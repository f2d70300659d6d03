package agent

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// probeOptions let the platform's key run one command that does nothing, and nothing else.
const probeOptions = `restrict,command="/bin/true"`

// maxKeys bounds what one user may have.
const maxKeys = 100

// authorizedKeys renders the lines of authorized_keys. A tenant's key is rendered anew from its parsed form, so that no
// option, no second line and no odd comment of theirs reaches the file.
func authorizedKeys(keys []string, probeKey string) ([]string, error) {
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("a user may have %d keys, and %d were given", maxKeys, len(keys))
	}
	var lines []string
	seen := map[string]bool{}
	add := func(options, text string) error {
		line, err := keyLine(text)
		if err != nil {
			return err
		}
		if seen[line] {
			return nil
		}
		seen[line] = true
		lines = append(lines, strings.TrimSpace(options+" "+line))
		return nil
	}
	// The probe's key goes first: OpenSSH takes the options of the first line that matches, so that a tenant who
	// presents the platform's public key as their own gains nothing.
	if probeKey != "" {
		if err := add(probeOptions, probeKey); err != nil {
			return nil, fmt.Errorf("the probe key: %w", err)
		}
	}
	for index, key := range keys {
		if err := add("", key); err != nil {
			return nil, fmt.Errorf("key %d: %w", index+1, err)
		}
	}
	return lines, nil
}

func keyLine(text string) (string, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return "", fmt.Errorf("it is not a public key: %w", err)
	case len(options) > 0:
		return "", errors.New("it carries options")
	case len(strings.TrimSpace(string(rest))) > 0:
		return "", errors.New("it is more than one line")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}
