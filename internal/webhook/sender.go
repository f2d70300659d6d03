package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/domain/webhook"
)

// The headers of Standard Webhooks.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

const (
	userAgent = "GPUaaS-Webhooks/1.0"
	// mostHeaderBytes bounds the headers of an answer.
	mostHeaderBytes = 16 << 10
	// mostDetail is how much is told of what went wrong, in bytes.
	mostDetail = 200
)

// errAddress says that a name led to an address that may not be asked.
var errAddress = errors.New("the address is on no public network")

// Message is what is sent to an endpoint.
type Message struct {
	URL string
	// ID is the same for every attempt.
	ID      string
	Body    []byte
	Secrets [][]byte
	// AllowHTTP lets the URL be one without TLS.
	AllowHTTP bool
	// Timeout bounds the whole attempt, MostResponse the bytes of the answer that are read.
	Timeout      time.Duration
	MostResponse int64
}

// Result is what came of an attempt. StatusCode is 0 where nobody answered; Response is printable and holds no secret.
type Result struct {
	Outcome    webhook.Outcome
	StatusCode int
	StartedAt  time.Time
	Latency    time.Duration
	Detail     string
	Response   string
}

// Sender sends messages. The address that a name leads to is judged where it is dialled, after it was looked up: so neither a name that
// changes its address meanwhile nor one that has several gets past. Redirects are not followed, proxies of the environment not used, and
// connections not kept.
type Sender struct {
	client *http.Client
	now    func() time.Time
}

// NewSender makes one. Roots are whom to trust beside nobody else; nil trusts what the system does.
func NewSender(guard webhook.Guard, roots *x509.CertPool, now func() time.Time) *Sender {
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || guard.Check(to.Addr()) != nil {
			return errAddress
		}
		return nil
	}}
	return &Sender{now: now, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: mostHeaderBytes,
		},
	}}
}

// Send makes one attempt. What goes wrong is its result, never an error.
func (s *Sender) Send(ctx context.Context, message Message) (result Result) {
	ctx, cancel := context.WithTimeout(ctx, message.Timeout)
	defer cancel()
	result = Result{StartedAt: s.now().UTC().Truncate(time.Millisecond)}
	began := time.Now()
	defer func() { result.Latency = time.Since(began) }()
	if err := webhook.CheckURL(message.URL, message.AllowHTTP); err != nil {
		result.Outcome, result.Detail = webhook.SchemeRefused, "The endpoint's address is not accepted any more: "+err.Error()+"."
		return result
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, message.URL, bytes.NewReader(message.Body))
	if err != nil {
		result.Outcome, result.Detail = webhook.SchemeRefused, "The endpoint's address cannot be read."
		return result
	}
	timestamp := strconv.FormatInt(result.StartedAt.Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set(HeaderID, message.ID)
	request.Header.Set(HeaderTimestamp, timestamp)
	request.Header.Set(HeaderSignature, Sign(message.ID, timestamp, message.Body, message.Secrets))
	response, err := s.client.Do(request)
	if err != nil {
		result.Outcome, result.Detail = problem(ctx, err)
		return result
	}
	defer func() { _ = response.Body.Close() }()
	result.StatusCode = response.StatusCode
	// A status that arrived counts, whatever becomes of the body behind it.
	text, _ := io.ReadAll(io.LimitReader(response.Body, message.MostResponse))
	result.Response = readable(text)
	switch {
	case response.StatusCode >= 200 && response.StatusCode < 300:
		result.Outcome = webhook.Accepted
	case response.StatusCode >= 300 && response.StatusCode < 400:
		result.Outcome, result.Detail = webhook.Redirected, "Redirects are not followed."
	default:
		result.Outcome = webhook.Rejected
	}
	return result
}

// Sign signs a message with each secret, as Standard Webhooks says.
func Sign(messageID, timestamp string, body []byte, secrets [][]byte) string {
	signatures := make([]string, len(secrets))
	for i, key := range secrets {
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(messageID + "." + timestamp + "."))
		_, _ = mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

// problem says why nobody answered, without telling addresses that only a look-up inside of our network knows.
func problem(ctx context.Context, err error) (webhook.Outcome, string) {
	var (
		lookUp      *net.DNSError
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
		record      tls.RecordHeaderError
		network     net.Error
	)
	switch {
	case errors.Is(err, errAddress):
		return webhook.AddressRefused, "The name leads to an address that is on no public network."
	case errors.As(err, &certificate):
		return webhook.TLSFailed, detail("The certificate is not accepted: " + certificate.Err.Error())
	case errors.As(err, &alert):
		return webhook.TLSFailed, detail("TLS was refused: " + alert.Error())
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return webhook.TLSFailed, "The other side does not speak TLS."
	case ctx.Err() != nil, errors.As(err, &network) && network.Timeout():
		return webhook.TimedOut, "There was no answer in time."
	case errors.As(err, &lookUp):
		return webhook.Unresolved, "The name could not be resolved."
	case errors.Is(err, syscall.ECONNREFUSED):
		return webhook.Unreachable, "The connection was refused."
	default:
		return webhook.Unreachable, "The connection could not be made, or ended before there was an answer."
	}
}

func detail(text string) string {
	if text = secret.Text(text); len(text) > mostDetail {
		text = strings.ToValidUTF8(text[:mostDetail], "") + " …"
	}
	return text
}

// readable is what somebody else wrote, as it may be kept and shown: printable, and without what looks like a secret.
func readable(text []byte) string {
	clean := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(string(text), ""))
	return secret.Text(clean)
}
