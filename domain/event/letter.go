package event

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// deadPrefix begins the subjects of dead letters.
const deadPrefix = "dlq."

// MostLetterBytes bounds the event that a letter carries, well below what a server takes by default. A larger one is named only.
const MostLetterBytes = 512 << 10

// Letter is the body of a dead letter: a message that could not be published or processed, and why.
type Letter struct {
	// EventID is that of the envelope; empty for what has none.
	EventID string `json:"event_id,omitempty"`
	// Stream and Subject are those of the message.
	Stream  string `json:"stream"`
	Subject string `json:"subject"`
	// Consumer gave up on it: a durable consumer, or the relay.
	Consumer string `json:"consumer"`
	Reason   string `json:"reason"`
	Attempts int    `json:"attempts"`
	// FailedAt is UTC.
	FailedAt time.Time `json:"failed_at"`
	// OutboxID is the row that could not be published; Sequence the place in its stream of a message that could not be processed.
	OutboxID int64  `json:"outbox_id,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	// Event is the message as it was, where it is JSON; Body otherwise. Both are absent where it is larger than MostLetterBytes.
	Event json.RawMessage `json:"event,omitempty"`
	Body  []byte          `json:"body,omitempty"`
}

// LetterSubject is the subject of a consumer's letters about messages of a subject. What cannot stand in a subject, for which the message
// may have become a letter, is an underscore in it.
func LetterSubject(consumer, subject string) string {
	words := strings.Split(consumer+"."+subject, ".")
	for i, word := range words {
		words[i] = strings.Map(func(r rune) rune {
			if strings.ContainsRune("*> \t\r\n\x00", r) {
				return '_'
			}
			return r
		}, word)
		if word == "" {
			words[i] = "_"
		}
	}
	return deadPrefix + strings.Join(words, ".")
}

// Carry puts the message into the letter, as far as it fits: as the event that it is, or else as bytes.
func (l *Letter) Carry(message []byte) {
	switch {
	case len(message) > MostLetterBytes:
	case json.Valid(message) && utf8.Valid(message) && !strings.Contains(string(message), `\u0000`): // PostgreSQL's jsonb holds no U+0000
		l.Event = message
	default:
		l.Body = message
	}
}

// Seal carries the event as bytes, which every database holds: what JSON allows, and one refuses.
func (l *Letter) Seal() {
	l.Event, l.Body = nil, l.Event
}

// mostReason is how long a reason is at most, in bytes.
const mostReason = 1000

// Readable is a text as a letter and its database hold it: no longer than most readers want it, cut between two characters, and
// without bytes that are no text.
func Readable(text string) string {
	cut := ""
	if len(text) > mostReason {
		text, cut = text[:mostReason], " …"
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "") + cut
}
