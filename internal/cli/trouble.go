package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	client "github.com/gpuaas/gpuaas/client/go"
	"github.com/gpuaas/gpuaas/domain/fault"
)

// transportError says that the platform was not reached, or did not answer as itself.
type transportError struct{ error }

// Unwrap keeps deadlines recognisable behind a transport's error.
func (e transportError) Unwrap() error { return e.error }

// sentenceOf renders the platform's refusal for a person.
func sentenceOf(refused *client.Refusal) string {
	var said strings.Builder
	said.WriteString(refused.Message)
	if refused.Code != "" {
		fmt.Fprintf(&said, " (%s)", string(refused.Code))
	}
	if shortfall, ok := refused.Details["shortfall_micros"].(float64); ok {
		currency, _ := refused.Details["currency"].(string)
		fmt.Fprintf(&said, "\n  missing: %s", amount(int64(shortfall), currency))
	}
	if problems, ok := refused.Details["errors"].([]any); ok {
		for _, problem := range problems {
			if p, ok := problem.(map[string]any); ok {
				fmt.Fprintf(&said, "\n  %v: %v", p["location"], p["message"])
			}
		}
	}
	if refused.CorrelationID != "" {
		fmt.Fprintf(&said, "\n  correlation id: %s", refused.CorrelationID)
	}
	return printableLines(said.String())
}

func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// exitCodeOf sorts refusals by what the caller can do about them: first by code, then by status.
func exitCodeOf(refused *client.Refusal) int {
	switch refused.Code {
	case fault.InsufficientBalance:
		return ExitFunds
	case fault.SKUUnavailable, fault.AllocationConcurrencyLimit:
		return ExitCapacity
	}
	switch refused.HTTPStatus {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ExitAuth
	case http.StatusNotFound:
		return ExitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return ExitConflict
	case http.StatusPaymentRequired:
		return ExitFunds
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return ExitUsage
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return ExitTimeout
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		return ExitUnavailable
	}
	return ExitOther
}

// expiry reads the expiry out of a JWT without trusting it; zero when there is none to read.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var expires struct {
		At int64 `json:"exp"`
	}
	if json.Unmarshal(claims, &expires) != nil || expires.At == 0 {
		return time.Time{}
	}
	return time.Unix(expires.At, 0).UTC()
}
