package middleware

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// Idempotency is how an operation treats X-Idempotency-Key.
type Idempotency int

const (
	// Unkeyed operations change nothing, or repeat harmlessly by nature.
	Unkeyed Idempotency = iota
	// Keyed operations remember the answer of a key that was given.
	Keyed
	// KeyRequired operations start money or work and are refused without a key.
	KeyRequired
	// KeyDerived operations answer with a secret that derives from the key, and are run again for it: what was asked is remembered, so that
	// another request is told from a repeat, and no answer.
	KeyDerived
	// KeyOwn operations need a key and keep their own record in the transaction of their work.
	KeyOwn
)

var saneKey = regexp.MustCompile(`^[\x21-\x7e]{1,255}$`)

// workingTime is how long a request holds its key before another may take its work over: longer than any
// request is allowed to last.
const workingTime = 2 * time.Minute

// Memory keeps the answers of keyed requests in Postgres.
type Memory struct {
	Pool *pgxpool.Pool
	// Retention says how long an answer is kept.
	Retention func(context.Context) (time.Duration, error)
	Log       *slog.Logger
}

type (
	requestHashKey struct{}
	requestKey     struct{}
)

// Request is what an operation knows its request by, so that a repeat does not do the work again.
type Request struct {
	// ID is the same for every repeat of a keyed request; a request without a key has one of its own.
	ID string
	// AskedAt is when it was first asked, in whole milliseconds; zero for a request without a key.
	AskedAt time.Time
	// TakenOver says that an earlier request with this key ended without an answer, perhaps after its work was done.
	TakenOver bool
}

// RequestOf is the request that a mutation serves.
func RequestOf(ctx context.Context) Request {
	request, _ := ctx.Value(requestKey{}).(Request)
	return request
}

// requestID names a use of a key: once its record is forgotten, the same key makes another request.
func requestID(key queries.IdempotencyKey, askedAt time.Time) string {
	use := strings.Join([]string{string(key.TenantID), key.PrincipalID, key.Operation, key.Key, strconv.FormatInt(askedAt.UnixMilli(), 10)}, "\x00")
	sum := sha256.Sum256([]byte(use))
	return hex.EncodeToString(sum[:])
}

// RequestHash is the SHA-256 over operation, path, query and body of a KeyOwn request.
func RequestHash(ctx context.Context) []byte {
	hash, _ := ctx.Value(requestHashKey{}).([]byte)
	return hash
}

// hashOf tells a repeat from another request: operation, path, query and body.
func hashOf(r *http.Request, operation string, body []byte) [sha256.Size]byte {
	address := r.URL.EscapedPath()
	if query := r.URL.Query().Encode(); query != "" {
		address += "?" + query
	}
	return sha256.Sum256([]byte(operation + "\x00" + address + "\x00" + canonical(body)))
}

// keyOf names the use that a principal makes of a key.
func keyOf(r *http.Request, operation string) queries.IdempotencyKey {
	principal := Principal(r.Context())
	return queries.IdempotencyKey{
		TenantID: principal.TenantID, PrincipalID: string(principal.UserID), Operation: operation, Key: r.Header.Get(HeaderIdempotencyKey),
	}
}

// Replay answers a request of somebody who is signed in, and may not make it any more, as it was answered when they might; false when it was
// not, or is another one. So a request that takes away its own object, or its caller's right to it, is answered the same however
// often it is repeated, and nobody learns more than they were told.
func (m *Memory) Replay(w http.ResponseWriter, r *http.Request, operation string, rule Idempotency) bool {
	if (rule != Keyed && rule != KeyRequired) || !saneKey.MatchString(r.Header.Get(HeaderIdempotencyKey)) {
		return false
	}
	body, err := readBody(w, r)
	if err != nil {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	hash := hashOf(r, operation, body)
	record, err := queries.GetIdempotency(r.Context(), m.Pool, keyOf(r, operation))
	if err != nil || record.Status == nil || !bytes.Equal(record.RequestHash, hash[:]) || !time.Now().Before(record.ExpiresAt) {
		return false
	}
	replay(w, r, record)
	return true
}

// Serve runs an operation at most once for a key. The body has been read: its hash, with operation, path and query, tells a
// repeat from another request.
func (m *Memory) Serve(w http.ResponseWriter, r *http.Request, operation string, rule Idempotency, next http.Handler) {
	body, err := readBody(w, r)
	if err != nil {
		WriteFault(w, r, m.Log, err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r = withReplayMark(w, r)
	text := r.Header.Get(HeaderIdempotencyKey)
	switch {
	case text == "" && (rule == KeyRequired || rule == KeyOwn):
		WriteFault(w, r, m.Log, fault.New(fault.IdempotencyKeyRequired, ""))
		return
	case text != "" && !saneKey.MatchString(text):
		WriteFault(w, r, m.Log, fault.New(fault.IdempotencyKeyInvalid, ""))
		return
	case text == "" || rule == Unkeyed:
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, Request{ID: rand.Text()})))
		return
	}
	hash := hashOf(r, operation, body)
	if rule == KeyOwn {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestHashKey{}, hash[:])))
		return
	}
	claim, err := m.claim(r.Context(), keyOf(r, operation), hash[:])
	claim.derived = rule == KeyDerived
	switch {
	case err != nil:
		WriteFault(w, r, m.Log, err)
	case claim.answer != nil && claim.derived:
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, Request{ID: rand.Text()})))
	case claim.answer != nil:
		replay(w, r, *claim.answer)
	default:
		m.work(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, claim.request)), claim, next)
	}
}

// canonical is a JSON body without what does not change its meaning: white space and the order of fields.
func canonical(body []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || decoder.More() {
		return string(body)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return string(body)
	}
	return string(text)
}

// claim is a key that this request holds until lockedUntil, or the answer that an earlier one got.
type claim struct {
	key         queries.IdempotencyKey
	request     Request
	lockedUntil time.Time
	answer      *queries.IdempotencyRecord
	// derived says that no answer may be kept: it holds a secret.
	derived bool
}

// keeps says whether the answer of what was done ends the use of the key.
func (c claim) keeps(status int, body []byte) bool {
	if c.derived {
		return status < http.StatusBadRequest
	}
	return worthKeeping(status, body)
}

// claim makes the key this request's, or says what it should get instead.
func (m *Memory) claim(ctx context.Context, key queries.IdempotencyKey, hash []byte) (claim, error) {
	retention, err := m.Retention(ctx)
	if err != nil {
		return claim{}, unavailable(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	mine := claim{key: key, lockedUntil: now.Add(workingTime), request: Request{ID: requestID(key, now), AskedAt: now}}
	claimed, err := queries.ClaimIdempotency(ctx, m.Pool, key, hash, now, mine.lockedUntil, now.Add(retention))
	if err != nil || claimed {
		return mine, unavailable(err)
	}
	record, err := queries.GetIdempotency(ctx, m.Pool, key)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return claim{}, fault.New(fault.IdempotencyInFlight, "") // it was given back between the two statements: ask again
	case err != nil:
		return claim{}, unavailable(err)
	case !bytes.Equal(record.RequestHash, hash):
		return claim{}, fault.New(fault.IdempotencyConflict, "")
	case record.Status != nil:
		return claim{answer: &record}, nil
	}
	// Either it is being worked on, or the request that held the key ended without an answer.
	taken, err := queries.TakeOverIdempotency(ctx, m.Pool, key, hash, mine.lockedUntil)
	if err == nil && !taken {
		return claim{}, fault.New(fault.IdempotencyInFlight, "")
	}
	mine.request = Request{ID: requestID(key, record.AskedAt), AskedAt: record.AskedAt.UTC(), TakenOver: true}
	return mine, unavailable(err)
}

// replay gives the stored answer. A refusal carries the correlation id of the request in hand, as every error does.
func replay(w http.ResponseWriter, r *http.Request, record queries.IdempotencyRecord) {
	for name, value := range record.Headers {
		w.Header().Set(name, value)
	}
	w.Header().Set(HeaderReplayed, "true")
	w.WriteHeader(*record.Status)
	var refusal Envelope
	if *record.Status >= http.StatusBadRequest && json.Unmarshal(record.Answer, &refusal) == nil {
		refusal.CorrelationID = telemetry.Correlation(r.Context())
		_ = json.NewEncoder(w).Encode(refusal)
		return
	}
	_, _ = w.Write(record.Answer)
}

// worthKeeping says whether an answer is one to be replayed: success, and the refusals that depend on how the world was.
// What was wrong with the request itself is wrong again without a record, and writes nothing.
func worthKeeping(status int, body []byte) bool {
	if status < http.StatusBadRequest {
		return true
	}
	if status != http.StatusConflict && status != http.StatusPaymentRequired {
		return false
	}
	var refusal Envelope
	return json.Unmarshal(body, &refusal) == nil && !refusal.Code.Retryable()
}

// afterTime bounds what is written about a key after its work, when the request itself may be over.
const afterTime = 5 * time.Second

// work runs the operation and stores its answer before the client sees it. A fault of ours or of a dependency is not an
// answer, and it does not say how far the work came: the key is left for a repeat to take over. A refusal that is not
// kept did nothing, so the key is given back.
func (m *Memory) work(w http.ResponseWriter, r *http.Request, held claim, next http.Handler) {
	recorded := &recorder{header: http.Header{}, status: http.StatusOK}
	status, finished := http.StatusInternalServerError, false // what a panic becomes
	defer func() {
		if !finished {
			m.letGo(r.Context(), held, status)
		}
	}()
	next.ServeHTTP(recorded, r)
	status = recorded.status
	if held.keeps(recorded.status, recorded.body.Bytes()) {
		after, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), afterTime)
		defer cancel()
		kept, answer := map[string]string{}, recorded.body.Bytes()
		for _, name := range []string{"Content-Type", "Location"} {
			if value := recorded.header.Get(name); value != "" {
				kept[name] = value
			}
		}
		if held.derived {
			answer = nil
		}
		stored, err := queries.FinishIdempotency(after, m.Pool, held.key, recorded.status, kept, answer)
		if err != nil || !stored {
			// The work is done and its answer not kept: the lock keeps a repeat out until it is over.
			m.Log.ErrorContext(r.Context(), "the answer of an idempotency key could not be kept", "error", err)
		}
		finished = true
	}
	for name, values := range recorded.header {
		w.Header()[name] = values
	}
	w.WriteHeader(recorded.status)
	_, _ = w.Write(recorded.body.Bytes())
}

// letGo ends a request's hold on its key without an answer.
func (m *Memory) letGo(ctx context.Context, held claim, status int) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterTime)
	defer cancel()
	end := queries.AbandonIdempotency
	if status >= http.StatusInternalServerError || held.request.TakenOver {
		end = queries.LeaveIdempotency
	}
	if err := end(after, m.Pool, held.key, held.lockedUntil); err != nil {
		m.Log.WarnContext(ctx, "an idempotency key stays locked until its time is over", "error", err.Error())
	}
}

// recorder holds an answer back until it is stored.
type recorder struct {
	header  http.Header
	status  int
	written bool
	body    bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if !r.written {
		r.status, r.written = status, true
	}
}

func (r *recorder) Write(body []byte) (int, error) {
	r.written = true
	return r.body.Write(body)
}

type replayMarkKey struct{}

// MarkReplayed says that the answer in the making is one that an earlier request with the same key got: of an operation
// that keeps its own record.
func MarkReplayed(ctx context.Context) {
	if header, open := ctx.Value(replayMarkKey{}).(http.Header); open {
		header.Set(HeaderReplayed, "true")
	}
}

// withReplayMark lets an operation mark its answer, also one that is a refusal.
func withReplayMark(w http.ResponseWriter, r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), replayMarkKey{}, w.Header()))
}
