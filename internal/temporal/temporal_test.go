package temporal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/secret"
)

func TestServersOlderThanUpdateWithStartAreRefused(t *testing.T) {
	for version, want := range map[string]error{
		"1.25.2": ErrServerTooOld, "1.9.0": ErrServerTooOld, "0.40.0": ErrServerTooOld, "v1.25.0-rc1": ErrServerTooOld,
		"1.26.0": nil, "1.32.1": nil, "2.0.0": nil, "": nil,
	} {
		if err := checkVersion(version); !errors.Is(err, want) {
			t.Errorf("%q answers %v", version, err)
		}
	}
	if err := checkVersion("latest"); err == nil {
		t.Error("what is no version was accepted")
	}
}

func TestEveryFaultCrossesTemporalAndComesBack(t *testing.T) {
	for _, code := range fault.Codes() {
		sent := fault.New(code, "A sentence.").With(map[string]any{"node": "n1"})
		crossed := ToApplicationError(fmt.Errorf("on the way: %w", sent))
		var application *temporal.ApplicationError
		if !errors.As(crossed, &application) || application.Type() != string(code) {
			t.Fatalf("%s crosses as %v", code, crossed)
		}
		if retried := !application.NonRetryable(); retried != (code.Entry().Group == fault.GroupServer) {
			t.Errorf("%s is retried by the server: %v", code, retried)
		}
		back := FromError(crossed)
		if back.Code != code || back.Message != "A sentence." || back.Details["node"] != "n1" {
			t.Errorf("%s comes back as %+v", code, back)
		}
	}
}

func TestNoSecretStandsInAHistory(t *testing.T) {
	planted := errors.New("dial postgres://gpuaas:hunter2@db/x: refused")
	for name, err := range map[string]error{
		"a fault and its cause": ToApplicationError(fault.Wrap(planted, fault.ServiceUnavailable, "token=hunter2").With(map[string]any{"password": "hunter2", "node": "n1"})),
		"any other error":       fmt.Errorf("on the way: %w", planted),
		"a panic":               temporal.NewApplicationErrorWithCause("panic: Bearer hunter2345", "PanicError", planted),
	} {
		failure := newFailures().ErrorToFailure(err)
		text := failure.String()
		for _, details := range failure.GetApplicationFailureInfo().GetDetails().GetPayloads() {
			text += string(details.GetData())
		}
		if strings.Contains(text, "hunter2") || !strings.Contains(text, secret.Redacted) || !strings.Contains(text, "refused") {
			t.Errorf("%s stands in the history as %s", name, text)
		}
		if back := newFailures().FailureToError(failure); back == nil {
			t.Errorf("%s does not come back", name)
		}
	}
}

func TestOtherErrorsAreClassified(t *testing.T) {
	plain := errors.New("a pipe broke")
	if !errors.Is(ToApplicationError(plain), plain) || ToApplicationError(nil) != nil {
		t.Error("an error without a fault was changed")
	}
	for name, test := range map[string]struct {
		err  error
		want fault.Code
	}{
		"nothing":            {nil, ""},
		"unknown type":       {temporal.NewApplicationError("x", "PanicError"), fault.InternalError},
		"cluster away":       {serviceerror.NewUnavailable("no"), fault.ServiceUnavailable},
		"cluster busy":       {&serviceerror.ResourceExhausted{}, fault.ServiceUnavailable},
		"caller out of time": {context.DeadlineExceeded, fault.ServiceUnavailable},
		"our mistake":        {serviceerror.NewInvalidArgument("no"), fault.InternalError},
		"cluster broken":     {serviceerror.NewInternal("no"), fault.UpstreamError},
		"a fault of ours":    {fault.New(fault.SKUNotFound, ""), fault.SKUNotFound},
		"anything else":      {plain, fault.InternalError},
	} {
		if got := FromError(test.err); (got == nil) != (test.want == "") || (got != nil && got.Code != test.want) {
			t.Errorf("%s is %v, not %q", name, got, test.want)
		}
	}
}
