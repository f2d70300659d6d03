package stripe

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// object is one of Stripe's objects, by its fields.
type object = map[string]any

// account is what belongs to one secret key.
type account struct {
	key     string
	objects map[string]object
	// order is the ids in the order in which they were made.
	order []string
	// answers are those given to an Idempotency-Key.
	answers map[string]answered
	// secrets sign what is sent to a webhook endpoint.
	secrets map[string]string
	// pending are deliveries that no endpoint has taken yet: event to endpoint.
	pending map[string]bool
	faults  Faults
}

// answered is what a request with an Idempotency-Key got, and a hash of the request.
type answered struct {
	Request string          `json:"request"`
	Status  int             `json:"status"`
	Body    json.RawMessage `json:"body"`
}

// Fact is one line of the plain log: money that moved, as a judge outside may count it.
type Fact struct {
	At            int64          `json:"at"`
	Fact          string         `json:"fact"`
	PaymentIntent string         `json:"payment_intent"`
	ID            string         `json:"id"`
	Amount        int64          `json:"amount"`
	Currency      string         `json:"currency"`
	Metadata      map[string]any `json:"metadata"`
}

// record is one line of the journal: everything that one change did, so that it is there whole or not at all.
type record struct {
	Account   string            `json:"account"`
	Objects   []object          `json:"objects,omitempty"`
	Secrets   map[string]string `json:"secrets,omitempty"`
	Key       string            `json:"key,omitempty"`
	Answer    *answered         `json:"answer,omitempty"`
	Deliver   []string          `json:"deliver,omitempty"`
	Delivered []string          `json:"delivered,omitempty"`
	Faults    *Faults           `json:"faults,omitempty"`
	Facts     []Fact            `json:"facts,omitempty"`
}

// state is everything the stand-in knows. A change is written to the journal, and to the disk, before anybody hears of it.
type state struct {
	mutex    sync.Mutex
	accounts map[string]*account
	faults   Faults
	journal  *os.File
	facts    *os.File
}

const (
	journalName = "journal.jsonl"
	// FactsName is the file with the plain log, a JSON object a line.
	FactsName   = "payments.log"
	longestLine = 8 << 20
)

// openState reads what a run before left in directory; faults are those of an account that has set none.
func openState(directory string, faults Faults) (*state, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	s := &state{accounts: map[string]*account{}, faults: faults}
	path := filepath.Join(directory, journalName)
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// What a kill cut off was never acknowledged.
	whole := bytes.LastIndexByte(kept, '\n') + 1
	if s.facts, err = os.OpenFile(filepath.Join(directory, FactsName), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(kept[:whole]))
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("a line of %s cannot be read: %w", path, err)
		}
		if err := s.apply(r); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if s.journal, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := s.journal.Truncate(int64(whole)); err != nil {
		return nil, err
	}
	_, err = s.journal.Seek(0, io.SeekEnd)
	return s, err
}

// account of a key, made when it is first asked for.
func (s *state) account(key string) *account {
	found := s.accounts[key]
	if found == nil {
		found = &account{key: key, objects: map[string]object{}, answers: map[string]answered{}, secrets: map[string]string{}, pending: map[string]bool{}, faults: s.faults}
		s.accounts[key] = found
	}
	return found
}

// apply makes a record true in memory and in the plain log.
func (s *state) apply(r record) error {
	a := s.account(r.Account)
	for _, made := range r.Objects {
		made, err := asJSON(made) // nobody else holds what is kept
		if err != nil {
			return err
		}
		id := text(made, "id")
		if _, known := a.objects[id]; !known {
			a.order = append(a.order, id)
		}
		a.objects[id] = made
	}
	for id, secret := range r.Secrets {
		a.secrets[id] = secret
	}
	if r.Answer != nil {
		a.answers[r.Key] = *r.Answer
	}
	for _, delivery := range r.Deliver {
		a.pending[delivery] = true
	}
	for _, delivery := range r.Delivered {
		delete(a.pending, delivery)
	}
	if r.Faults != nil {
		a.faults = *r.Faults
	}
	for _, fact := range r.Facts {
		line, err := json.Marshal(fact)
		if err != nil {
			return err
		}
		if _, err := s.facts.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// commit writes a change to the disk and then makes it true. The caller holds the mutex.
func (s *state) commit(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := s.journal.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := s.journal.Sync(); err != nil {
		return err
	}
	return s.apply(r)
}

func (s *state) close() error { return errors.Join(s.journal.Close(), s.facts.Close()) }

const idAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newID is an id of Stripe's form.
func newID(prefix string) string {
	var entropy [24]byte
	_, _ = rand.Read(entropy[:]) // never fails
	var made strings.Builder
	made.WriteString(prefix + "_1")
	for _, b := range entropy {
		made.WriteByte(idAlphabet[int(b)%len(idAlphabet)])
	}
	return made.String()
}

// text, whole, list and part read a field of an object; its zero value where it is absent or another kind.
func text(o object, field string) string {
	value, _ := o[field].(string)
	return value
}

func whole(o object, field string) int64 {
	switch value := o[field].(type) {
	case int64:
		return value
	case int:
		return int64(value)
	case float64:
		return int64(value)
	default:
		return 0
	}
}

func part(o object, field string) object {
	value, _ := o[field].(object)
	return value
}

func list(o object, field string) []any {
	value, _ := o[field].([]any)
	return value
}
