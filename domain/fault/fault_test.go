package fault_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/gpuaas/gpuaas/domain/fault"
)

func TestEveryCodeHasACompleteEntry(t *testing.T) {
	if len(fault.Codes()) < 30 {
		t.Fatalf("the catalogue holds %d codes, fewer than the specification names", len(fault.Codes()))
	}
	for _, code := range fault.Codes() {
		entry, known := fault.Lookup(code)
		if !known || entry.Code != code {
			t.Errorf("%s: the catalogue answers %q", code, entry.Code)
		}
		if http.StatusText(entry.HTTPStatus) == "" || entry.HTTPStatus < 400 || entry.Sentence == "" || entry.Group == "" {
			t.Errorf("%s: incomplete entry %+v", code, entry)
		}
	}
}

func TestErrorKeepsCodeSentenceDetailsAndCause(t *testing.T) {
	cause := errors.New("connection refused")
	original := fault.Wrap(cause, fault.ServiceUnavailable, "The ledger cannot be reached.").With(map[string]any{"dependency": "postgres"})
	err := fmt.Errorf("reading the balance: %w", original.With(map[string]any{"attempt": 2}))

	if !errors.Is(err, fault.ServiceUnavailable) || errors.Is(err, fault.InternalError) {
		t.Errorf("errors.Is must match exactly the code: %v", err)
	}
	if !errors.Is(err, fault.New(fault.ServiceUnavailable, "")) {
		t.Error("errors.Is must match another fault of the same code")
	}
	if !errors.Is(err, cause) {
		t.Error("the cause must stay in the chain")
	}
	found := fault.From(err)
	if found.Message != "The ledger cannot be reached." || found.Details["dependency"] != "postgres" || found.Details["attempt"] != 2 {
		t.Errorf("From lost something: %+v", found)
	}
	if len(original.Details) != 1 {
		t.Error("With must not change the fault it was called on")
	}
	if want := "The ledger cannot be reached.: connection refused"; found.Error() != want {
		t.Errorf("Error() = %q, want %q", found.Error(), want)
	}
}

func TestCodeOf(t *testing.T) {
	for name, test := range map[string]struct {
		err       error
		want      fault.Code
		retryable bool
	}{
		"nothing":        {nil, "", false},
		"unclassified":   {errors.New("boom"), fault.InternalError, false},
		"a fault":        {fault.New(fault.SKUNotFound, ""), fault.SKUNotFound, false},
		"a wrapped code": {fmt.Errorf("node seven: %w", fault.NodeUnresponsive), fault.NodeUnresponsive, true},
		"formatted":      {fault.Newf(fault.NodeOffline, "node %s is offline: %w", "seven", errors.New("silent")), fault.NodeOffline, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fault.CodeOf(test.err); got != test.want {
				t.Errorf("CodeOf = %q, want %q", got, test.want)
			}
			if got := fault.Retryable(test.err); got != test.retryable {
				t.Errorf("Retryable = %t, want %t", got, test.retryable)
			}
		})
	}
}

func TestUnclassifiedErrorsShowNothingOfThemselves(t *testing.T) {
	shown := fault.From(errors.New("password=hunter2"))
	if shown.Message != fault.InternalError.Error() {
		t.Errorf("an unclassified error is shown as %q", shown.Message)
	}
}

func TestUnknownCodeCountsAsInternal(t *testing.T) {
	if status := fault.Code("made_up").HTTPStatus(); status != http.StatusInternalServerError {
		t.Errorf("a code outside the catalogue has the status %d", status)
	}
}
