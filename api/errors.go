package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/workflows"
)

// Fault is the body of every error, as Huma knows it.
type Fault struct {
	Code          string   `json:"code" doc:"One of the codes of schema/errors.yaml."`
	Message       string   `json:"message" doc:"A sentence for a person."`
	CorrelationID string   `json:"correlation_id" doc:"Finds the request in the logs."`
	Details       freeForm `json:"details" doc:"What machines need to know."`
	status        int
}

// Error is the sentence.
func (f *Fault) Error() string { return f.Message }

// GetStatus is the HTTP status of the code.
func (f *Fault) GetStatus() int { return f.status }

// GetHeaders are the headers that belong to the status: a 401 says how to authenticate, whoever answers it.
func (f *Fault) GetHeaders() http.Header {
	if f.status != http.StatusUnauthorized {
		return nil
	}
	header := http.Header{}
	header.Set(middleware.HeaderChallenge, middleware.Challenge)
	return header
}

func render(ctx context.Context, found *fault.Error) *Fault {
	envelope := middleware.NewEnvelope(found, telemetry.Correlation(ctx))
	return &Fault{Code: string(envelope.Code), Message: envelope.Message, CorrelationID: envelope.CorrelationID, Details: envelope.Details, status: found.Code.HTTPStatus()}
}

// refuse turns what a handler ended with into the envelope, and logs the cause of every 5xx.
func (s *server) refuse(ctx context.Context, operation string, err error) error {
	found := classify(err)
	if found.Code.HTTPStatus() >= http.StatusInternalServerError {
		s.config.Log.ErrorContext(ctx, "a request went wrong", "operation", operation, "code", string(found.Code), "error", found.Error())
		telemetry.RecordError(ctx, found)
	}
	return render(ctx, found)
}

// classify finds the fault in err. What carries none is a dependency's fault when the database or the network says
// so, and ours otherwise.
func classify(err error) *fault.Error {
	var (
		known   *fault.Error
		code    fault.Code
		connect *pgconn.ConnectError
		network net.Error
		failure *pgconn.PgError
	)
	switch {
	case errors.As(err, &known), errors.As(err, &code):
		return fault.From(err)
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), pgconn.Timeout(err):
		return fault.Wrap(err, fault.ServiceUnavailable, "")
	case errors.As(err, &failure):
		switch failure.Code[:2] {
		case "08", "53", "57": // connections, resources, shutdown and cancellation
			return fault.Wrap(err, fault.ServiceUnavailable, "")
		}
	}
	return fault.From(err)
}

// fromHuma turns Huma's own refusals, mostly of what a request looks like, into the envelope.
func fromHuma(ctx context.Context, status int, message string, errs []error) *Fault {
	code := fault.InternalError
	switch status {
	case http.StatusUnprocessableEntity:
		code = fault.ValidationError
	case http.StatusRequestEntityTooLarge:
		code = fault.RequestTooLarge
	case http.StatusUnsupportedMediaType:
		code = fault.UnsupportedMediaType
	case http.StatusRequestTimeout:
		code = fault.RequestTimeout
	case http.StatusBadRequest, http.StatusNotAcceptable:
		code = fault.InvalidRequest
	}
	if code == fault.InternalError {
		return render(ctx, fault.New(code, ""))
	}
	found := fault.New(code, "")
	var listed []map[string]any
	for _, one := range errs {
		var detail *huma.ErrorDetail
		if errors.As(one, &detail) {
			listed = append(listed, map[string]any{"location": detail.Location, "message": detail.Message})
		} else if one != nil {
			listed = append(listed, map[string]any{"location": "request", "message": one.Error()})
		}
	}
	if len(listed) == 0 && message != "" {
		listed = append(listed, map[string]any{"location": "request", "message": message})
	}
	return render(ctx, found.With(map[string]any{"errors": listed}))
}

// invalid is the refusal of one field that only we can judge.
func invalid(location, message string) error {
	return fault.New(fault.ValidationError, "").With(map[string]any{"errors": []map[string]any{{"location": location, "message": message}}})
}

// fromStep is a fault that crossed Temporal inside an answer.
func fromStep(crossed *workflows.Fault) error {
	found := fault.New(fault.Code(crossed.Code), crossed.Message)
	var details map[string]any
	if len(crossed.Details) > 0 && json.Unmarshal(crossed.Details, &details) == nil && len(details) > 0 {
		return found.With(details)
	}
	return found
}
