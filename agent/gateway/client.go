package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// maxAnswerBytes bounds what the agent reads of any answer.
const maxAnswerBytes = 1 << 20

// Enrol trades a one-time token for an identity kept in files. It may be repeated after a crash: the same key
// is shown again and the gateway gives the same node. fault.EnrolTokenInvalid means that the token is unknown,
// expired or was used by somebody else.
func Enrol(ctx context.Context, gatewayURL string, trust Trust, token string, inventory node.Inventory, files Files) (EnrolResponse, error) {
	var answer EnrolResponse
	address, host, err := hostPort(gatewayURL)
	if err != nil {
		return answer, err
	}
	roots, err := trust.roots(ctx, gatewayURL)
	if err != nil {
		return answer, err
	}
	config, err := tlsConfig(roots, host)
	if err != nil {
		return answer, err
	}
	key, err := files.enrolmentKey()
	if err != nil {
		return answer, err
	}
	csr, err := newCSR(key)
	if err != nil {
		return answer, err
	}
	transport := newTransport(config)
	defer transport.CloseIdleConnections()
	err = post(ctx, transport, "https://"+address+PathEnrol, EnrolRequest{Token: strings.TrimSpace(token), CSR: csr, Inventory: inventory}, &answer)
	if err != nil {
		return answer, err
	}
	if _, err := files.save(key, answer.Certificate, answer.Roots); err != nil {
		return answer, err
	}
	return answer, files.forgetEnrolmentKey()
}

// Client speaks to the gateway as one enrolled node. It is safe for concurrent use.
type Client struct {
	files   Files
	log     *slog.Logger
	address string
	host    string
	node    id.Node
	roots   []byte
	config  *tls.Config
	current atomic.Pointer[tls.Certificate]
	http    *http.Transport
}

// Connect reads the identity kept by Enrol; nothing is dialled yet. fs.ErrNotExist when the node was never enrolled.
func Connect(gatewayURL string, files Files, log *slog.Logger) (*Client, error) {
	certificate, roots, err := files.load()
	if err != nil {
		return nil, err
	}
	address, host, err := hostPort(gatewayURL)
	if err != nil {
		return nil, err
	}
	c := &Client{files: files, log: log, address: address, host: host, roots: roots}
	if c.node, err = nodeOf(certificate); err != nil {
		return nil, err
	}
	c.current.Store(certificate)
	if c.config, err = tlsConfig(roots, host); err != nil {
		return nil, err
	}
	// Asked at every handshake, so that a renewed certificate is used without a restart.
	c.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
	c.http = newTransport(c.config)
	return c, nil
}

// NodeID is who this node is.
func (c *Client) NodeID() id.Node { return c.node }

// CertificateExpires is the instant at which the identity in use ends.
func (c *Client) CertificateExpires() time.Time { return c.current.Load().Leaf.NotAfter }

// Heartbeat says that the node is alive and answers the settings in force. fault.NodeDenied means that the
// platform has cut this node off.
func (c *Client) Heartbeat(ctx context.Context, beat HeartbeatRequest) (Settings, error) {
	var answer HeartbeatResponse
	err := c.post(ctx, PathHeartbeat, beat, &answer)
	return answer.Settings, err
}

// ReportInventory tells what the node has and how it is reached.
func (c *Client) ReportInventory(ctx context.Context, inventory node.Inventory) error {
	return c.post(ctx, PathInventory, inventory, &Nothing{})
}

// Renew makes a new key, has it certified and uses it from the next handshake on.
func (c *Client) Renew(ctx context.Context) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := newCSR(key)
	if err != nil {
		return err
	}
	var answer RenewResponse
	if err := c.post(ctx, PathRenew, RenewRequest{CSR: csr}, &answer); err != nil {
		return err
	}
	certificate, err := c.files.save(key, answer.Certificate, answer.Roots)
	if err != nil {
		return err
	}
	c.current.Store(certificate)
	c.http.CloseIdleConnections()
	return nil
}

// KeepRenewed renews at half of the certificate's life until ctx ends, and tries again every few seconds while
// the gateway cannot be reached. New roots take effect at the next start.
func (c *Client) KeepRenewed(ctx context.Context) error {
	const again = 15 * time.Second
	wait := time.Until(renewAt(c.current.Load()))
	for {
		timer := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		attempt, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := c.Renew(attempt)
		cancel()
		if err != nil {
			c.log.WarnContext(ctx, "the node's certificate was not renewed", "error", err, "expires", c.CertificateExpires())
			wait = again
			continue
		}
		wait = time.Until(renewAt(c.current.Load()))
	}
}

// TemporalClient dials the gateway's WorkflowService. It serves exactly what an activity worker calls, for this
// node's own queue (Settings.TaskQueue); worker heartbeats and eager starts are off because the gateway has none.
func (c *Client) TemporalClient(ctx context.Context, namespace string) (client.Client, error) {
	temporal, err := client.DialContext(ctx, client.Options{
		HostPort:  c.address,
		Namespace: namespace,
		Identity:  string(c.node),
		Logger:    temporallog.NewStructuredLogger(c.log),
		ConnectionOptions: client.ConnectionOptions{
			TLS:              c.config.Clone(),
			KeepAliveTime:    20 * time.Second,
			KeepAliveTimeout: 10 * time.Second,
		},
		WorkerHeartbeatInterval: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("reach the node gateway at %s: %w", c.address, err)
	}
	return temporal, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) post(ctx context.Context, path string, request, answer any) error {
	return post(ctx, c.http, "https://"+c.address+path, request, answer)
}

func newTransport(config *tls.Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Transport{
		TLSClientConfig:       config,
		Protocols:             protocols,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// envelope is the error body of every layer of the platform.
type envelope struct {
	Code          fault.Code     `json:"code"`
	Message       string         `json:"message"`
	CorrelationID string         `json:"correlation_id"`
	Details       map[string]any `json:"details"`
}

// post sends JSON and reads JSON; an error answer becomes the fault it names.
func post(ctx context.Context, transport http.RoundTripper, url string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	call.Header.Set("Content-Type", "application/json")
	response, err := transport.RoundTrip(call)
	if err != nil {
		return fmt.Errorf("reach the node gateway: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // the body was read; its close says nothing more
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return json.Unmarshal(content, answer)
	}
	var told envelope
	if err := json.Unmarshal(content, &told); err != nil || told.Code == "" {
		return errors.Join(fmt.Errorf("the gateway answered with status %d", response.StatusCode), err)
	}
	return fault.Newf(told.Code, "%s (correlation id %s)", told.Message, told.CorrelationID).With(told.Details)
}
