package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	client "github.com/gpuaas/gpuaas/client/go"
)

// httpClient outlasts the longest wait the API allows for one request.
var httpClient = &http.Client{Timeout: 90 * time.Second}

// api is the client of the platform at the address and with the token in force.
func (c *command) api() (client.ClientInterface, error) {
	tokens, err := c.tokens()
	if err != nil {
		return nil, err
	}
	_, used, err := c.inForce()
	if err != nil {
		return nil, err
	}
	api, err := client.Connect(c.resolveAPIURL(used), tokens, httpClient)
	if err != nil {
		return nil, usage("the API's address %q is not usable", c.resolveAPIURL(used))
	}
	return api.ClientInterface, nil
}

// decode reads an answer into value and gives its body back, so that -o json shows what the API said. It takes
// what a method of the generated client answers.
func decode[T any](value *T) func(*http.Response, error) ([]byte, error) {
	return func(response *http.Response, err error) ([]byte, error) {
		body, err := content(response, err)
		if err != nil || response.StatusCode == http.StatusNoContent {
			return nil, err
		}
		if err := json.Unmarshal(body, value); err != nil {
			return nil, transportError{fmt.Errorf("the platform's answer is not what its contract says: %w", err)}
		}
		return body, nil
	}
}

// content reads an answer that is a success as it is.
func content(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, unreached(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return nil, transportError{fmt.Errorf("read the platform's answer: %w", err)}
	}
	return body, client.Check(response, body)
}

// unreached is what the network refused; what stopped a request before it was sent speaks for itself.
func unreached(err error) error {
	var network *url.Error
	var known transportError
	if !errors.As(err, &network) || errors.As(err, &known) {
		return err
	}
	return transportError{fmt.Errorf("reach the platform: %w", err)}
}

// page is one page of any list.
type page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor,omitempty"`
}

// all follows the cursors of a list until limit items are there (0: every item), and answers them as one list.
func all[T any](ctx context.Context, limit int64, fetch func(ctx context.Context, pageSize int64, cursor *string) (*http.Response, error)) ([]T, []byte, error) {
	items := []T{}
	var cursor *string
	for {
		size := int64(200)
		if limit > 0 {
			size = min(size, limit-int64(len(items)))
		}
		var next page[T]
		if _, err := decode(&next)(fetch(ctx, size, cursor)); err != nil {
			return nil, nil, err
		}
		items = append(items, next.Items...)
		if next.NextCursor == nil || (limit > 0 && int64(len(items)) >= limit) {
			body, err := json.Marshal(page[T]{Items: items, NextCursor: next.NextCursor})
			return items, body, err
		}
		cursor = next.NextCursor
	}
}

// newKey is a fresh idempotency key: each run of a command is one intent.
func newKey() string { return "cli-" + rand.Text() }

func optional[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
