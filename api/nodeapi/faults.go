package nodeapi

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

var plausibleCorrelation = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// correlation is the caller's correlation id where it is a plausible one, else a new one.
func correlation(r *http.Request) string {
	given := r.Header.Get("X-Correlation-Id")
	if !plausibleCorrelation.MatchString(given) {
		return rand.Text()
	}
	return given
}

// envelope is the error body of every layer of the platform.
type envelope struct {
	Code          fault.Code     `json:"code"`
	Message       string         `json:"message"`
	CorrelationID string         `json:"correlation_id"`
	Details       map[string]any `json:"details"`
}

func asFault(err error) *fault.Error {
	var known *fault.Error
	if errors.As(err, &known) {
		return known
	}
	return fault.Wrap(err, fault.InternalError, "")
}

// refuse answers a fault in the language of the request: Temporal's wire or JSON.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	told := asFault(err)
	if told.Code.HTTPStatus() >= http.StatusInternalServerError {
		s.config.Log.ErrorContext(r.Context(), "a request to the node gateway went wrong", "path", r.URL.Path, "code", told.Code, "error", errors.Join(err, errors.Unwrap(told)))
	}
	if isGRPC(r) {
		answer := status.Convert(grpcError(told))
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(answer.Code())))
		w.Header().Set("Grpc-Message", url.PathEscape(answer.Message()))
		w.WriteHeader(http.StatusOK)
		return
	}
	details := told.Details
	if details == nil {
		details = map[string]any{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(told.Code.HTTPStatus())
	_ = json.NewEncoder(w).Encode(envelope{Code: told.Code, Message: told.Message, CorrelationID: telemetry.Correlation(r.Context()), Details: details}) // a caller that left hears nothing
}

// grpcError is a fault on Temporal's wire, by what the SDK makes of the code: it stops a worker on none of these.
func grpcError(err error) error {
	told := asFault(err)
	code := codes.Unavailable
	switch told.Code {
	case fault.NodeDenied, fault.NodeNotFound:
		code = codes.PermissionDenied
	case fault.NodeCertificateInvalid:
		code = codes.Unauthenticated
	case fault.RateLimitExceeded:
		code = codes.ResourceExhausted
	}
	return status.Error(code, told.Message)
}

// decode reads one JSON object of at most maxBodyBytes; unknown fields and anything after it are refused.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	if media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(media) != "application/json" {
		return fault.New(fault.UnsupportedMediaType, "")
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return fault.New(fault.InvalidRequest, "The body is one JSON object.")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fault.New(fault.RequestTooLarge, "")
	}
	var unfit *json.UnmarshalTypeError
	if errors.As(err, &unfit) || strings.Contains(err.Error(), "unknown field") {
		return fault.Wrap(err, fault.ValidationError, "").With(map[string]any{"errors": []map[string]string{{"location": "body", "message": err.Error()}}})
	}
	return fault.Wrap(err, fault.InvalidRequest, "")
}

// encode answers 200 with JSON.
func encode(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // a caller that left hears nothing
}
