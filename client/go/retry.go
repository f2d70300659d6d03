package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	randv2 "math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// Retries bounds how a call is repeated. Every call may be: a read changes nothing, and a mutation carries an
// X-Idempotency-Key, which is the same in each attempt, so that its work is done once.
type Retries struct {
	// Attempts is how often a request is sent at most; 1 means never again.
	Attempts int
	// FirstDelay is the mean of the first wait; each further one doubles. A Retry-After of the server counts instead.
	FirstDelay time.Duration
	// LongestDelay bounds one wait that the server did not ask for.
	LongestDelay time.Duration
	// Total bounds all attempts and waits of one call together: what cannot be waited for within it is not waited for.
	Total time.Duration
}

// DefaultRetries is what Connect uses: four attempts within a minute.
func DefaultRetries() Retries {
	return Retries{Attempts: 4, FirstDelay: 250 * time.Millisecond, LongestDelay: 8 * time.Second, Total: time.Minute}
}

// caller sends requests with a token and an idempotency key, and again where that helps.
type caller struct {
	http    *http.Client
	tokens  TokenSource
	retries Retries
}

// Do sends a request until it is answered for good, the retries are used up or its context ends. The last answer, or the
// last error, is given.
func (c caller) Do(request *http.Request) (*http.Response, error) {
	if changes(request.Method) && request.Header.Get(HeaderIdempotencyKey) == "" {
		request.Header.Set(HeaderIdempotencyKey, rand.Text())
	}
	if err := repeatable(request); err != nil {
		return nil, err
	}
	ctx, until := request.Context(), time.Now().Add(c.retries.Total)
	token, err := c.tokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("obtaining a token: %w", err)
	}
	renewed := false
	for attempt := 1; ; attempt++ {
		response, err := c.send(request, token)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if response != nil && response.StatusCode == http.StatusUnauthorized && !renewed {
			// The token may have run out since it was handed over: a source that has another one now gets one more chance.
			renewed = true
			if fresh, tokenErr := c.tokens(ctx); tokenErr == nil && fresh != token {
				discard(response)
				token = fresh
				attempt--
				continue
			}
		}
		if attempt >= c.retries.Attempts || (err == nil && !worthRepeating(response)) {
			return response, err
		}
		wait := c.delay(attempt, response)
		if time.Now().Add(wait).After(until) {
			return response, err
		}
		if response != nil {
			discard(response)
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// send makes one attempt with a body of its own.
func (c caller) send(request *http.Request, token string) (*http.Response, error) {
	attempt := request.Clone(request.Context())
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, fmt.Errorf("reading the request's body again: %w", err)
		}
		attempt.Body = body
	}
	if token != "" {
		attempt.Header.Set("Authorization", "Bearer "+token)
	}
	return c.http.Do(attempt)
}

// repeatable keeps a body that can be read only once.
func repeatable(request *http.Request) error {
	if request.Body == nil || request.Body == http.NoBody || request.GetBody != nil {
		return nil
	}
	body, err := io.ReadAll(request.Body)
	_ = request.Body.Close()
	if err != nil {
		return fmt.Errorf("reading the request's body: %w", err)
	}
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	request.ContentLength = int64(len(body))
	return nil
}

func changes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// largestEnvelope bounds what is read of an error to find its code, in bytes.
const largestEnvelope = 1 << 20

// worthRepeating says whether the same request may be answered otherwise later: by the catalogue, or where the answer has no
// code, as a proxy's has not, by its status. The body stays readable.
func worthRepeating(response *http.Response) bool {
	if response.StatusCode < http.StatusBadRequest {
		return false
	}
	read, err := io.ReadAll(io.LimitReader(response.Body, largestEnvelope))
	response.Body = readAndClose{io.MultiReader(bytes.NewReader(read), response.Body), response.Body}
	if err != nil {
		return true // the connection broke within the answer
	}
	var envelope Fault
	if json.Unmarshal(read, &envelope) == nil && envelope.Code != "" {
		if entry, known := fault.Lookup(fault.Code(envelope.Code)); known {
			return entry.Retryable
		}
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

type readAndClose struct {
	io.Reader
	io.Closer
}

// delay is how long to wait after an attempt: what the server asks for, or a random time around a doubling one, so that
// callers who were refused together do not return together.
func (c caller) delay(attempt int, response *http.Response) time.Duration {
	if response != nil {
		if asked, given := retryAfter(response.Header, time.Now()); given {
			return asked
		}
	}
	mean := float64(c.retries.FirstDelay) * math.Pow(2, float64(attempt-1))
	return min(time.Duration(mean*(0.5+randv2.Float64())), c.retries.LongestDelay)
}

// retryAfter reads Retry-After in both its forms, seconds and a date.
func retryAfter(header http.Header, now time.Time) (time.Duration, bool) {
	text := header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("the call was given up while waiting for another attempt"), context.Cause(ctx))
	}
}

// discard reads an answer that nobody wants to its end, so that its connection can be used again.
func discard(response *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, largestEnvelope))
	_ = response.Body.Close()
}
