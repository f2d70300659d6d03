package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
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
	for _, line := range detailLines(refused.Details) {
		said.WriteString("\n  " + line)
	}
	if refused.CorrelationID != "" {
		fmt.Fprintf(&said, "\n  correlation id: %s", refused.CorrelationID)
	}
	return printableLines(said.String())
}

// detailLines renders the details of a refusal, a line each: problems of fields by their place, everything else by its name, amounts in the
// currency that is named beside them.
func detailLines(details map[string]any) []string {
	var lines []string
	if problems, ok := details["errors"].([]any); ok {
		for _, problem := range problems {
			if p, ok := problem.(map[string]any); ok {
				lines = append(lines, fmt.Sprintf("%v: %v", p["location"], p["message"]))
			}
		}
	}
	currency, _ := details["currency"].(string)
	for _, name := range slices.Sorted(maps.Keys(details)) {
		label, shown := name, plain(details[name])
		if value, isNumber := details[name].(float64); isNumber && currency != "" {
			if micros, isMicros := strings.CutSuffix(name, "_micros"); isMicros {
				label, shown = micros, amount(int64(value), currency)
			} else if minor, isMinor := strings.CutSuffix(name, "_minor"); isMinor {
				label, shown = minor, amount(int64(value)*microsPerMinor, currency)
			}
		}
		if name != "errors" {
			lines = append(lines, strings.ReplaceAll(label, "_", " ")+": "+shown)
		}
	}
	return lines
}

// plain renders a detail: a list by its items, an object as JSON, a number with all its digits.
func plain(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case []any:
		items := make([]string, len(value))
		for i, item := range value {
			items[i] = plain(item)
		}
		return strings.Join(items, ", ")
	default:
		text, err := json.Marshal(value)
		if err != nil {
			return fmt.Sprint(value)
		}
		return string(text)
	}
}

// envelopeOf is a refusal as the API sent it, for programs.
func envelopeOf(refused *client.Refusal) ([]byte, error) {
	details := refused.Details
	if details == nil {
		details = map[string]any{}
	}
	return json.Marshal(struct {
		Code          fault.Code     `json:"code"`
		Message       string         `json:"message"`
		CorrelationID string         `json:"correlation_id"`
		Details       map[string]any `json:"details"`
	}{refused.Code, refused.Message, refused.CorrelationID, details})
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
