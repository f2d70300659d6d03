package hashchain

import (
	"reflect"
	"testing"
	"time"
)

func entry() Entry {
	allocation, reverses := "alloc_a", int64(3)
	start := time.UnixMilli(1_700_000_000_000)
	end, before := start.Add(time.Minute), start
	return Entry{
		ID: 7, Kind: "usage", TxnID: "t", DebitAccountID: "acct_a", CreditAccountID: "acct_b", Currency: "usd", AmountMicros: 42,
		AllocationID: &allocation, PeriodStart: &start, PeriodEnd: &end, PrevEnd: &before, IdempotencyKey: "k", ReversesID: &reverses, CreatedAt: end,
	}
}

func hashOf(entries []Entry, block Block) Hash {
	h := NewHasher()
	for _, e := range entries {
		h.Add(e)
	}
	return h.Sum(block)
}

// Every column counts, and whether it is there at all: a field that is added and not hashed fails here.
func TestEveryColumnChangesTheHash(t *testing.T) {
	block := Block{Number: 2, AfterID: 6, UpToID: 7, Entries: 1, Previous: Hash{1}}
	plain := hashOf([]Entry{entry()}, block)
	for i := range reflect.TypeFor[Entry]().NumField() {
		name := reflect.TypeFor[Entry]().Field(i).Name
		for what, change := range map[string]func(reflect.Value){"changed": alter, "removed": func(v reflect.Value) { v.SetZero() }} {
			changed := entry()
			change(reflect.ValueOf(&changed).Elem().Field(i))
			if hashOf([]Entry{changed}, block) == plain {
				t.Errorf("%s %s: the hash is the same", name, what)
			}
		}
	}
	for i := range reflect.TypeFor[Block]().NumField() {
		changed := block
		alter(reflect.ValueOf(&changed).Elem().Field(i))
		if hashOf([]Entry{entry()}, changed) == plain {
			t.Errorf("%s of the block: the hash is the same", reflect.TypeFor[Block]().Field(i).Name)
		}
	}
}

func alter(v reflect.Value) {
	switch value := v.Interface().(type) {
	case int64:
		v.SetInt(value + 1)
	case string:
		v.SetString(value + "x")
	case Hash:
		value[31]++
		v.Set(reflect.ValueOf(value))
	case time.Time:
		v.Set(reflect.ValueOf(value.Add(time.Millisecond)))
	case *string:
		other := *value + "x"
		v.Set(reflect.ValueOf(&other))
	case *int64:
		other := *value + 1
		v.Set(reflect.ValueOf(&other))
	case *time.Time:
		other := value.Add(time.Millisecond)
		v.Set(reflect.ValueOf(&other))
	default:
		panic(v.Type().String())
	}
}

// What moves from one column, or from one entry, to the next is another chain.
func TestBordersAreHashed(t *testing.T) {
	block := Block{Number: 1, UpToID: 8, Entries: 2}
	left, right := entry(), entry()
	left.Kind, left.TxnID = "ab", "c"
	right.Kind, right.TxnID = "a", "bc"
	if hashOf([]Entry{left}, block) == hashOf([]Entry{right}, block) {
		t.Error("the border of two columns does not count")
	}
	if hashOf([]Entry{left, right}, block) == hashOf([]Entry{right, left}, block) {
		t.Error("the order of entries does not count")
	}
}

// The encoding is a promise: these are the hashes that version 1 makes for ever.
func TestTheEncodingStands(t *testing.T) {
	if Encoding != 1 {
		t.Fatal("a new encoding needs a vector of its own")
	}
	bare := entry()
	bare.AllocationID, bare.PeriodStart, bare.PeriodEnd, bare.PrevEnd, bare.ReversesID = nil, nil, nil, nil, nil
	got := hashOf([]Entry{entry(), bare}, Block{Number: 1, UpToID: 8, Entries: 2}).String()
	if want := "2540e265bd4f9a74a4d50499dee1c5881ff750869fe173eba689edffe1b2ab51"; got != want {
		t.Errorf("the hash is %s, not %s", got, want)
	}
}
