package contracttest

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"testing"
)

var loaded = sync.OnceValues(Load)

// Client is an HTTP client that reports to t every exchange that departs from the contract.
func Client(t testing.TB) *http.Client {
	t.Helper()
	contract, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: transport{t: t, contract: contract}}
}

type transport struct {
	t        testing.TB
	contract *Contract
}

// RoundTrip does the request and judges the exchange.
func (j transport) RoundTrip(request *http.Request) (*http.Response, error) {
	var asked []byte
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		_ = request.Body.Close()
		asked = body
		request = request.Clone(request.Context())
		request.Body = io.NopCloser(bytes.NewReader(body))
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	exchange := Exchange{
		Method: request.Method, URL: request.URL, Sent: request.Header, Asked: asked, Status: response.StatusCode, Header: response.Header, Body: body,
	}
	for _, mistake := range j.contract.Mistakes(exchange) {
		j.t.Errorf("%s %s departs from the contract: %s\n%s", request.Method, request.URL.Path, mistake, body)
	}
	return response, nil
}
