// Package secret knows what must never be written down: by the name of a field, and by how a text looks. Sanitize is
// the one function that a value passes before it goes into a log line, a span, an error's details, the audit log, a
// panic report or a workflow's history. A leaf: standard library only, no state, so that every room may use it.
package secret

// Redacted stands where a secret stood; the field itself is kept.
const Redacted = "[REDACTED]"

// Prefixes of the tokens that the platform mints, so that one is known wherever it stands.
const (
	TerminalTokenPrefix        = "gpuaas_term_"
	PersonalTokenPrefix        = "gpuaas_api_"
	ServiceAccountTokenPrefix  = "gpuaas_sa_"
	ServiceAccountSecretPrefix = "gpuaas_sas_"
	EnrolTokenPrefix           = "gpuaas_enrol_"
	InvitationPrefix           = "gpuaas_inv_"
)

// SessionCookie is the name of the browser's session cookie.
const SessionCookie = "gpuaas_session"

// Sanitize is value without its secrets: what stands under a secret name becomes Redacted, texts lose the secrets inside
// them, and structs, pointers, maps, slices, errors, JSON, fmt.Stringer and slog.LogValuer are walked to the end. The
// value itself is never changed; one without a secret in it may come back as it is. Everything is bounded: a text is cut
// at 64 KiB, a value at 4096 parts and 256 KiB. It does not panic, whatever the methods of the value do.
func Sanitize(name string, value any) any {
	switch typed := value.(type) {
	case nil, bool:
		return value
	case string:
		if typed != "" && Name(name) {
			return Redacted
		}
		return Text(typed)
	}
	if Name(name) {
		return Redacted
	}
	w := walk{parts: mostParts, bytes: mostBytes}
	return w.value(value, 0)
}

// Details is Sanitize for the details of an error or of an audit row: a map stays a map, and nil stays nil.
func Details(details map[string]any) map[string]any {
	if details == nil {
		return nil
	}
	w := walk{parts: mostParts, bytes: mostBytes}
	return w.fields(details, 0)
}
