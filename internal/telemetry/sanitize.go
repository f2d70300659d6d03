package telemetry

import (
	"log/slog"
	"regexp"
	"strings"
)

// redacted stands where a secret stood; the field itself is kept.
const redacted = "[REDACTED]"

// secretKeys are field names whose value is a secret whatever it looks like.
var secretKeys = map[string]bool{
	"password": true, "password_hash": true, "access_token": true, "refresh_token": true, "id_token": true,
	"stripe_customer_id": true, "payment_reference": true, "authorization": true, "cookie": true, "set_cookie": true,
	"client_secret": true, "api_key": true, "api_token": true, "terminal_token": true, "enrol_token": true, "token": true,
	"secret": true, "private_key": true, "sec_websocket_protocol": true, "stripe_signature": true, "id_secret": true,
}

// secretPatterns are values that are secrets wherever they stand, also in the middle of a sentence.
var secretPatterns = []*regexp.Regexp{
	// PEM blocks of private keys, cut off ones too
	regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`),
	// JSON web tokens, two or three parts
	regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(\.[A-Za-z0-9_-]*)?`),
	regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`),
	// Stripe's keys, webhook secrets and customers
	regexp.MustCompile(`\b(sk|rk|pk)_(live|test)_[A-Za-z0-9]{6,}`),
	regexp.MustCompile(`\bwhsec_[A-Za-z0-9]{6,}`),
	regexp.MustCompile(`\bcus_[A-Za-z0-9]{6,}`),
	// our own: terminal, API and enrolment tokens
	regexp.MustCompile(`\bgpuaas_(term|api|enrol|sa)_[A-Za-z0-9_-]{6,}`),
	// userinfo in a URL, and secrets in a query
	regexp.MustCompile(`://[^/\s:@]*:[^/\s@]+@`),
	regexp.MustCompile(`(?i)\b(password|passwd|secret|access_token|refresh_token|id_token|token|api_key|client_secret)=[^&\s"']+`),
}

// EnrolTokenPrefix opens every enrolment token, so that Sanitize knows one wherever it stands.
const EnrolTokenPrefix = "gpuaas_enrol_"

// Sanitize is what every value passes on its way to a log line or a span: a field with a secret name becomes
// [REDACTED], maps and lists are walked, and secrets inside texts are cut out. Any other value is returned as it is.
func Sanitize(key string, value any) any {
	if secretName(key) {
		return redacted
	}
	switch typed := value.(type) {
	case string:
		return sanitizeText(typed)
	case []byte:
		return sanitizeText(string(typed))
	case error:
		return sanitizeText(typed.Error())
	case map[string]any:
		clean := make(map[string]any, len(typed))
		for name, inner := range typed {
			clean[name] = Sanitize(name, inner)
		}
		return clean
	case map[string]string:
		clean := make(map[string]any, len(typed))
		for name, inner := range typed {
			clean[name] = Sanitize(name, inner)
		}
		return clean
	case map[string][]string:
		clean := make(map[string]any, len(typed))
		for name, inner := range typed {
			clean[name] = Sanitize(name, inner)
		}
		return clean
	case []any:
		clean := make([]any, len(typed))
		for i, inner := range typed {
			clean[i] = Sanitize("", inner)
		}
		return clean
	case []string:
		clean := make([]string, len(typed))
		for i, inner := range typed {
			clean[i] = sanitizeText(inner)
		}
		return clean
	default:
		return value
	}
}

// secretName says whether a field of that name is a secret. Case and the kind of dash do not matter.
func secretName(key string) bool {
	name := strings.ReplaceAll(strings.ToLower(key), "-", "_")
	return secretKeys[name] || strings.HasPrefix(name, "ssh_private_key")
}

func sanitizeText(text string) string {
	for _, pattern := range secretPatterns {
		text = pattern.ReplaceAllString(text, redacted)
	}
	return text
}

// sanitizeAttr is Sanitize for a log handler; groups are walked by slog itself.
func sanitizeAttr(_ []string, attr slog.Attr) slog.Attr {
	value := attr.Value.Resolve()
	switch value.Kind() {
	case slog.KindString:
		attr.Value = slog.AnyValue(Sanitize(attr.Key, value.String()))
	case slog.KindAny:
		// slog's own level and source are no texts and pass unchanged.
		attr.Value = slog.AnyValue(Sanitize(attr.Key, value.Any()))
	case slog.KindGroup:
	default:
		if secretName(attr.Key) {
			attr.Value = slog.StringValue(redacted)
		}
	}
	return attr
}
