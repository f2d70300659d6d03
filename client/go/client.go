// Package client is the Go client of the public API: client.gen.go is generated from schema/openapi.yaml, and
// the other files add what a contract cannot say: how a caller authenticates, that every call is safe to repeat and when
// that is worth it, how a list is read to its end, and that a refusal arrives as an error with its code. The CLI and the
// tests use nothing else to reach the platform. It imports domain/fault for the codes and the runtime of the generated
// code, and nothing of the platform's inside.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// Headers of the API's habits.
const (
	HeaderIdempotencyKey      = "X-Idempotency-Key"
	HeaderIdempotencyReplayed = "Idempotency-Replayed"
	HeaderCorrelationID       = "X-Correlation-Id"
)

// TokenSource answers the bearer token of the next request; it may refresh it. Where the API refuses a token, the source is
// asked once more, and the call repeated if it has another one by then.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken is a token that never changes; an empty one sends no Authorization header.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// Connect makes a client of the API at baseURL, such as http://127.0.0.1:9000, that authenticates with tokens.
// httpClient may be nil, which means http.DefaultClient; its Timeout bounds each attempt. A mutation without an idempotency key
// is given one, and calls are repeated as DefaultRetries says.
func Connect(baseURL string, tokens TokenSource, httpClient *http.Client) (*ClientWithResponses, error) {
	return ConnectWith(baseURL, tokens, httpClient, DefaultRetries())
}

// ConnectWith is Connect with other bounds for retries.
func ConnectWith(baseURL string, tokens TokenSource, httpClient *http.Client, retries Retries) (*ClientWithResponses, error) {
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	return NewClientWithResponses(baseURL, WithHTTPClient(caller{http: httpClient, tokens: tokens, retries: retries}))
}

// Refusal is an answer of the API that is not a success: the envelope of every error, and the HTTP status.
type Refusal struct {
	HTTPStatus int
	// Code is the catalogue's code; an answer without an envelope, such as a proxy's, counts as upstream_error.
	Code          fault.Code
	Message       string
	CorrelationID string
	Details       map[string]any
	// RetryAfter is how long the server asks to wait before another attempt; zero where it does not say.
	RetryAfter time.Duration
	// Replayed says that the refusal was stored by an earlier request with the same idempotency key.
	Replayed bool
}

// Error is the sentence with its code and correlation id.
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s (%s, correlation id %s)", r.Message, string(r.Code), r.CorrelationID)
}

// Retryable says whether the same request with the same idempotency key may succeed later.
func (r *Refusal) Retryable() bool { return r.Code.Retryable() }

// Is matches a code of the catalogue, so that errors.Is(err, fault.InsufficientBalance) reads as what it asks.
func (r *Refusal) Is(target error) bool {
	code, isCode := target.(fault.Code)
	return isCode && r.Code == code
}

// Check turns an answer of any operation into a *Refusal unless its status is a success (2xx). It takes what the generated
// ...WithResponse methods answer: the raw response and the body that was read.
func Check(response *http.Response, body []byte) error {
	if response == nil {
		return fmt.Errorf("the API gave no answer")
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusMultipleChoices {
		return nil
	}
	refusal := &Refusal{
		HTTPStatus:    response.StatusCode,
		CorrelationID: response.Header.Get(HeaderCorrelationID),
		Replayed:      response.Header.Get(HeaderIdempotencyReplayed) == "true",
	}
	refusal.RetryAfter, _ = retryAfter(response.Header, time.Now())
	var envelope Fault
	if err := json.Unmarshal(body, &envelope); err != nil || envelope.Code == "" {
		refusal.Code = fault.UpstreamError
		refusal.Message = fmt.Sprintf("The server answered %s without saying why.", response.Status)
		return refusal
	}
	refusal.Code, refusal.Message, refusal.Details = fault.Code(envelope.Code), envelope.Message, envelope.Details
	if refusal.CorrelationID == "" {
		refusal.CorrelationID = envelope.CorrelationID
	}
	return refusal
}

// Read reads and closes a raw answer and checks it; for the generated methods without WithResponse.
func Read(response *http.Response) ([]byte, error) {
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the API's answer: %w", err)
	}
	return body, Check(response, body)
}
