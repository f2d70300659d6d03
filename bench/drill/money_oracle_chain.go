package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// chain recomputes every block from the entries, by the encoding that docs/ledger-chain.md promises for ever: each column is a byte that says
// whether it is there, its length in four bytes, and its text.
func (o *moneyOracle) chain(ctx context.Context, v *verdict) error {
	blocks, err := o.blocks(ctx)
	if err != nil {
		return err
	}
	previous, after := make([]byte, sha256.Size), int64(0)
	for i, b := range blocks {
		v.look()
		entries, n, err := o.hashEntries(ctx, b.after, b.upTo)
		if err != nil {
			return err
		}
		header := new(bytes.Buffer)
		column(header, "gpuaas ledger block")
		for _, number := range []int64{1, b.number, b.after, b.upTo, b.entries} {
			column(header, strconv.FormatInt(number, 10))
		}
		column(header, string(previous))
		column(header, string(entries))
		sum := sha256.Sum256(header.Bytes())
		v.expect(b.number == int64(i)+1 && b.after == after, "block %d begins behind entry %d and not %d", b.number, b.after, after)
		v.expect(n == b.entries, "block %d says %d entries and there are %d", b.number, b.entries, n)
		v.expect(bytes.Equal(sum[:], b.sum), "block %d, of the entries %d to %d, does not fit its hash", b.number, b.after+1, b.upTo)
		previous, after = b.sum, b.upTo
	}
	var uncovered int
	if err := o.db.QueryRow(ctx, "SELECT count(*) FROM ledger_entries WHERE id > $1", after).Scan(&uncovered); err != nil {
		return err
	}
	v.expect(uncovered == 0, "%d entries are in no block", uncovered)
	return nil
}

type block struct {
	number, after, upTo, entries int64
	sum                          []byte
}

func (o *moneyOracle) blocks(ctx context.Context) ([]block, error) {
	rows, err := o.db.Query(ctx, "SELECT number, after_id, up_to_id, entries, sha256 FROM ledger_blocks ORDER BY number")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (b block, err error) {
		err = row.Scan(&b.number, &b.after, &b.upTo, &b.entries, &b.sum)
		return b, err
	})
}

// hashEntries is the hash of the entries of a block, and how many they are.
func (o *moneyOracle) hashEntries(ctx context.Context, after, upTo int64) ([]byte, int64, error) {
	rows, err := o.db.Query(ctx, `SELECT id::text AS number, kind, txn_id::text, debit_account_id, credit_account_id, currency, amount_micros::text, allocation_id,
			period_start, period_end, prev_end, idempotency_key, reverses_id::text, created_at
		FROM ledger_entries WHERE id > $1 AND id <= $2 ORDER BY id`, after, upTo)
	if err != nil {
		return nil, 0, err
	}
	sum, n := sha256.New(), int64(0)
	line := new(bytes.Buffer)
	var id, kind, txn, debit, credit, currency, amount, key string
	var allocation, reverses *string
	var start, end, prevEnd, created *time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &kind, &txn, &debit, &credit, &currency, &amount, &allocation, &start, &end, &prevEnd, &key, &reverses, &created}, func() error {
		n++
		line.Reset()
		for _, value := range []*string{&id, &kind, &txn, &debit, &credit, &currency, &amount, allocation, millis(start), millis(end), millis(prevEnd), &key, reverses, millis(created)} {
			if value == nil {
				line.WriteByte(0)
				continue
			}
			column(line, *value)
		}
		_, err := sum.Write(line.Bytes())
		return err
	})
	return sum.Sum(nil), n, err
}

func column(out *bytes.Buffer, value string) {
	out.WriteByte(1)
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(value)))) //nolint:gosec // columns are short
	out.WriteString(value)
}

func millis(at *time.Time) *string {
	if at == nil {
		return nil
	}
	text := strconv.FormatInt(at.UnixMilli(), 10)
	return &text
}
