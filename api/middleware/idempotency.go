package middleware

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/fault"
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

type requestHashKey struct{}

// RequestHash is the SHA-256 over operation, path and body of a KeyOwn request.
func RequestHash(ctx context.Context) []byte {
	hash, _ := ctx.Value(requestHashKey{}).([]byte)
	return hash
}

// Serve runs an operation at most once for a key. The body has been read: its hash, with operation and path, tells a
// repeat from another request.
func (m *Memory) Serve(w http.ResponseWriter, r *http.Request, operation string, rule Idempotency, next http.Handler) {
	body, err := readBody(w, r)
	if err != nil {
		WriteFault(w, r, m.Log, err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	text := r.Header.Get(HeaderIdempotencyKey)
	switch {
	case text == "" && (rule == KeyRequired || rule == KeyOwn):
		WriteFault(w, r, m.Log, fault.New(fault.IdempotencyKeyRequired, ""))
		return
	case text != "" && !saneKey.MatchString(text):
		WriteFault(w, r, m.Log, fault.New(fault.IdempotencyKeyInvalid, ""))
		return
	case text == "" || rule == Unkeyed:
		next.ServeHTTP(w, r)
		return
	}
	hash := sha256.Sum256([]byte(operation + "\x00" + r.URL.EscapedPath() + "\x00" + string(body)))
	if rule == KeyOwn {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestHashKey{}, hash[:])))
		return
	}
	principal := Principal(r.Context())
	key := queries.IdempotencyKey{TenantID: principal.TenantID, PrincipalID: string(principal.UserID), Operation: operation, Key: text}
	mine, err := m.claim(w, r, key, hash[:])
	if err != nil {
		WriteFault(w, r, m.Log, err)
		return
	}
	if !mine {
		return
	}
	m.work(w, r, key, next)
}

// claim makes the key this request's, or answers what it should get instead.
func (m *Memory) claim(w http.ResponseWriter, r *http.Request, key queries.IdempotencyKey, hash []byte) (bool, error) {
	retention, err := m.Retention(r.Context())
	if err != nil {
		return false, unavailable(err)
	}
	now := time.Now()
	claimed, err := queries.ClaimIdempotency(r.Context(), m.Pool, key, hash, now.Add(workingTime), now.Add(retention))
	if err != nil || claimed {
		return claimed, unavailable(err)
	}
	record, err := queries.GetIdempotency(r.Context(), m.Pool, key)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, fault.New(fault.IdempotencyInFlight, "") // it ended between the two statements: ask again
	}
	if err != nil {
		return false, unavailable(err)
	}
	switch {
	case !bytes.Equal(record.RequestHash, hash):
		return false, fault.New(fault.IdempotencyConflict, "")
	case record.Status != nil:
		replay(w, record)
		return false, nil
	}
	// The request that held the key crashed: its lock has run out.
	taken, err := queries.TakeOverIdempotency(r.Context(), m.Pool, key, hash, now.Add(workingTime))
	if err == nil && !taken {
		err = fault.New(fault.IdempotencyInFlight, "")
		return false, err
	}
	return taken, unavailable(err)
}

func replay(w http.ResponseWriter, record queries.IdempotencyRecord) {
	for name, value := range record.Headers {
		w.Header().Set(name, value)
	}
	w.Header().Set(HeaderReplayed, "true")
	w.WriteHeader(*record.Status)
	_, _ = w.Write(record.Answer)
}

// work runs the operation and stores its answer before the client sees it. A fault of ours or of a dependency is not
// an answer: the key is given back, so that a retry works.
func (m *Memory) work(w http.ResponseWriter, r *http.Request, key queries.IdempotencyKey, next http.Handler) {
	recorded := &recorder{header: http.Header{}, status: http.StatusOK}
	finished := false
	after, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 5*time.Second)
	defer cancel()
	defer func() {
		if finished {
			return
		}
		if err := queries.AbandonIdempotency(after, m.Pool, key); err != nil {
			m.Log.WarnContext(r.Context(), "an idempotency key stays locked until its time is over", "error", err.Error())
		}
	}()
	next.ServeHTTP(recorded, r)
	if recorded.status < http.StatusInternalServerError && recorded.status != http.StatusTooManyRequests {
		kept := map[string]string{}
		for _, name := range []string{"Content-Type", "Location"} {
			if value := recorded.header.Get(name); value != "" {
				kept[name] = value
			}
		}
		stored, err := queries.FinishIdempotency(after, m.Pool, key, recorded.status, kept, recorded.body.Bytes())
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
