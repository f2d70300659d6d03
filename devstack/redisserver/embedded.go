// Package redisserver embeds a Redis-compatible server in the development stack, for machines without Redis. It knows
// miniredis and nothing of the platform.
package redisserver

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/alicebob/miniredis/v2"
)

// Embedded is a Redis-compatible server inside this process.
type Embedded struct {
	server   *miniredis.Miniredis
	password string
}

// StartEmbedded serves on a port of 127.0.0.1 until Stop.
func StartEmbedded(port int) (*Embedded, error) {
	e := &Embedded{server: miniredis.NewMiniRedis(), password: rand.Text()}
	e.server.RequireAuth(e.password)
	e.server.ClockTTL(true) // or what should expire would live until somebody turned its clock
	if err := e.server.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
		return nil, fmt.Errorf("the embedded Redis cannot listen on port %d: %w", port, err)
	}
	return e, nil
}

// URL of the server with its password.
func (e *Embedded) URL() string {
	return (&url.URL{Scheme: "redis", User: url.UserPassword("default", e.password), Host: e.server.Addr(), Path: "/0"}).String()
}

// Stop ends it; what it held is gone.
func (e *Embedded) Stop() error {
	e.server.Close()
	return nil
}
