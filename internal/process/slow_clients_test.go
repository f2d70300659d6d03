//go:build integration

package process_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	slowEach = 100 // connections of each slow kind
	// tolerable is how long an honest request may take beside them, on a busy machine.
	tolerable = 2 * time.Second
	// patience is longer than the server waits for a request's head.
	headPatience = 15 * time.Second
)

// Clients that send their head or their body slowly, or do not read their answer, hold nobody up; one that never finishes
// its head is sent away.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	p := newPlatform(t, 0)
	alice := p.signIn(t, "alice")
	address := strings.TrimPrefix(p.url, "http://")
	dial := func(text string, repeated int) net.Conn {
		t.Helper()
		connection, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = connection.Close() })
		if stalled, ok := connection.(*net.TCPConn); ok && repeated > 1 {
			if err := stalled.SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.WriteString(connection, strings.Repeat(text, repeated)); err != nil {
			t.Fatal(err)
		}
		return connection
	}
	began := time.Now()
	const create = "POST /api/v1/allocations HTTP/1.1\r\nHost: gpuaas\r\n"
	headless := dial(create, 1)
	for range slowEach {
		dial(create, 1)
		dial(create+"Authorization: Bearer "+alice.token+"\r\nX-Idempotency-Key: slow\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", 1)
		dial("GET /api/v1/openapi.yaml HTTP/1.1\r\nHost: gpuaas\r\n\r\n", 40)
	}

	var asking sync.WaitGroup
	var mutex sync.Mutex
	var slowest time.Duration
	for range 8 {
		asking.Go(func() {
			for range 12 {
				took, err := p.timed(alice, "/api/v1/skus")
				if err != nil {
					t.Error(err)
				}
				mutex.Lock()
				slowest = max(slowest, took)
				mutex.Unlock()
			}
		})
	}
	asking.Wait()
	t.Logf("beside %d slow clients the slowest of 96 requests took %s", 3*slowEach, slowest.Round(time.Millisecond))
	if slowest > tolerable {
		t.Errorf("a request took %s", slowest)
	}

	if err := headless.SetReadDeadline(began.Add(headPatience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, headless); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a client that sends no end of its head is still there after %s", headPatience)
	}
}

// timed asks for a page and says how long the whole answer took.
func (p *platform) timed(who person, path string) (time.Duration, error) {
	began := time.Now()
	request, err := http.NewRequest(http.MethodGet, p.url+path, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+who.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", path, response.Status)
	}
	return time.Since(began), nil
}
