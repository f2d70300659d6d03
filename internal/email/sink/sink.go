// Package sink is a real SMTP server that keeps the mails it is given and sends them nowhere: for development, where people read them on its
// page, and for tests, which tell it how to answer. It imports the standard library and the SMTP server's library.
package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

const (
	// mostKept is how many mails are kept; older ones go.
	mostKept = 1000
	// mostBytes bounds one mail.
	mostBytes   = 1 << 20
	patience    = time.Minute
	pageTimeout = 5 * time.Second
)

// Message is a mail as it was taken.
type Message struct {
	From       string    `json:"from"`
	To         []string  `json:"to"`
	ReceivedAt time.Time `json:"received_at"`
	MessageID  string    `json:"message_id"`
	Subject    string    `json:"subject"`
	Text       string    `json:"text"`
	HTML       string    `json:"html"`
	// Raw is every byte of it.
	Raw string `json:"raw"`
	// Encrypted says that it came over TLS; Username is who had signed in.
	Encrypted bool   `json:"encrypted"`
	Username  string `json:"username,omitempty"`
}

// Answer is what the sink says instead of taking a mail: an SMTP code and a text. At says where, of "mail", "rcpt" and "data"; "rcpt" where it
// is empty. Lose takes the mail and breaks the connection before it says so.
type Answer struct {
	Code int
	Text string
	At   string
	Lose bool
}

// Config of a sink.
type Config struct {
	// Address to listen on, such as 127.0.0.1:1025; a port of 0 is any.
	Address string
	// PageAddress is where its page is served; empty serves none.
	PageAddress string
	// TLS, if set, is offered by STARTTLS, or, with Implicit, spoken from the first byte on.
	TLS      *tls.Config
	Implicit bool
	// Username and Password, if set, are asked for before a mail is taken.
	Username, Password string
}

// Sink is a running server.
type Sink struct {
	config   Config
	server   *smtp.Server
	listener net.Listener
	page     *http.Server
	pageURL  string
	served   sync.WaitGroup

	mutex    sync.Mutex
	messages []Message
	answers  []Answer
}

// Start runs one until Close.
func Start(config Config) (*Sink, error) {
	s := &Sink{config: config}
	s.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{sink: s, conn: c}, nil }))
	s.server.Domain, s.server.TLSConfig, s.server.AllowInsecureAuth = "localhost", config.TLS, true
	s.server.ReadTimeout, s.server.WriteTimeout, s.server.MaxMessageBytes, s.server.MaxRecipients = patience, patience, mostBytes, 50
	s.server.ErrorLog = silent{}
	var err error
	if s.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", config.Address); err != nil {
		return nil, fmt.Errorf("the SMTP sink: %w", err)
	}
	serving := s.listener
	if config.Implicit {
		serving = tls.NewListener(serving, config.TLS)
	}
	if config.PageAddress != "" {
		listening, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", config.PageAddress)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the page of the SMTP sink: %w", err), s.listener.Close())
		}
		s.page, s.pageURL = &http.Server{Handler: s.pages(), ReadHeaderTimeout: pageTimeout}, "http://"+listening.Addr().String()
		s.served.Go(func() { _ = s.page.Serve(listening) })
	}
	s.served.Go(func() { _ = s.server.Serve(serving) })
	return s, nil
}

// Address is where it listens.
func (s *Sink) Address() string { return s.listener.Addr().String() }

// PageURL is where people read the mails.
func (s *Sink) PageURL() string { return s.pageURL }

// Close ends it, and every connection.
func (s *Sink) Close() error {
	err := s.server.Close()
	if s.page != nil {
		err = errors.Join(err, s.page.Close())
	}
	s.served.Wait()
	return err
}

// Answers makes it say these, one a mail in their order, before it takes the next.
func (s *Sink) Answers(answers ...Answer) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.answers = slices.Clone(answers)
}

// Messages are those that were taken, oldest first.
func (s *Sink) Messages() []Message {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.messages)
}

// answer is the next one, if it is given there.
func (s *Sink) answer(at string) (Answer, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.answers) == 0 {
		return Answer{}, false
	}
	next := s.answers[0]
	if next.At == "" {
		next.At = "rcpt"
	}
	if next.Lose {
		next.At = "data"
	}
	if next.At != at {
		return Answer{}, false
	}
	s.answers = s.answers[1:]
	return next, true
}

func (s *Sink) keep(message Message) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.messages = append(s.messages, message); len(s.messages) > mostKept {
		s.messages = slices.Delete(s.messages, 0, len(s.messages)-mostKept)
	}
}

// session is one connection's.
type session struct {
	sink     *Sink
	conn     *smtp.Conn
	username string
	from     string
	to       []string
}

func (s *session) said(at string) error {
	if answer, given := s.sink.answer(at); given && !answer.Lose {
		return &smtp.SMTPError{Code: answer.Code, EnhancedCode: smtp.EnhancedCode{answer.Code / 100, 0, 0}, Message: answer.Text}
	}
	return nil
}

func (s *session) AuthMechanisms() []string {
	if s.sink.config.Username == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != s.sink.config.Username || password != s.sink.config.Password {
			return smtp.ErrAuthFailed
		}
		s.username = username
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.sink.config.Username != "" && s.username == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return s.said("mail")
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.said("rcpt"); err != nil {
		return err
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	answer, given := s.sink.answer("data")
	if given && !answer.Lose {
		return &smtp.SMTPError{Code: answer.Code, EnhancedCode: smtp.EnhancedCode{answer.Code / 100, 0, 0}, Message: answer.Text}
	}
	message, err := read(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "the mail cannot be read: " + err.Error()}
	}
	_, message.Encrypted = s.conn.TLSConnectionState()
	message.From, message.To, message.Username, message.ReceivedAt = s.from, slices.Clone(s.to), s.username, time.Now().UTC()
	s.sink.keep(message)
	if answer.Lose {
		return errors.Join(errors.New("the answer is lost"), s.conn.Conn().Close())
	}
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

// read takes a mail apart.
func read(raw []byte) (Message, error) {
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return Message{}, err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	if err != nil {
		return Message{}, err
	}
	message := Message{MessageID: parsed.Header.Get("Message-ID"), Subject: subject, Raw: string(raw)}
	kind, parameters, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		text, err := io.ReadAll(parsed.Body)
		message.Text = string(text)
		return message, err
	}
	parts := multipart.NewReader(parsed.Body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return message, nil
		}
		if err != nil {
			return message, err
		}
		var body io.Reader = part
		if strings.EqualFold(part.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
			body = quotedprintable.NewReader(part)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			return message, err
		}
		clean := strings.ReplaceAll(string(text), "\r\n", "\n")
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			message.HTML = clean
		} else {
			message.Text = clean
		}
	}
}

var page = template.Must(template.New("mails").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mails</title><meta http-equiv="refresh" content="5"></head>
<body style="font-family: sans-serif; max-width: 60em; margin: 2em auto">
<h1>Mails that nobody was sent</h1>
<p>The newest is on top. <a href="/messages">As JSON</a>.</p>
{{range .}}<details><summary><strong>{{.Subject}}</strong> to {{range .To}}{{.}} {{end}}at {{.ReceivedAt.Format "15:04:05"}}</summary><pre>{{.Text}}</pre></details>
{{else}}<p>There is none.</p>
{{end}}</body></html>
`))

func (s *Sink) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /messages", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		messages := s.Messages()
		if messages == nil {
			messages = []Message{}
		}
		_ = json.NewEncoder(w).Encode(messages)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		messages := s.Messages()
		slices.Reverse(messages)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_ = page.Execute(w, messages)
	})
	return mux
}

// silent is a log of nothing: that a client hangs up is no trouble of ours.
type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}
