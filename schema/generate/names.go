package main

import (
	"regexp"
	"strings"
	"unicode"
)

var (
	snakeCase  = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	dottedName = regexp.MustCompile(`^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$`)
)

var initialisms = map[string]string{
	"api": "API", "gpu": "GPU", "http": "HTTP", "id": "ID", "maas": "MAAS", "sku": "SKU", "ssh": "SSH", "ttl": "TTL", "url": "URL",
}

// goName turns billing.window_seconds into BillingWindowSeconds.
func goName(name string) string {
	var result strings.Builder
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '_' || r == '.' || r == '-' }) {
		if initialism, known := initialisms[word]; known {
			result.WriteString(initialism)
			continue
		}
		result.WriteRune(unicode.ToUpper(rune(word[0])))
		result.WriteString(word[1:])
	}
	return result.String()
}
