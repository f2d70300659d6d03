package email

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/secret"
)

// Outcome is what came of an attempt.
type Outcome string

// The outcomes.
const (
	// Accepted: the server has taken the mail and answers for it from now on.
	Accepted Outcome = "accepted"
	// Refused: the server takes this mail to this address never (5xx).
	Refused Outcome = "refused"
	// Postponed: the server says that it may take it later (4xx), could not be reached, or does not let us in.
	Postponed Outcome = "postponed"
)

const (
	// sendTimeout bounds every step of the dialogue, and with it the attempt.
	sendTimeout = 30 * time.Second
	// mostDetail is how much is told of what went wrong, in bytes.
	mostDetail = 200
)

// Config is the SMTP server that mails are handed to.
type Config struct {
	URL      string `env:"GPUAAS_SMTP_URL" usage:"SMTP server that takes our mail: smtp://host:587, which must offer STARTTLS unless it is this machine, or smtps://host:465; empty: no e-mail"`
	Username string `env:"GPUAAS_SMTP_USERNAME" usage:"name to sign in to the SMTP server with; empty signs in to none"`
	Password string `env:"GPUAAS_SMTP_PASSWORD" usage:"password to sign in to the SMTP server with"`
	From     string `env:"GPUAAS_SMTP_FROM" usage:"whom mail is from, such as GPUaaS <no-reply@example.com>; with GPUAAS_SMTP_URL"`
	CAFile   string `env:"GPUAAS_SMTP_CA_FILE" usage:"PEM file with the root that signed the SMTP server's certificate, where it is not a public one"`
}

// Enabled says whether mails are sent.
func (c Config) Enabled() bool { return c.URL != "" }

// Check says in one sentence each what is wrong with it.
func (c Config) Check() []string {
	if !c.Enabled() {
		return nil
	}
	var mistakes []string
	if _, err := c.server(); err != nil {
		mistakes = append(mistakes, "GPUAAS_SMTP_URL "+err.Error()+".")
	}
	if from, err := mail.ParseAddress(c.From); err != nil || !email.Address(from.Address) {
		mistakes = append(mistakes, "GPUAAS_SMTP_FROM must be an address such as GPUaaS <no-reply@example.com>.")
	}
	if (c.Username == "") != (c.Password == "") {
		mistakes = append(mistakes, "GPUAAS_SMTP_USERNAME and GPUAAS_SMTP_PASSWORD go together.")
	}
	return mistakes
}

// server is where the URL leads.
type server struct {
	host, port string
	implicit   bool // TLS from the first byte on
}

func (c Config) server() (server, error) {
	parsed, err := url.Parse(c.URL)
	switch {
	case err != nil || parsed.Hostname() == "" || parsed.Path != "" && parsed.Path != "/" || parsed.RawQuery != "" || parsed.Fragment != "":
		return server{}, errors.New("must look like smtp://host:587 or smtps://host:465")
	case parsed.User != nil:
		return server{}, errors.New("carries no name and password: these are GPUAAS_SMTP_USERNAME and GPUAAS_SMTP_PASSWORD")
	}
	at := server{host: parsed.Hostname(), port: parsed.Port()}
	switch parsed.Scheme {
	case "smtp":
		at.port = firstOf(at.port, "587")
	case "smtps":
		at.port, at.implicit = firstOf(at.port, "465"), true
	default:
		return server{}, errors.New("must begin with smtp:// or smtps://")
	}
	return at, nil
}

func firstOf(given, otherwise string) string {
	if given != "" {
		return given
	}
	return otherwise
}

// loopback says whether the server is this machine, so that nobody is on the way.
func (s server) loopback() bool {
	address, err := netip.ParseAddr(s.host)
	return s.host == "localhost" || err == nil && address.IsLoopback()
}

// Message is one mail to one address. ID is the same for every attempt: by it a mailbox recognises one that it has already.
type Message struct {
	ID     string
	To     string
	SentAt time.Time
	Letter Letter
}

// Result is what came of an attempt. Detail is what went wrong, printable, without the address and without what looks like a secret.
type Result struct {
	Outcome Outcome
	Code    int
	Detail  string
}

// Sender hands mails to one SMTP server, over a connection of its own for each.
type Sender struct {
	at    server
	from  *mail.Address
	auth  []gomail.Option
	roots *x509.CertPool // nil trusts what the system does
}

// NewSender makes one of a configuration that Check finds nothing wrong with.
func NewSender(config Config) (*Sender, error) {
	at, err := config.server()
	if err != nil {
		return nil, fmt.Errorf("GPUAAS_SMTP_URL %w", err)
	}
	from, err := mail.ParseAddress(config.From)
	if err != nil {
		return nil, fmt.Errorf("GPUAAS_SMTP_FROM: %w", err)
	}
	s := &Sender{at: at, from: from}
	if config.CAFile != "" {
		pem, err := os.ReadFile(config.CAFile)
		if err != nil {
			return nil, fmt.Errorf("GPUAAS_SMTP_CA_FILE: %w", err)
		}
		if s.roots = x509.NewCertPool(); !s.roots.AppendCertsFromPEM(pem) {
			return nil, errors.New("GPUAAS_SMTP_CA_FILE holds no certificate")
		}
	}
	if config.Username != "" {
		s.auth = []gomail.Option{
			gomail.WithUsername(config.Username), gomail.WithPassword(config.Password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin),
		}
	}
	return s, nil
}

// MessageID is the Message-ID of a message.
func (s *Sender) MessageID(message string) string {
	_, domain, _ := strings.Cut(s.from.Address, "@")
	return message + "@" + domain
}

// Send makes one attempt. What goes wrong is its result, never an error.
func (s *Sender) Send(ctx context.Context, message Message) Result {
	ctx, cancel := context.WithTimeout(ctx, 2*sendTimeout)
	defer cancel()
	set, err := s.compose(message)
	if err != nil {
		return Result{Outcome: Refused, Detail: readable("The mail cannot be written: "+err.Error(), message.To)}
	}
	var opened net.Conn
	client, err := s.client(func(connection net.Conn) { opened = connection })
	if err != nil {
		return postponed(err, message.To)
	}
	defer func() {
		if opened != nil { // the library leaves a connection open on which the greeting or the sign-in went wrong
			_ = opened.Close()
		}
	}()
	if err := client.DialWithContext(ctx); err != nil {
		return postponed(err, message.To)
	}
	err = client.Send(set)
	// What was taken is taken, whatever becomes of the farewell.
	if set.IsDelivered() {
		_ = client.Close()
		return Result{Outcome: Accepted, Code: 250}
	}
	var refusal *gomail.SendError
	if errors.As(err, &refusal) && final(refusal.ErrorCode()) {
		return Result{Outcome: Refused, Code: refusal.ErrorCode(), Detail: readable(err.Error(), message.To)}
	}
	result := postponed(err, message.To)
	if refusal != nil {
		result.Code = refusal.ErrorCode()
	}
	return result
}

// final says whether a code refuses this mail for good. Those of the dialogue itself (500 to 504) and of a sign-in (RFC 4954) are about us, and
// heal once somebody mends our configuration.
func final(code int) bool {
	switch code {
	case 500, 501, 502, 503, 504, 530, 534, 535, 538:
		return false
	default:
		return code >= 500
	}
}

func postponed(err error, address string) Result {
	text := "The server could not be reached."
	if err != nil {
		text = err.Error()
	}
	return Result{Outcome: Postponed, Detail: readable(text, address)}
}

func (s *Sender) compose(message Message) (*gomail.Msg, error) {
	if !email.Address(message.To) {
		return nil, errors.New("the address is none")
	}
	set := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	set.FromMailAddress(s.from)
	set.ToMailAddress(&mail.Address{Address: message.To})
	set.Subject(message.Letter.Subject)
	set.SetDateWithValue(message.SentAt.UTC())
	set.SetMessageIDWithValue(s.MessageID(message.ID))
	// Nobody's absence is to be told to us, and no loop to begin (RFC 3834).
	set.SetGenHeader("Auto-Submitted", "auto-generated")
	set.SetBodyString(gomail.TypeTextPlain, message.Letter.Text)
	set.AddAlternativeString(gomail.TypeTextHTML, message.Letter.HTML)
	return set, nil
}

// client is a connection to be. Without TLS nothing is sent but to this machine.
func (s *Sender) client(opened func(net.Conn)) (*gomail.Client, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots, ServerName: s.at.host}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := &net.Dialer{}
		connection, err := dialer.DialContext(ctx, network, address)
		if err == nil && s.at.implicit {
			raw, secured := connection, tls.Client(connection, trust)
			if err = secured.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, raw.Close())
			}
			connection = secured
		}
		if err == nil {
			opened(connection)
		}
		return connection, err
	}
	policy := gomail.TLSMandatory
	switch {
	case s.at.implicit:
		policy = gomail.NoTLS // it is there already
	case s.at.loopback():
		policy = gomail.TLSOpportunistic
	}
	port, err := net.LookupPort("tcp", s.at.port)
	if err != nil {
		return nil, err
	}
	return gomail.NewClient(s.at.host, append([]gomail.Option{
		gomail.WithPort(port), gomail.WithTimeout(sendTimeout), gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(trust), gomail.WithDialContextFunc(dial),
		gomail.WithoutNoop(), gomail.WithoutRset(),
	}, s.auth...)...)
}

// readable is what a server wrote, as it may be kept: printable, short, without the address that it is about and without what looks like a secret.
func readable(text, address string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		default:
			return -1
		}
	}, strings.ToValidUTF8(text, ""))
	if address != "" {
		text = regexp.MustCompile("(?i)"+regexp.QuoteMeta(address)).ReplaceAllLiteralString(text, "(the address)")
	}
	if text = secret.Text(text); len(text) > mostDetail {
		text = strings.ToValidUTF8(text[:mostDetail], "") + " …"
	}
	return text
}
