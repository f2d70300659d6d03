package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gpuaas/gpuaas/domain/id"
)

// moment is an instant in an answer: RFC 3339, UTC, always with three digits of milliseconds.
type moment time.Time

// MarshalJSON writes the instant.
func (m moment) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(m).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// Schema is that of any instant.
func (moment) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}

func maybe(at *time.Time) *moment {
	if at == nil {
		return nil
	}
	rendered := moment(*at)
	return &rendered
}

// text is an optional text of a row: absent when empty.
func text[Text ~string](value *Text) string {
	if value == nil {
		return ""
	}
	return string(*value)
}

// derive makes the entropy of an id, or of a token, from a request: the same parts give the same id, and nobody
// without the secret can choose one.
func (s *server) derive(parts ...string) (entropy [32]byte) {
	mac := hmac.New(sha256.New, s.config.IDSecret)
	for _, part := range parts {
		// A zero byte stands in none of the parts, so no two lists of parts run together.
		_, _ = mac.Write(append([]byte(part), 0))
	}
	copy(entropy[:], mac.Sum(nil))
	return entropy
}

func deriveID[K id.Kind](s *server, parts ...string) K {
	entropy := s.derive(parts...)
	return id.New[K]([16]byte(entropy[:16]))
}

// freeForm is an object whose fields are not ours to name.
type freeForm map[string]any

// Schema allows any field.
func (freeForm) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}
