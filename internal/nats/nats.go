// Package nats is how a program speaks to NATS JetStream: one connection that outlives every outage, and the streams and durable
// consumers, which are declared here and nowhere else. It imports nats.go and domain only; what is published, and what is done with
// what arrives, others decide.
package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	connectTimeout = 2 * time.Second
	// A lost connection is tried again at once and then at this pace, without end: NATS being away ends no program.
	reconnectWait = 250 * time.Millisecond
	// A dead peer is noticed after two unanswered pings.
	pingInterval = 5 * time.Second
	pingsOut     = 2
	// requestTimeout bounds one question to JetStream.
	requestTimeout = 5 * time.Second
	// ackTimeout is how long a published message may remain unacknowledged.
	ackTimeout = 5 * time.Second
	// MostUnacknowledged is how many messages may be published before the first of them is acknowledged.
	MostUnacknowledged = 16_384
)

// ErrAway says that NATS cannot be reached at the moment.
var ErrAway = errors.New("NATS is away")

// Config is where NATS is, and how its streams are kept.
type Config struct {
	URL             string `env:"NATS_URL,required" usage:"NATS 2.10 or later with JetStream, nats://user:password@host:4222; tls:// for TLS; the servers of a cluster comma separated"`
	CAFile          string `env:"NATS_CA_FILE" usage:"PEM file with the root that signed the servers' certificates, where it is not a public one"`
	CredentialsFile string `env:"NATS_CREDENTIALS_FILE" usage:"file with the JWT and the seed of a user, instead of a password in the URL"`
	Streams         StreamsConfig
}

// Check says in one sentence each what is wrong with the configuration.
func (c Config) Check() []string {
	mistakes := c.Streams.Check()
	for _, server := range strings.Split(c.URL, ",") {
		parsed, err := url.Parse(strings.TrimSpace(server))
		if err != nil || (parsed.Scheme != "nats" && parsed.Scheme != "tls") || parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" {
			return append(mistakes, "NATS_URL must look like nats://user:password@host:4222, or tls:// for TLS.")
		}
	}
	return mistakes
}

// Client speaks to one NATS. It is safe for concurrent use.
type Client struct {
	// JetStream is the library's own interface to streams and consumers.
	JetStream jetstream.JetStream

	connection *natsgo.Conn
	config     Config
	log        *slog.Logger
}

// Open makes a client; it does not wait for NATS, which may be away when a program starts. Close ends it.
func Open(config Config, name string, log *slog.Logger) (*Client, error) {
	if mistakes := config.Check(); len(mistakes) > 0 {
		return nil, errors.New(strings.Join(mistakes, " "))
	}
	options := []natsgo.Option{
		natsgo.Name(name), natsgo.Timeout(connectTimeout), natsgo.PingInterval(pingInterval), natsgo.MaxPingsOutstanding(pingsOut),
		natsgo.RetryOnFailedConnect(true), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(reconnectWait),
		// What was not sent is told to whoever sent it, instead of being sent some time later and out of order.
		natsgo.ReconnectBufSize(-1),
		natsgo.DisconnectErrHandler(func(_ *natsgo.Conn, err error) {
			if err != nil {
				log.Warn("NATS is away", "error", err.Error())
			}
		}),
		natsgo.ReconnectHandler(func(connection *natsgo.Conn) { log.Info("NATS is back", "server", connection.ConnectedServerName()) }),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) {
			log.Warn("NATS reports trouble", "error", err.Error())
		}),
	}
	if config.CAFile != "" {
		options = append(options, natsgo.RootCAs(config.CAFile))
	}
	if config.CredentialsFile != "" {
		options = append(options, natsgo.UserCredentials(config.CredentialsFile))
	}
	connection, err := natsgo.Connect(config.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("the configuration of NATS is not usable: %w", err)
	}
	js, err := jetstream.New(connection,
		jetstream.WithPublishAsyncMaxPending(MostUnacknowledged), jetstream.WithPublishAsyncTimeout(ackTimeout), jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		connection.Close()
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return &Client{JetStream: js, connection: connection, config: config, log: log}, nil
}

// Ready says whether JetStream answers.
func (c *Client) Ready(ctx context.Context) error {
	if !c.connection.IsConnected() {
		return ErrAway
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := c.JetStream.AccountInfo(ctx); err != nil {
		return fmt.Errorf("JetStream does not answer: %w", err)
	}
	return nil
}

// LargestMessage is how many bytes a message may have, its headers included, as the server says; 0 while it was not reached yet.
func (c *Client) LargestMessage() int64 { return c.connection.MaxPayload() }

// Close ends the connection.
func (c *Client) Close() { c.connection.Close() }
