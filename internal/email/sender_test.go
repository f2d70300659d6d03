package email_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	letters "github.com/gpuaas/gpuaas/internal/email"
	"github.com/gpuaas/gpuaas/internal/email/sink"
)

const from = "GPUaaS <no-reply@gpuaas.example>"

func listen(t *testing.T, config sink.Config) *sink.Sink {
	t.Helper()
	config.Address = "127.0.0.1:0"
	running, err := sink.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	return running
}

func sender(t *testing.T, config letters.Config) *letters.Sender {
	t.Helper()
	config.From = from
	if mistakes := config.Check(); len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	made, err := letters.NewSender(config)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func letterTo(address string) letters.Message {
	return letters.Message{
		ID: "mail_a", To: address, SentAt: time.Date(2026, 1, 5, 9, 30, 0, 0, time.UTC),
		Letter: letters.Letter{Subject: "Grüße an Acme", Text: "Hier ist\nein Text.\n", HTML: "<p>ein Text</p>\n"},
	}
}

func TestAMailArrivesWhole(t *testing.T) {
	inbox := listen(t, sink.Config{})
	if result := sender(t, letters.Config{URL: "smtp://" + inbox.Address()}).Send(t.Context(), letterTo("ada@example.com")); result.Outcome != letters.Accepted {
		t.Fatalf("%+v", result)
	}
	got := inbox.Messages()
	if len(got) != 1 {
		t.Fatalf("%d mails arrived", len(got))
	}
	mail := got[0]
	if mail.From != "no-reply@gpuaas.example" || len(mail.To) != 1 || mail.To[0] != "ada@example.com" || mail.MessageID != "<mail_a@gpuaas.example>" ||
		mail.Subject != "Grüße an Acme" || mail.Text != "Hier ist\nein Text.\n" || mail.HTML != "<p>ein Text</p>\n" {
		t.Errorf("%+v", mail)
	}
	for _, header := range []string{"Auto-Submitted: auto-generated", "Date: Mon, 05 Jan 2026 09:30:00 +0000"} {
		if !strings.Contains(mail.Raw, header) {
			t.Errorf("%q is missing in %s", header, mail.Raw)
		}
	}
}

func TestWhatAServerSaysIsJudged(t *testing.T) {
	for name, test := range map[string]struct {
		answer  sink.Answer
		outcome letters.Outcome
		code    int
		arrived int
	}{
		"nobody of that name":        {sink.Answer{Code: 550, Text: "<ada@example.com> is unknown here"}, letters.Refused, 550, 0},
		"the content is refused":     {sink.Answer{Code: 554, Text: "spam", At: "data"}, letters.Refused, 554, 0},
		"come back later":            {sink.Answer{Code: 451, Text: "greylisted"}, letters.Postponed, 451, 0},
		"the disk is full":           {sink.Answer{Code: 452, Text: "full", At: "data"}, letters.Postponed, 452, 0},
		"we have to sign in":         {sink.Answer{Code: 530, Text: "sign in first", At: "mail"}, letters.Postponed, 530, 0},
		"the answer is lost":         {sink.Answer{Lose: true}, letters.Postponed, 0, 1},
		"the server is going away":   {sink.Answer{Code: 421, Text: "closing", At: "mail"}, letters.Postponed, 421, 0},
		"our name is not one it has": {sink.Answer{Code: 553, Text: "not yours", At: "mail"}, letters.Refused, 553, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inbox := listen(t, sink.Config{})
			inbox.Answers(test.answer)
			speaking := sender(t, letters.Config{URL: "smtp://" + inbox.Address()})
			result := speaking.Send(t.Context(), letterTo("ada@example.com"))
			if result.Outcome != test.outcome || result.Code != test.code || result.Detail == "" || strings.Contains(strings.ToLower(result.Detail), "ada@") {
				t.Errorf("%+v", result)
			}
			if got := len(inbox.Messages()); got != test.arrived {
				t.Errorf("%d mails arrived", got)
			}
			if again := speaking.Send(t.Context(), letterTo("ada@example.com")); again.Outcome != letters.Accepted {
				t.Errorf("afterwards: %+v", again)
			}
		})
	}
}

func TestAServerThatIsAwayIsTriedLater(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if result := sender(t, letters.Config{URL: "smtp://" + address}).Send(t.Context(), letterTo("ada@example.com")); result.Outcome != letters.Postponed {
		t.Errorf("%+v", result)
	}
}

func TestNothingIsSentInClear(t *testing.T) {
	certificate, root := certified(t, "mail.test")
	offered := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	for name, test := range map[string]struct {
		server    sink.Config
		config    letters.Config
		outcome   letters.Outcome
		encrypted bool
		username  string
	}{
		"STARTTLS where it is offered":       {sink.Config{TLS: offered}, letters.Config{CAFile: root}, letters.Accepted, true, ""},
		"TLS from the first byte":            {sink.Config{TLS: offered, Implicit: true}, letters.Config{URL: "smtps://", CAFile: root}, letters.Accepted, true, ""},
		"a certificate that nobody vouches":  {sink.Config{TLS: offered}, letters.Config{}, letters.Postponed, false, ""},
		"signed in over STARTTLS":            {sink.Config{TLS: offered, Username: "us", Password: "secret-word"}, letters.Config{CAFile: root, Username: "us", Password: "secret-word"}, letters.Accepted, true, "us"},
		"signed in over TLS":                 {sink.Config{TLS: offered, Implicit: true, Username: "us", Password: "secret-word"}, letters.Config{URL: "smtps://", CAFile: root, Username: "us", Password: "secret-word"}, letters.Accepted, true, "us"},
		"another password":                   {sink.Config{TLS: offered, Username: "us", Password: "secret-word"}, letters.Config{CAFile: root, Username: "us", Password: "other-word"}, letters.Postponed, false, ""},
		"no password where one is asked for": {sink.Config{TLS: offered, Username: "us", Password: "secret-word"}, letters.Config{CAFile: root}, letters.Postponed, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inbox := listen(t, test.server)
			if test.config.URL == "" {
				test.config.URL = "smtp://"
			}
			test.config.URL += inbox.Address()
			result := sender(t, test.config).Send(t.Context(), letterTo("ada@example.com"))
			if result.Outcome != test.outcome || strings.Contains(result.Detail, "word") {
				t.Errorf("%+v", result)
			}
			for _, mail := range inbox.Messages() {
				if mail.Encrypted != test.encrypted || mail.Username != test.username {
					t.Errorf("it came with TLS: %t, from %q", mail.Encrypted, mail.Username)
				}
			}
		})
	}
}

// Another machine must offer STARTTLS: the name leads to this one, and is not known to.
func TestAnotherMachineMustOfferTLS(t *testing.T) {
	inbox := listen(t, sink.Config{})
	_, port, err := net.SplitHostPort(inbox.Address())
	if err != nil {
		t.Fatal(err)
	}
	// The same server by an address that is not said to be this machine's.
	result := sender(t, letters.Config{URL: "smtp://0.0.0.0:" + port}).Send(t.Context(), letterTo("ada@example.com"))
	if result.Outcome != letters.Postponed || !strings.Contains(result.Detail, "STARTTLS") || len(inbox.Messages()) != 0 {
		t.Errorf("%+v, %d mails arrived", result, len(inbox.Messages()))
	}
}

func TestAnAddressIsNoWayIntoAHeader(t *testing.T) {
	inbox := listen(t, sink.Config{})
	speaking := sender(t, letters.Config{URL: "smtp://" + inbox.Address()})
	for _, address := range []string{"ada@example.com\r\nBcc: eve@evil.test", "ada@example.com>\r\nRCPT TO:<eve@evil.test", "", "Ada <ada@example.com>"} {
		if result := speaking.Send(t.Context(), letterTo(address)); result.Outcome != letters.Refused {
			t.Errorf("%q: %+v", address, result)
		}
	}
	message := letterTo("ada@example.com")
	message.Letter.Subject = "Hello\r\nBcc: eve@evil.test"
	if result := speaking.Send(t.Context(), message); result.Outcome == letters.Accepted && strings.Contains(inbox.Messages()[0].Raw, "\nBcc:") {
		t.Errorf("a header of its own: %s", inbox.Messages()[0].Raw)
	}
}

func TestAConfigurationSaysWhatIsWrongWithIt(t *testing.T) {
	for name, config := range map[string]letters.Config{
		"another scheme":     {URL: "http://mail.example.com", From: from},
		"no host":            {URL: "smtp://:25", From: from},
		"a password in it":   {URL: "smtp://us:word@mail.example.com", From: from},
		"a path":             {URL: "smtp://mail.example.com/inbox", From: from},
		"no sender":          {URL: "smtp://mail.example.com"},
		"a name and no word": {URL: "smtp://mail.example.com", From: from, Username: "us"},
	} {
		if mistakes := config.Check(); len(mistakes) != 1 || strings.Contains(mistakes[0], "word@") {
			t.Errorf("%s: %q", name, mistakes)
		}
	}
	if (letters.Config{}).Enabled() || len((letters.Config{}).Check()) != 0 {
		t.Error("no configuration is a mistake")
	}
}

// certified is a certificate for a name and for this machine, and the file of its root.
func certified(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
