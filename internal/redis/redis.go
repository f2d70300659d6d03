// Package redis is how a program speaks to Redis: briefly, and never at a request's expense. Every command has a short
// time-out, and after a failure the client answers ErrAway at once until Redis answers a probe of its own again. What
// a caller does without Redis is the caller's decision. It imports go-redis only.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrAway says that Redis cannot be used at the moment.
var ErrAway = errors.New("redis is away")

const (
	// answerTimeout bounds a command with everything it needs: a connection, its greeting, the answer.
	answerTimeout = 250 * time.Millisecond
	dialTimeout   = 200 * time.Millisecond
	poolSize      = 32
	idleConns     = 2
	idleFor       = 5 * time.Minute
)

// Config is where Redis is.
type Config struct {
	URL    string `env:"REDIS_URL,required" usage:"Redis 7, redis://user:password@host:6379/0; rediss:// for TLS"`
	Prefix string `env:"REDIS_KEY_PREFIX" envDefault:"gpuaas:" usage:"begins every key, so that installations may share a server"`
}

// Check says in one sentence each what is wrong with the configuration.
func (c Config) Check() []string {
	var mistakes []string
	if _, err := c.options(); err != nil {
		mistakes = append(mistakes, "REDIS_URL must look like redis://user:password@host:6379/0, or rediss:// for TLS.")
	}
	if c.Prefix == "" || strings.ContainsAny(c.Prefix, "{} \t\r\n") {
		mistakes = append(mistakes, "REDIS_KEY_PREFIX must be some characters without braces and white space.")
	}
	return mistakes
}

func (c Config) options() (*goredis.Options, error) {
	parsed, err := url.Parse(c.URL)
	if err != nil || (parsed.Scheme != "redis" && parsed.Scheme != "rediss") || parsed.Hostname() == "" || parsed.RawQuery != "" {
		return nil, errors.New("the address of Redis is not a redis:// or rediss:// URL") // never the URL itself: it holds a password
	}
	options, err := goredis.ParseURL(c.URL)
	if err != nil {
		return nil, errors.New("the address of Redis is not understood")
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = dialTimeout, answerTimeout, answerTimeout, answerTimeout
	options.ContextTimeoutEnabled = true
	// A retry is the caller's to weigh: a command whose answer was lost may have been done.
	options.MaxRetries, options.DialerRetries = -1, 1
	options.PoolSize, options.MinIdleConns, options.ConnMaxIdleTime = poolSize, idleConns, idleFor
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options, nil
}

// Client speaks to one Redis through a circuit, whatever command is used. It is safe for concurrent use.
type Client struct {
	*goredis.Client
	prefix  string
	circuit *circuit
}

var quietOnce sync.Once

// Open makes a client; it does not wait for Redis, which may be away when a program starts. Close ends it.
func Open(config Config, log *slog.Logger) (*Client, error) {
	// The library writes a line to standard error for every connection that cannot be made; the circuit logs instead.
	quietOnce.Do(logging.Disable)
	if mistakes := config.Check(); len(mistakes) > 0 {
		return nil, errors.New(strings.Join(mistakes, " "))
	}
	options, err := config.options()
	if err != nil {
		return nil, err
	}
	c := &Client{Client: goredis.NewClient(options), prefix: config.Prefix}
	c.circuit = newCircuit(func(ctx context.Context) error { return c.Ping(ctx).Err() }, log)
	c.AddHook(c.circuit)
	return c, nil
}

// Key is a key of this installation: its prefix, then the parts between colons.
func (c *Client) Key(parts ...string) string { return c.prefix + strings.Join(parts, ":") }

// Ready asks Redis itself, whatever the circuit says.
func (c *Client) Ready(ctx context.Context) error {
	if err := c.Ping(asProbe(ctx)).Err(); err != nil {
		return fmt.Errorf("redis does not answer: %w", err)
	}
	return nil
}

// Close ends the connections and the probing.
func (c *Client) Close() error {
	c.circuit.close()
	return c.Client.Close()
}
