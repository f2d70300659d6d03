// Package hashchain says what the chain over the ledger is: blocks of final entries, each with the hash of the one before it
// and of every column of its entries, in one canonical encoding. It imports the standard library alone, so that anybody can
// recompute a chain from a dump of the table.
package hashchain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strconv"
	"time"
)

// Encoding is the version of the canonical encoding that this package writes and reads. Another list of columns, or another
// way to write one, is another version: blocks that stand keep theirs.
const Encoding = 1

// domain separates these hashes from all others.
const domain = "gpuaas ledger block"

// Hash is the SHA-256 of a block.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Entry is one ledger entry with every column that was written; what Postgres generates from these is not hashed. Nil is
// NULL. Instants are exact to the millisecond.
type Entry struct {
	ID              int64
	Kind            string
	TxnID           string
	DebitAccountID  string
	CreditAccountID string
	Currency        string
	AmountMicros    int64
	AllocationID    *string
	PeriodStart     *time.Time
	PeriodEnd       *time.Time
	PrevEnd         *time.Time
	IdempotencyKey  string
	ReversesID      *int64
	CreatedAt       time.Time
}

// Block names a stretch of the ledger: the entries whose ids lie above AfterID and at or below UpToID.
type Block struct {
	// Number counts from 1.
	Number   int64
	AfterID  int64
	UpToID   int64
	Entries  int64
	Previous Hash
}

// Head is the end of a chain at a moment, as it is signed and kept outside the database.
type Head struct {
	Number   int64     `json:"number"`
	UpToID   int64     `json:"up_to_id"`
	SHA256   string    `json:"sha256"`
	Encoding int       `json:"encoding"`
	At       time.Time `json:"at"`
}

// Hasher makes the hash of one block of entries that are added in the order of their ids.
type Hasher struct {
	sum    hash.Hash
	buffer []byte
	// Entries is how many were added, Last the id of the last one.
	Entries, Last int64
}

// NewHasher begins a block.
func NewHasher() *Hasher {
	h := &Hasher{sum: sha256.New()}
	return h
}

// Add takes the next entry. Each column is one byte that says whether it is there, its length in four bytes, and its text.
func (h *Hasher) Add(e Entry) {
	h.buffer = h.buffer[:0]
	h.number(e.ID)
	h.text(e.Kind)
	h.text(e.TxnID)
	h.text(e.DebitAccountID)
	h.text(e.CreditAccountID)
	h.text(e.Currency)
	h.number(e.AmountMicros)
	optional(h, e.AllocationID, h.text)
	optional(h, e.PeriodStart, h.instant)
	optional(h, e.PeriodEnd, h.instant)
	optional(h, e.PrevEnd, h.instant)
	h.text(e.IdempotencyKey)
	optional(h, e.ReversesID, h.number)
	h.instant(e.CreatedAt)
	h.sum.Write(h.buffer)
	h.Entries, h.Last = h.Entries+1, e.ID
}

// Sum ends the block: the hash of its own header, with the hash of the block before it, and of the hash of its entries.
func (h *Hasher) Sum(block Block) Hash {
	entries := h.sum.Sum(nil)
	h.buffer = h.buffer[:0]
	h.text(domain)
	h.number(Encoding)
	h.number(block.Number)
	h.number(block.AfterID)
	h.number(block.UpToID)
	h.number(block.Entries)
	h.text(string(block.Previous[:]))
	h.text(string(entries))
	return sha256.Sum256(h.buffer)
}

func (h *Hasher) text(value string) {
	h.buffer = append(h.buffer, 1)
	h.buffer = binary.BigEndian.AppendUint32(h.buffer, uint32(len(value))) //nolint:gosec // the columns are bounded
	h.buffer = append(h.buffer, value...)
}

func (h *Hasher) number(value int64) { h.text(strconv.FormatInt(value, 10)) }

func (h *Hasher) instant(value time.Time) { h.number(value.UnixMilli()) }

func optional[T any](h *Hasher, value *T, write func(T)) {
	if value == nil {
		h.buffer = append(h.buffer, 0)
		return
	}
	write(*value)
}
