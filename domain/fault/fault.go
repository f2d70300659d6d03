// Package fault is the one error type of the platform: a code of the authored catalogue
// (schema/errors.yaml), a sentence for a person, details for a machine, and the cause for the log. Every
// layer returns it and the API renders it, so that no error changes its meaning on its way out. A leaf:
// standard library only.
package fault

import (
	"errors"
	"fmt"
	"maps"
)

// Code names one kind of fault; the constants are generated from the catalogue. A Code is itself an error,
// so that errors.Is(err, fault.AllocationNotFound) reads as what it asks.
type Code string

// Group gathers the codes of one subject, as schema/errors.yaml lists them.
type Group string

// Entry is what the catalogue says about one code.
type Entry struct {
	Code Code
	// HTTPStatus is what the API answers with.
	HTTPStatus int
	// Retryable says whether the same request, with the same idempotency key, may succeed later.
	Retryable bool
	// Sentence is what a person reads when nothing more exact is known.
	Sentence string
	Group    Group
}

// Lookup is the catalogue's entry of a code; false for a code that the catalogue does not hold.
func Lookup(code Code) (Entry, bool) {
	entry, known := catalogue[code]
	return entry, known
}

// Codes lists every code in the catalogue's order.
func Codes() []Code { return append([]Code(nil), codes...) }

// Entry is what the catalogue says about c. A code that is not in the catalogue cannot leave the
// platform: it counts as InternalError.
func (c Code) Entry() Entry {
	if entry, known := catalogue[c]; known {
		return entry
	}
	return catalogue[InternalError]
}

// Error is the catalogue's sentence.
func (c Code) Error() string { return c.Entry().Sentence }

// HTTPStatus is what the API answers with for c.
func (c Code) HTTPStatus() int { return c.Entry().HTTPStatus }

// Retryable says whether the same request may succeed later.
func (c Code) Retryable() bool { return c.Entry().Retryable }

// Error is a fault: what happened, for machines and for people. Message and Details may be shown to
// whoever asked; the cause is for the log alone.
type Error struct {
	Code    Code
	Message string
	Details map[string]any
	cause   error
}

// New makes a fault with a sentence of its own; an empty sentence means the catalogue's.
func New(code Code, sentence string) *Error {
	if sentence == "" {
		sentence = code.Error()
	}
	return &Error{Code: code, Message: sentence}
}

// Newf is New with a formatted sentence. A %w among the verbs becomes the cause and is part of the sentence.
func Newf(code Code, format string, arguments ...any) *Error {
	formatted := fmt.Errorf(format, arguments...)
	return &Error{Code: code, Message: formatted.Error(), cause: errors.Unwrap(formatted)}
}

// Wrap makes a fault of err: the sentence is shown, err itself is only logged. An empty sentence means the
// catalogue's. Wrap of nil is nil's fault all the same: check err first.
func Wrap(err error, code Code, sentence string) *Error {
	fault := New(code, sentence)
	fault.cause = err
	return fault
}

// With returns a copy of e with these details added; a later value of the same name wins.
func (e *Error) With(details map[string]any) *Error {
	changed := *e
	changed.Details = make(map[string]any, len(e.Details)+len(details))
	maps.Copy(changed.Details, e.Details)
	maps.Copy(changed.Details, details)
	return &changed
}

// Error is the sentence and, for the log, the cause behind it.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.cause.Error()
}

// Unwrap is the cause, nil when there is none.
func (e *Error) Unwrap() error { return e.cause }

// Is matches a Code, or another fault with the same code.
func (e *Error) Is(target error) bool {
	switch wanted := target.(type) {
	case Code:
		return e.Code == wanted
	case *Error:
		return wanted != nil && e.Code == wanted.Code
	default:
		return false
	}
}

// From finds the fault in err's chain. An error that carries none becomes an InternalError whose cause it
// is, so that nothing unclassified is shown to anybody. From of nil is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var found *Error
	if errors.As(err, &found) {
		return found
	}
	var code Code
	if errors.As(err, &code) {
		return Wrap(err, code, "")
	}
	return Wrap(err, InternalError, "")
}

// CodeOf is the code of err: "" for nil, InternalError for an error that carries none.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return From(err).Code
}

// Retryable says whether what ended in err may succeed when it is simply done again.
func Retryable(err error) bool { return err != nil && CodeOf(err).Retryable() }
