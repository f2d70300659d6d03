package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	compactParts = 3
	deepest      = 16
	// latest is the end of the year 9999, in seconds: what lies beyond is no date and would wrap around.
	latest = 253_402_300_799
)

// payloadOf takes a token apart and answers its claims as they are written. Libraries read JSON generously: a name twice, a
// number as text, another serialisation. Two readers could then see two tokens in one, so nothing of that passes here.
func payloadOf(token string) (map[string]json.RawMessage, error) {
	parts := strings.Split(token, ".")
	// The decoder of the standard library skips line breaks; a token has none.
	if len(parts) != compactParts || strings.ContainsAny(token, "\r\n") {
		return nil, errors.New("not a compact signed token")
	}
	for _, part := range parts[:2] {
		if err := unambiguous(part); err != nil {
			return nil, err
		}
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(text, &claims); err != nil {
		return nil, err
	}
	return claims, wellTyped(claims)
}

// unambiguous holds a part of a token to one JSON object in which no name stands twice.
func unambiguous(part string) error {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := uniqueNames(decoder, 0); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

func uniqueNames(decoder *json.Decoder, depth int) error {
	if depth > deepest {
		return errors.New("nested too deep")
	}
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	opened, compound := token.(json.Delim)
	if !compound {
		return nil
	}
	seen := map[any]bool{}
	for decoder.More() {
		if opened == '{' {
			name, err := decoder.Token()
			if err != nil {
				return err
			}
			if seen[name] {
				return fmt.Errorf("%q stands twice", name)
			}
			seen[name] = true
		}
		if err := uniqueNames(decoder, depth+1); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}

// wellTyped refuses a claim that we read and that is of another type than it must be.
func wellTyped(claims map[string]json.RawMessage) error {
	for _, name := range []string{"iss", "sub", "azp", "typ", "jti", "preferred_username", "at_hash", "c_hash"} {
		if err := isA[string](claims, name); err != nil {
			return err
		}
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		if err := isA[float64](claims, name); err != nil {
			return err
		}
		var seconds float64
		if raw, said := claims[name]; said && (json.Unmarshal(raw, &seconds) != nil || seconds < 0 || seconds > latest) {
			return fmt.Errorf("%s is no time", name)
		}
	}
	if string(claims["org_id"]) != "null" {
		if err := isA[string](claims, "org_id"); err != nil {
			return err
		}
	}
	if isA[string](claims, "aud") != nil {
		if err := isA[[]string](claims, "aud"); err != nil {
			return err
		}
	}
	return isA[struct {
		Roles []string `json:"roles"`
	}](claims, "realm_access")
}

// isA says whether a claim, if it is there, is of that type and not null.
func isA[T any](claims map[string]json.RawMessage, name string) error {
	raw, said := claims[name]
	if !said {
		return nil
	}
	var value T
	if string(raw) == "null" || json.Unmarshal(raw, &value) != nil {
		return fmt.Errorf("%s is of another type", name)
	}
	return nil
}
