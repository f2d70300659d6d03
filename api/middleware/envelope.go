// Package middleware is what every request passes before its operation: correlation, recovery, size, who asks,
// whether they may, and whether it was asked before. It may import domain, internal and schema; it knows operations
// by name and rule only.
package middleware

import (
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// Headers of the API's habits.
const (
	HeaderCorrelationID  = "X-Correlation-Id"
	HeaderIdempotencyKey = "X-Idempotency-Key"
	HeaderReplayed       = "Idempotency-Replayed"
	HeaderChallenge      = "WWW-Authenticate"
)

// Challenge says with every 401 how to authenticate (RFC 9110 §15.5.2).
const Challenge = `Bearer realm="gpuaas"`

// Envelope is the body of every error, from every layer (SPEC §3).
type Envelope struct {
	Code          fault.Code     `json:"code"`
	Message       string         `json:"message"`
	CorrelationID string         `json:"correlation_id"`
	Details       map[string]any `json:"details"`
}

// NewEnvelope renders a fault for whoever asked, without a secret that came with their request. The cause stays behind: it
// is for the log.
func NewEnvelope(found *fault.Error, correlationID string) Envelope {
	details := secret.Details(found.Details)
	if details == nil {
		details = map[string]any{}
	}
	message := secret.Text(found.Message)
	if message == "" {
		message = found.Code.Entry().Sentence
	}
	return Envelope{Code: found.Code, Message: message, CorrelationID: correlationID, Details: details}
}

// WriteFault answers a request with the envelope of err and logs what is our own or a dependency's fault.
func WriteFault(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	found := fault.From(err)
	status := found.Code.HTTPStatus()
	LogFault(r, log, found)
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusUnauthorized {
		w.Header().Set(HeaderChallenge, Challenge)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(NewEnvelope(found, telemetry.Correlation(r.Context()))) // the client may be gone
}

// LogFault logs a 5xx with its cause, which nobody outside sees.
func LogFault(r *http.Request, log *slog.Logger, found *fault.Error) {
	if found.Code.HTTPStatus() >= http.StatusInternalServerError {
		log.ErrorContext(r.Context(), "a request failed", "code", string(found.Code), "path", r.URL.Path, "error", found.Error())
		telemetry.RecordError(r.Context(), found)
	}
}
