package middleware

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// MaxBodyBytes bounds a request's body; the largest honest one holds a few SSH keys.
const MaxBodyBytes = 256 << 10

// saneCorrelationID is what is accepted from outside: nothing that could forge a line of a log.
var saneCorrelationID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Correlate gives every request an id, the caller's own where it is sane, and answers with it.
func Correlate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		correlationID := r.Header.Get(HeaderCorrelationID)
		if !saneCorrelationID.MatchString(correlationID) {
			correlationID = rand.Text()
		}
		w.Header().Set(HeaderCorrelationID, correlationID)
		next.ServeHTTP(w, r.WithContext(telemetry.WithCorrelation(r.Context(), correlationID)))
	})
}

// statusWriter remembers what was answered, for the access log and for recovery.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(body []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(body)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Log writes a line for every request and turns a panic into internal_error. The query is left out: it may hold
// what somebody should not have put there.
func Log(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		watched := &statusWriter{ResponseWriter: w}
		defer func() {
			if recovered := recover(); recovered != nil {
				if err, ok := recovered.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(recovered)
				}
				log.ErrorContext(r.Context(), "a request panicked", "path", r.URL.Path, "panic", describe(recovered), "stack", string(debug.Stack()))
				if watched.status == 0 {
					WriteFault(watched, r, log, fault.New(fault.InternalError, ""))
				}
			}
			log.InfoContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "status", watched.status, "duration_ms", time.Since(began).Milliseconds())
		}()
		next.ServeHTTP(watched, r)
	})
}

// describe is what a panic ended with, field by field where it is no text, so that a secret in it is known by its name.
func describe(recovered any) string {
	switch clean := secret.Sanitize("panic", recovered).(type) {
	case string:
		return clean
	default:
		return fmt.Sprintf("%T %v", recovered, clean)
	}
}

// BufferBody reads a request's body whole, within MaxBodyBytes, and puts it back, so that who decides about the request and its
// operation can both read it.
func BufferBody(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err
}

// Body reads a request's body whole, refuses one that is too large, and puts it back for whoever reads it next.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fault.Newf(fault.RequestTooLarge, "The body is larger than %d bytes.", MaxBodyBytes)
	case err != nil:
		return nil, fault.Wrap(err, fault.InvalidRequest, "The body could not be read to its end.")
	}
	return body, nil
}

// Unmatched answers what the router has no operation for: 404 or 405, in the envelope.
func Unmatched(log *slog.Logger, router http.Handler, w http.ResponseWriter, r *http.Request) {
	probe := httptest.NewRecorder()
	router.ServeHTTP(probe, r)
	if probe.Code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", probe.Header().Get("Allow"))
		WriteFault(w, r, log, fault.New(fault.MethodNotAllowed, ""))
		return
	}
	WriteFault(w, r, log, fault.New(fault.NotFound, ""))
}
